"""The errors that a user can fix."""

import re
from importlib.metadata import PackageNotFoundError, requires


class CaliposeError(Exception):
    """Base of all errors that Calipose raises on purpose; the command line prints them without a traceback.

    Example:
        >>> try:
        ...     read_image("missing.jpg")
        ... except CaliposeError as error:
        ...     print(error)
        image missing.jpg cannot be read: No such file or directory
    """


class InputError(CaliposeError, ValueError):
    """A file, an entry or an option given by the user is wrong; the message names it and the fix."""


class WriteError(InputError):
    """A file or folder cannot be written: the disk is full, say; the message names it and the reason."""


class ImageError(InputError):
    """An image cannot be read; the message names the file."""


class NonFiniteLossError(CaliposeError):
    """The loss became infinite or NaN; the message names the images of the batch."""


def first_line(error: Exception) -> str:
    """The first line of what another library's error says, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def install_hint(extra: str) -> str:
    """The command that installs what one of Calipose's extras needs.

    It names the packages themselves: that works however Calipose was installed, from an index, a wheel or a checkout.

    Args:
        extra: as pyproject.toml calls it, such as "video".
    """
    try:
        requirements = [entry.partition(";") for entry in requires("calipose") or []]
    except PackageNotFoundError:  # run from a checkout that was never installed
        requirements = []
    needed = [name.strip() for name, _, marker in requirements if re.search(rf"extra *== *['\"]{extra}['\"]", marker)]
    return "pip install " + " ".join(f"'{name}'" for name in needed or [f"calipose[{extra}]"])
