"""`calipose export` of the packaged models: a copy, without torch; of two networks, a message that says what to do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calipose.cli import app
from calipose.inference.packaged import packaged

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from calipose.cli import main; main()"


def test_fast_is_copied_without_torch(tmp_path: Path) -> None:
    out = tmp_path / "copy.onnx"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "export", "onepass", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_bytes() == packaged("onepass").read_bytes()
    assert "10.0 MB, a copy of the package's" in " ".join(done.stdout.split())
    assert sorted(tmp_path.iterdir()) == [out.with_suffix(".calipose.json"), out]
    assert json.loads(out.with_suffix(".calipose.json").read_text())["model"] == out.name


@pytest.mark.parametrize("name", ["accurate", "default"])
def test_two_networks_are_no_one_file(tmp_path: Path, name: str) -> None:
    out = tmp_path / "copy.onnx"
    done = CliRunner().invoke(app, ["export", name, str(out)])
    said = " ".join(done.output.split())
    assert done.exit_code == 1
    assert f"{name}: two networks, whose files are in {packaged(name).parent}" in said
    assert re.search(r"'calipose export onepass \S+copy\.onnx' copies the one that finds the poses", said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "words"), [("copy.bin", r"write copy\.onnx"), ("absent/copy.onnx", "does the folder exist")]
)
def test_a_copy_needs_a_place(tmp_path: Path, file: str, words: str) -> None:
    done = CliRunner().invoke(app, ["export", "onepass", str(tmp_path / file)])
    assert done.exit_code == 1
    assert re.search(words, " ".join(done.output.split()))
    assert not list(tmp_path.iterdir())
