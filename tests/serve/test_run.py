"""The service as a program: curl and node from the docs, workers, a slow header, a graceful stop."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from calipose.cli.serve import shown_name
from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.draw import save_image
from calipose.inference.predictor import Predictor
from calipose.serve import run
from free_port import free_port
from serving import serving

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
PATIENCE = 120.0


@contextmanager
def running(folder: Path, *options: object) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`calipose serve` on a free port; gives its address when it is ready, and ends it."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "calipose",
        "serve",
        "--model",
        "onepass",
        "--threads",
        "1",
        "--port",
        port,
        *options,
    ]
    log = (folder / "log").open("wb")
    process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, cwd=folder)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(60)
        log.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images that the docs name."""
    folder = tmp_path_factory.mktemp("serve")
    for seed, name in enumerate(("photo.jpg", "team.jpg")):
        save_image(folder / name, synthesize_scene(np.random.default_rng(seed), (320, 240), EASY).image)
    return folder


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[str]:
    with running(place) as (address, _):
        yield address


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here: apt install curl")
def test_the_docs_curl(service: str, place: Path) -> None:
    commands = re.findall(r"^    (curl .*)$", DOCS, re.MULTILINE)
    assert len(commands) == 2
    first, table = (
        subprocess.run(
            command.replace("http://127.0.0.1:8000", service), shell=True, cwd=place, capture_output=True, check=True
        ).stdout.decode()
        for command in commands
    )
    (entry,) = json.loads(first)["images"]
    want = Predictor("onepass").predict(place / "photo.jpg").above(0.3)
    assert len(want) > 0
    assert [pose["score"] for pose in entry["poses"]] == pytest.approx(want.scores.tolist(), abs=1e-6)
    assert table.startswith("file,frame,seconds,drawing,pose,score")
    assert "\nteam.jpg," in table


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_the_docs_node_script(service: str, place: Path) -> None:
    (script,) = re.findall(r"^```js\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    assert len(script.splitlines()) <= 10
    (place / "client.mjs").write_text(script)
    done = subprocess.run(["node", "client.mjs", service], cwd=place, capture_output=True, text=True, check=True)
    want = Predictor("onepass").predict(place / "photo.jpg").above(0.5)
    assert [float(line.split()[0]) for line in done.stdout.splitlines()] == want.scores.round(2).tolist()


def test_a_header_that_never_ends_and_no_http_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HEADER_SECONDS", 0.3)
    with serving(Predictor("onepass", threads=1)) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: a\r\nX: "):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(begun)
                answer = connection.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"did not arrive in time" in answer
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "this is no request that HTTP/1.1 knows"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:  # also after a good request
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            connection.sendall(b"GET /hea")
            answer = connection.makefile("rb").read()
        assert b"HTTP/1.1 408 " in answer


def test_workers_share_the_metrics_one_that_dies_is_replaced_and_a_stop_is_clean(place: Path) -> None:
    with running(place, "--workers", 2) as (address, process):
        workers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        for _ in range(10):
            assert json.load(urlopen(f"{address}/health", timeout=30)) == {"status": "ok"}
        text = urlopen(f"{address}/metrics", timeout=30).read().decode()
        counted = re.search(r'^calipose_requests_total{path="/health",status="200"} (.*)$', text, re.MULTILINE)
        assert counted is not None
        assert float(counted[1]) == 10
    assert process.returncode in {0, -signal.SIGTERM}
    lines = [line for line in (place / "log").read_text().splitlines() if line.startswith("{")]
    assert all(json.loads(line)["event"] == "request" for line in lines)
    assert "Traceback" not in (place / "log").read_text()


@pytest.mark.parametrize(
    ("model", "name"),
    [("default", "accurate"), ("fast", "fast"), ("private/runs/mine/", "mine"), ("/private/mine.onnx", "mine.onnx")],
)
def test_visitors_read_the_models_name_not_its_place(model: str, name: str) -> None:
    assert shown_name(model) == name
