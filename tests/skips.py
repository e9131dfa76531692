"""Which skips CI allows: those for hardware that the machine lacks, and no others."""

from collections.abc import Iterable
from typing import Any

ALLOWED = "hardware:"  # how the reason of an allowed skip starts


def unallowed_skips(reports: Iterable[Any]) -> list[str]:
    """What pytest's reports of skipped tests and files say, but for skips for want of hardware."""
    found = ((report.nodeid, _reason(report)) for report in reports)
    return [f"{name}: {reason}" for name, reason in found if not reason.startswith(ALLOWED)]


def _reason(report: Any) -> str:
    """The reason alone; pytest keeps (file, line, "Skipped: reason")."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(text).removeprefix("Skipped: ")
