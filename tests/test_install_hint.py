"""Hints name packages that pip finds, however Calipose was installed."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from calipose import errors
from calipose.errors import install_hint

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
NAMED = sorted(set(re.findall(r"install_hint\(['\"](\w+)['\"]\)", SOURCES)))


@pytest.mark.parametrize("extra", NAMED)
def test_a_hint_names_the_packages_of_its_extra(extra: str) -> None:
    hint = install_hint(extra)
    for requirement in EXTRAS[extra]:
        assert re.split(r"[<>=]", requirement)[0] in hint
    assert "calipose" not in hint


def test_no_hint_names_an_extra_that_is_on_no_index() -> None:
    assert NAMED
    assert "pip install 'calipose[" not in SOURCES
    assert "pip install calipose[" not in SOURCES


def test_without_metadata_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(errors, "requires", missing)
    assert install_hint("video") == "pip install 'calipose[video]'"
