"""Each command opens each file once."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("file_reads", ROOT / "benchmarks" / "file_reads.py")
assert SPEC is not None
assert SPEC.loader is not None
file_reads = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(file_reads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reads") / "data"
    file_reads.generate(made, images=12, poses=4)
    (made / "out").mkdir()
    return made


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "compare", "report", "submit"])
def test_each_file_is_opened_once(folder: Path, command: str) -> None:
    if command == "report":
        pytest.importorskip("matplotlib")
    opens, _, _ = file_reads.measure(file_reads.commands(folder, 2)[command], folder)
    assert opens["truth.json"] == 1
    assert opens["a.json"] == 1
    assert opens.get("b.json", 0) == (1 if command == "compare" else 0)
