"""`--no-skips`: CI is red when a test was skipped for any reason but hardware."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HARDWARE = "import pytest\ndef test_a(): pytest.skip('hardware: no GPU')\n"
SOFTWARE = "import pytest\ndef test_b(): pytest.importorskip('no_such_module')\n"
WHOLE_FILE = "import pytest\npytest.importorskip('no_such_module')\ndef test_c(): pass\n"


@pytest.mark.parametrize(
    ("files", "options", "code", "said"),
    [
        ([HARDWARE, SOFTWARE, WHOLE_FILE], [], 0, 0),
        ([HARDWARE], ["--no-skips"], 0, 0),
        ([HARDWARE, SOFTWARE, WHOLE_FILE], ["--no-skips"], 1, 2),
        ([HARDWARE, SOFTWARE, WHOLE_FILE], ["--no-skips", "-n", "2"], 1, 2),
    ],
)
def test_skips(tmp_path: Path, files: list[str], options: list[str], code: int, said: int) -> None:
    for name in ("conftest.py", "skips.py"):
        shutil.copy(TESTS / name, tmp_path)
    for i, text in enumerate([*files, "def test_d(): pass\n"]):
        (tmp_path / f"test_{i}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "-c", "pytest.ini"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # CI's own options
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout
    assert "hardware: no GPU" in done.stdout
    assert ("skips that --no-skips forbids" in done.stdout) == (said > 0)
    forbidden = done.stdout.partition("skips that --no-skips forbids")[2].partition("short test summary")[0]
    assert forbidden.count("could not import") == said, done.stdout
    assert done.stdout.splitlines()[-1].strip("= ").startswith("1 passed")
