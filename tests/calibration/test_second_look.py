"""The score of two looks."""

import numpy as np
import pytest

from calipose.calibration.second_look import SecondLook, TwoLookScore, fit_two_look_score
from calipose.errors import InputError

RNG = np.random.default_rng(0)
LOOK = TwoLookScore(bias=-1.0, first=0.5, confidence=1.0, agreement=2.0)


def test_the_formula() -> None:
    logit = -1 + 0.5 * np.log(0.8 / 0.2) + 1.0 * np.log(0.4 / 0.6) + 2.0 * 0.7
    assert LOOK(0.8, 0.4, 0.7) == pytest.approx(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize("column", [0, 1, 2])
def test_more_of_one_thing_is_never_less(column: int) -> None:
    numbers = np.full((3, 50), 0.5)
    numbers[column] = np.linspace(-0.5, 1.5, 50)
    assert (np.diff(LOOK(*numbers)) >= 0).all()


def test_the_fit_finds_the_weights() -> None:
    numbers = RNG.uniform(0.05, 0.95, (3, 4000))
    fitted = fit_two_look_score(*numbers, LOOK(*numbers))
    for name in ("bias", "first", "confidence", "agreement"):
        assert getattr(fitted, name) == pytest.approx(getattr(LOOK, name), abs=0.02)


def test_a_weight_is_never_negative() -> None:
    numbers = RNG.uniform(0.05, 0.95, (3, 500))
    fitted = fit_two_look_score(*numbers, 1 - numbers[0])
    assert fitted.first == 0
    assert min(fitted.confidence, fitted.agreement) >= 0


def test_something_that_never_changes_has_no_weight() -> None:
    numbers = RNG.uniform(0.05, 0.95, (3, 200))
    numbers[1] = 0.3
    fitted = fit_two_look_score(*numbers, numbers[0])
    assert fitted.confidence == 0
    assert np.isfinite(fitted(*numbers)).all()


def test_it_is_stored() -> None:
    assert SecondLook.from_dict(SecondLook(pose=LOOK).to_dict()).pose == LOOK


@pytest.mark.parametrize("entries", [{"crop": 0}, {"pose": {"bias": 0, "first": -1, "confidence": 0, "agreement": 0}}])
def test_what_makes_no_sense_is_refused(entries: object) -> None:
    with pytest.raises(InputError, match="second look"):
        SecondLook.from_dict(entries, "second look")


def test_nothing_to_fit_on() -> None:
    with pytest.raises(InputError, match="fitted on"):
        fit_two_look_score([], [], [], [])
