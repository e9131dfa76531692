"""examples/browser/serve.mjs: its headers, what it serves, and what it says of the file beside the model."""

import json
import shutil
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "browser"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here")


def test_the_small_server_allows_threads_and_serves_its_folder_only() -> None:
    server = subprocess.Popen([str(NODE), str(FOLDER / "serve.mjs"), "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = server.stdout.readline().strip()
        with urlopen(url) as answer:
            assert b"<title>Calipose" in answer.read()
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        for path in ("/nothing", "/..%2f..%2fpyproject.toml", "/node_modules", "/%00"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(url + path)
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("beside", [True, False])
def test_the_small_server_says_what_lies_beside_the_model(tmp_path: Path, beside: bool) -> None:
    shutil.copy(FOLDER / "serve.mjs", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"model")
    if beside:
        (tmp_path / "model.calipose.json").write_text("{}")
    server = subprocess.Popen([str(NODE), str(tmp_path / "serve.mjs"), "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = server.stdout.readline().strip()
        with urlopen(f"{url}/model.onnx") as answer:
            assert answer.headers["Link"] == ('</model.calipose.json>; rel="describedby"' if beside else None)
        if beside:
            with urlopen(f"{url}/model.calipose.json") as answer:
                assert json.load(answer) == {}
    finally:
        server.terminate()
        server.wait()
