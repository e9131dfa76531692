"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

# Two tests run at once on two cores; more threads in each would only fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with photographs, golden values and weights that lies beside the project."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder.name}/ is not beside the project: photographs and golden values are read from there")
    return folder
