"""`oldest.txt` has the oldest release that pyproject.toml allows of each package: what is promised is what is tried."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_TRIED = {
    "torch": "only 2.13.0 could be tried",
    "timm": "needs torchvision",
    "httpx": "for the tests of the service",
    "mypy": "runs no test",
    "ruff": "runs no test",
}
# Extras of other extras, and of tests that `make test-oldest` does not run.
NOT_RUN = {"all", "ci", "docs", "litert", "movement", "ray", "serve"}


def pins() -> dict[str, str]:
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def floors() -> dict[str, str]:
    """The lowest version allowed, by package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    entries = [*project["dependencies"], *(entry for name in extras.keys() - NOT_RUN for entry in extras[name])]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", entry) for entry in entries if not entry.startswith("calipose[")]
    assert all(found), entries
    return {match[1]: match[2] for match in found if match}


def test_every_floor_is_pinned() -> None:
    wanted = {name: version for name, version in floors().items() if name not in NOT_TRIED}
    pinned = {name: version for name, version in pins().items() if name not in NOT_TRIED}
    assert wanted.keys() == pinned.keys()
    for name, version in wanted.items():
        numbers = [int(part) for part in version.split(".")]
        exact = [int(part) for part in pinned[name].split(".")]
        assert [*exact, 0, 0][: len(numbers)] == numbers, name
        if name != "opencv-python-headless":  # its first release of a version is never .0
            assert not any(exact[len(numbers) :]), name
