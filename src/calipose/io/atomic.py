"""Writing files so that nobody ever sees half of one, and saying so where a file cannot be written."""

from __future__ import annotations

import errno
import os
import platform
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calipose.errors import WriteError

# What ends a write that was allowed: no space, the user's quota, the longest file that may be, a broken device.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, this process's own, to be written to; it becomes `path` at the end of the block.

    If the block fails, `path` stays as it was and nothing is left. If the process is killed, the temporary name stays
    until `remove_abandoned` finds it. The file's mode is that of any new file, whatever the writer made of it
    (safetensors writes 0600).

    Example:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    Raises:
        WriteError: the file cannot be written, or the block raised another OSError.
    """
    temporary = path.with_name(f".{path.name}.{_this_machine()}-{os.getpid()}.part")
    with write_errors(path):
        try:
            temporary.touch()
            mode = stat.S_IMODE(temporary.stat().st_mode)  # the umask cannot be read without changing it
            yield temporary
            temporary.chmod(mode)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary names that killed processes of this machine left in a folder.

    Those of running processes stay, and those of other machines, which may share the folder.

    Raises:
        WriteError: one cannot be removed.
    """
    if os.name != "posix":  # elsewhere, asking for a process by its number may end it
        return
    with write_errors(folder):
        for path in folder.glob(".*.part"):
            owner = re.fullmatch(rf"\..+\.{_this_machine()}-([0-9]{{1,9}})\.part", path.name, re.DOTALL)
            if owner and not _is_running(int(owner[1])):
                path.unlink(missing_ok=True)


def _this_machine() -> str:
    """Eight characters that tell the machines apart that share a folder."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a number that no process can have
        return True
    return True


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """A block that writes to `path`, a file or a folder: its OSError becomes a WriteError that names the path.

    Files that appear as a whole need `replacing` only. A reader that leaves a pipe is no error of writing: its
    BrokenPipeError passes.

    Example:
        with write_errors(path), path.open("a") as file:
            file.write(line)

    Raises:
        WriteError: the block raised an OSError.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise write_error(path, error) from None


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, if it is not there.

    Raises:
        WriteError: it cannot be made.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_error(path: str | Path, error: OSError) -> WriteError:
    """What the user reads of an OSError.

    Args:
        path: the file or folder that was to be written.
        error: what the operating system, or a library, says.

    Returns:
        An error with one sentence of both, and a question where the place is the likely reason.
    """
    if isinstance(error, FileExistsError | NotADirectoryError):
        hint = "; a file is where a folder should be"
    elif isinstance(error, IsADirectoryError):
        hint = "; name a file"
    else:
        hint = "" if error.errno in FULL else "; does the folder exist, and may you write there?"
    return WriteError(f"{path} cannot be written: {error.strerror or error}{hint}")
