"""Files appear whole or not at all, with the mode of any new file."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from calipose.errors import InputError, WriteError
from calipose.io.atomic import make_folder, remove_abandoned, replacing, write_errors


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_appears_whole(tmp_path: Path, before: str | None) -> None:
    path, plain = tmp_path / "a.json", tmp_path / "plain"
    plain.touch()
    if before:
        path.write_text(before)
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.unlink()
        temporary.touch(mode=0o600)  # as safetensors does
        temporary.write_text("new")
        assert (path.read_text() if before else path.exists()) == (before or False)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert {file.name for file in tmp_path.iterdir()} == {"a.json", "plain"}


def fail(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(WriteError):
        fail(tmp_path / "absent" / "a.json")


@pytest.mark.skipif(os.name != "posix", reason="hardware: nothing is removed on other operating systems")
def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from calipose.io.atomic import replacing
with replacing(Path("a.json")) as temporary:
    temporary.write_text("half")
    print("there", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "there\n"
        remove_abandoned(tmp_path)
        (left,) = tmp_path.iterdir()  # of a running process
        writer.send_signal(signal.SIGKILL)
    assert left.exists()
    foreign = [".a.json.part", ".a.json.0badcafe-1.part", "a.part", left.name.replace(".a.", "a.")]
    for name in foreign:
        (tmp_path / name).touch()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(foreign)
    remove_abandoned(tmp_path / "absent")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "a.json"
    with pytest.raises(InputError, match=r"a\.json cannot be written: No such file or directory; does the folder"):
        fail_to_write(path)
    (tmp_path / "absent").mkdir()
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def fail_to_write(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("new")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), write_errors(tmp_path):
        _ = 1 / 0


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file cannot be written: File exists; a file is where a folder should be"):
        make_folder(tmp_path / "file")
    with pytest.raises(WriteError, match=r"deeper cannot be written: Not a directory; a file is where"):
        make_folder(tmp_path / "file" / "deeper")
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_reader_that_leaves_is_no_error_of_writing(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), write_errors(tmp_path):
        raise BrokenPipeError
