"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, this process's own, to be written to; it becomes `path` at the end of the block.

    If the block fails, `path` stays as it was and nothing is left. The file's mode is that of any new file, whatever
    the writer made of it (safetensors writes 0600).

    Raises:
        OSError: the place cannot be written to.
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
