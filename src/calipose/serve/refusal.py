"""A request that is not carried out, and why."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 (an answer, not a failure)
    """The answer to a request that is not carried out.

    Args:
        status: of HTTP, 400 to 503.
        sentence: for the caller: what is wrong, and what to do.
        retry_seconds: after which another try makes sense; None where it does not.
    """

    def __init__(self, status: int, sentence: str, retry_seconds: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_seconds = status, sentence, retry_seconds
