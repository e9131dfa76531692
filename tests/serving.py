"""The service in a thread, for tests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from calipose.inference.predictor import Predictor
from calipose.serve.app import create_app
from calipose.serve.run import PatientProtocol
from calipose.serve.settings import ServeSettings


@contextmanager
def serving(predictor: Predictor, **limits: Any) -> Iterator[str]:
    """The service in a thread; gives its address."""
    config = uvicorn.Config(
        create_app(predictor, ServeSettings(**limits)), port=0, http=PatientProtocol, ws="none", log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    try:
        yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(30)
