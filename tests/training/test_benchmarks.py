"""The benchmarks of training run through at small size, and their tables add up."""

from pathlib import Path
from types import ModuleType

import pytest

from calipose.config.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return pytest.importorskip(request.param)


@pytest.mark.parametrize("benchmark", ["loader"], indirect=True)
def test_loader(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    times: dict[str, float] = {}
    memory: dict[str, tuple[float, float]] = {}
    for name, kept in (("print_times", times), ("print_memory", memory)):
        function = getattr(benchmark, name)
        monkeypatch.setattr(benchmark, name, lambda *a, function=function, kept=kept: kept.update(function(*a)))
    benchmark.main(["--tiny"])
    out = capsys.readouterr().out
    assert "OpenCV" in out
    assert all(times[part] > 0 for part in ("reading", "decoding", "warp", "colours", "batch", "all"))
    parts = [value for name, value in times.items() if name not in {"data path", "all"}]
    assert sum(parts) == pytest.approx(times["all"], rel=0.2)  # medians of two rounds
    assert list(memory) == ["begin", "middle", "end"]
    assert all(parent > 10 and workers > 10 for parent, workers in memory.values())


@pytest.mark.parametrize("benchmark", ["training_options"], indirect=True)
def test_training_options(benchmark: ModuleType, capsys: pytest.CaptureFixture) -> None:
    assert len(benchmark.variants(["fp32"], compiled=True, every=False)) == 6
    assert len(benchmark.variants(["fp32", "bf16"], compiled=True, every=True)) == 32
    chosen = benchmark.variants(["fp32"], compiled=False, every=False)
    recipe = load_recipe("coco-w32-512", list(benchmark.TINY))
    assert len(benchmark.measure(recipe, chosen[:2], "cpu", 1)) == 2
    benchmark.print_options(recipe, chosen[:1], "cpu", 2)
    assert "fp32, plain" in capsys.readouterr().out
