"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from skips import unallowed_skips

if TYPE_CHECKING:
    from calipose.model.checkpoint import Checkpoint

# Two tests run at once on two cores; more threads in each would only fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")

EXPORT_PATIENCE = 300.0  # seconds; exporting takes half a minute
MARKS_BY_FIXTURE = {"shared": "photographs", "tiny_onnx": "exports", "exported_once": "exports"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips", action="store_true", help="skips fail the run, unless their reason starts with 'hardware:'"
    )


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need what a fixture gives: nobody has to remember it."""
    for item in items:
        for fixture, mark in MARKS_BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


def _unallowed(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not config.getoption("--no-skips") or hasattr(config, "workerinput") or reporter is None:
        return []
    return unallowed_skips(reporter.stats.get("skipped", []))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With --no-skips, a run in which something was skipped for want of software has failed."""
    if _unallowed(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which skips made the run fail."""
    if reasons := _unallowed(config):
        terminalreporter.section("skips that --no-skips forbids", red=True, bold=True)
        for reason in reasons:
            terminalreporter.line(reason)


@pytest.fixture(autouse=True)
def python_handles_ctrl_c() -> Iterator[None]:
    """Ctrl-C is as in a terminal: a background shell starts its commands, and so these tests, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`full_disk.limited_files`, where the operating system has it."""
    pytest.importorskip("resource", reason="hardware: this operating system cannot limit files")
    from full_disk import limited_files

    return limited_files


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with photographs, golden values and weights that lies beside the project."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder.name}/ is not beside the project: photographs and golden values are read from there")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """A network of random weights, whose displacements are some cells and whose scores are within 0 and about 1."""
    import torch

    from calipose.config.recipe import Recipe
    from calipose.model.checkpoint import Checkpoint
    from calipose.model.network import Network
    from calipose.skeleton import COCO_17

    torch.manual_seed(0)
    recipe = Recipe.from_dict(
        {
            "name": "tiny",
            "backbone": {"name": "mobilenetv2-0.25"},
            "method": {"keypoint_width": 4, "instance_width": 8, "semantic_points": 3},
            "predict": {"short_side": 96},
        }
    )
    network = Network("mobilenetv2-0.25", 17, recipe.method)
    for name, parameter in network.head.named_parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
        if name.startswith("score."):
            parameter.data /= 4
        if name == "score.bias":
            parameter.data += 0.4
    return Checkpoint(recipe, COCO_17, network.state_dict())


@pytest.fixture(scope="session")
def exported_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function of a name and of what writes a file of that name; the file is made once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # the run's own folder

    def path_of(name: str, make: Callable[[Path], object]) -> Path:
        path, started, failed = folder / name, folder / f"{name}.started", folder / f"{name}.failed"
        try:
            started.mkdir()
        except FileExistsError:  # another worker makes it, or has made it
            end = time.monotonic() + EXPORT_PATIENCE
            while not path.exists():
                assert not failed.exists(), f"{name} could not be made; the other worker's test says why"
                assert time.monotonic() < end, f"{name} was not made in {EXPORT_PATIENCE:.0f} s"
                time.sleep(0.1)
            return path
        try:
            make(path)  # the file appears when it is complete
        except BaseException:
            failed.touch()
            raise
        return path

    return path_of


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Checkpoint, exported_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """`tiny_checkpoint`, exported; half a minute to make."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from calipose.export.onnx import export_onnx

    def make(path: Path) -> None:
        assert export_onnx(tiny_checkpoint, path).poses > 50

    return exported_once("tiny.onnx", make)
