"""A worker that is killed under load takes only the requests in its hands with it, and another takes its place."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serve_kill.py"


def test_no_other_request_is_lost() -> None:
    command = [sys.executable, str(SCRIPT), "--workers", "2", "--clients", "6", "--requests", "80"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost elsewhere 0, refused 0; workers afterwards 2" in done.stdout
    held = re.search(r"killed one of 2 workers held (\d) of 6 connections", done.stdout)
    assert held is not None
    assert 0 < int(held[1]) < 6  # the other worker had some, too
    counted = re.search(r"requests 80: answered (\d+), lost in the killed worker's hands (\d+)", done.stdout)
    awaited = re.search(r"of them at the killed worker: (\d+)", done.stdout)
    assert counted is not None
    assert awaited is not None
    answered, lost = map(int, counted.groups())
    assert answered + lost == 80
    assert lost >= int(awaited[1])
