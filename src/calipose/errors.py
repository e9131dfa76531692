"""The errors that a user can mend."""


class CaliposeError(Exception):
    """Base of all errors that Calipose raises on purpose; the command line prints them without a traceback."""


class InputError(CaliposeError, ValueError):
    """A file, entry or option that the user gave is wrong; the message names it and the fix."""


class ImageError(InputError):
    """An image that cannot be read; the message names the file."""


class NonFiniteLossError(CaliposeError):
    """The loss became infinite or NaN; the message names the images of the batch."""
