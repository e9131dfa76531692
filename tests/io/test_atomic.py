"""Files appear whole or not at all, with the mode of any new file."""

import stat
from pathlib import Path

import pytest

from calipose.errors import InputError
from calipose.io.atomic import replacing, write_errors


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
    with pytest.raises(FileNotFoundError):
        fail(tmp_path / "absent" / "a.json")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "a.json"
    with pytest.raises(InputError, match=r"a\.json: No such file or directory; does the folder exist"):
        fail_to_write(path)
    (tmp_path / "absent").mkdir()
    with write_errors(path), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def fail_to_write(path: Path) -> None:
    with write_errors(path), replacing(path) as temporary:
        temporary.write_text("new")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), write_errors(tmp_path):
        _ = 1 / 0
