"""Triton's configuration fits the exported file, container files name what there is, Ray Serve gets the application."""

import json
import re
import runpy
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "serve"
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32", "tensor(bool)": "TYPE_BOOL"}


def test_tritons_configuration_is_the_files() -> None:
    """Its form is that of Triton's own ModelConfig; its content is what ONNX Runtime says of the file."""
    import onnxruntime

    config_of = pytest.importorskip("tritonclient.grpc.model_config_pb2", exc_type=ImportError)
    text_format = pytest.importorskip("google.protobuf.text_format")
    path = EXAMPLES / "triton" / "calipose" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), config_of.ModelConfig())
    assert config.name == path.parent.name
    session = onnxruntime.InferenceSession(str(ROOT / "src/calipose/weights/onepass.onnx"))
    kind = config_of.DataType.Name
    for told, there in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        got = [(entry.name, kind(entry.data_type), list(entry.dims)) for entry in told]
        want = [
            (value.name, TYPES[value.type], [side if isinstance(side, int) else -1 for side in value.shape[1:]])
            for value in there
        ]
        assert got == want
        assert all(isinstance(value.shape[0], str) for value in there)  # a batch of any size


def test_ray_serve_gets_the_same_application(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    given: dict[str, Any] = {}

    def ingress(build: Any) -> Any:
        given["build"] = build
        return lambda: SimpleNamespace

    def deployment(**options: Any) -> Any:
        given.update(options)
        return lambda _: SimpleNamespace(bind=lambda: "bound")

    fake = SimpleNamespace(serve=SimpleNamespace(ingress=ingress, deployment=deployment))
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    names = runpy.run_path(str(EXAMPLES / "ray_serve.py"))
    assert names["app"] == "bound"
    assert given["num_replicas"] == 2
    paths = {route.path for route in given["build"]().routes}
    assert {"/predict", "/health", "/ready", "/metrics", "/"} <= paths


def test_the_container_files_name_what_there_is() -> None:
    yaml = pytest.importorskip("yaml")
    pytest.importorskip("fastapi")
    (service,) = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"].values()
    root = (EXAMPLES / service["build"]["context"]).resolve()
    assert root == ROOT
    docker = (root / service["build"]["dockerfile"]).read_text()
    for source in re.findall(r"^COPY ((?:[^-\s]\S* )+)", docker, re.MULTILINE):
        assert all((root / name).exists() for name in source.split())
    options = re.findall(r'"(--[a-z-]+)"', docker) + [word for word in service["command"] if word.startswith("--")]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (installed,) = re.findall(r'pip install .*"/build\[(.*)\]"', docker)
    assert set(installed.split(",")) <= set(extras)
    package = json.loads((root / "examples/browser/package.json").read_text())
    assert "onnxruntime-web" in package["dependencies"]  # npm ci --omit=dev brings it
    from calipose.serve.static import RUNTIME

    assert set(re.findall(r"/onnxruntime-web/dist/(\S+)", docker)) == set(RUNTIME)
    import typer.main

    from calipose.cli import app

    known = {name for given in typer.main.get_command(app).commands["serve"].params for name in given.opts}  # type: ignore[attr-defined]
    assert set(options) <= known
    assert len(options) >= 3
