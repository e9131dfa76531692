"""What `calipose train` makes of its options, and what it prints to a log file."""

import pytest

from calipose.cli import train
from calipose.cli.train import _duration, _lines, read_pairs
from calipose.errors import InputError


def test_pairs() -> None:
    assert read_pairs(["head=nose", " tail = left_hip"]) == {"head": "nose", "tail": "left_hip"}


@pytest.mark.parametrize("pairs", [["head"], ["=nose"], ["head="], ["head=nose", "head=left_eye"]])
def test_what_is_no_pair(pairs: list[str]) -> None:
    with pytest.raises(InputError, match="--map"):
        read_pairs(pairs)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (125, "2 min 5 s"), (3600, "1 h 0 min"), (4850, "1 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_a_log_file_says_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """10 of 40 steps after a resume at 20 took 100 s: 10 more take as long."""
    now = iter([0.0, 100.0, 100.0])
    monkeypatch.setattr(train.time, "monotonic", lambda: next(now))
    said: list[str] = []
    monkeypatch.setattr(train.err, "print", lambda text, **_: said.append(text))
    _lines(lambda *_: "losses", first=20)(30, 40, {})
    assert said == ["30/40  losses  1 min 40 s left"]
