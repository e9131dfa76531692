"""The service as a Ray Serve deployment: the same application as `calipose serve`, on as many machines as Ray has.

    pip install 'ray[serve]' '.[serve]'
    serve run examples.serve.ray_serve:app

Each replica has its own model, queue and limits.
"""

from fastapi import FastAPI
from ray import serve

from calipose import Predictor
from calipose.serve.app import create_app
from calipose.serve.settings import ServeSettings


def build() -> FastAPI:
    """The application, made in each replica."""
    return create_app(Predictor("onepass", threads=1), ServeSettings(queue=16))


app = serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=32)(
    serve.ingress(build)()
).bind()
