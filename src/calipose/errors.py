"""The errors that a user can fix."""


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
