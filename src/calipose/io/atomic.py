"""Writing files so that nobody ever sees half of one, and saying so where a file cannot be written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calipose.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, this process's own, to be written to; it becomes `path` at the end of the block.

    If the block fails, `path` stays as it was and nothing is left. The file's mode is that of any new file, whatever
    the writer made of it (safetensors writes 0600).

    Raises:
        OSError: the file cannot be written; `write_errors` turns it into an InputError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # the umask cannot be read without changing it
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """A block that writes to `path`, a file or a folder: its OSError becomes an InputError that names the path.

    Example:
        with write_errors(path), replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    Raises:
        InputError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; does the folder exist, and may you write there?") from None
