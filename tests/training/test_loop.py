"""The training loop: an interruption changes nothing, a bad loss stops in time, what is frozen stays, it learns."""

import json
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from calipose.config.method import Method
from calipose.config.recipe import Recipe
from calipose.config.settings import AugmentSettings, BackboneSettings, DataSettings, OptimSettings, PredictSettings
from calipose.data.coco import read_coco
from calipose.data.store import KeypointData
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.errors import ImageError, InputError, NonFiniteLossError, WriteError
from calipose.inference.predictor import Predictor
from calipose.model.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from calipose.skeleton import Skeleton
from calipose.training import loop
from calipose.training.loop import Stopped, Trainer

RECIPE = Recipe(
    name="tiny", size=64, batch_size=2, epochs=3, evaluate_every=1,
    backbone=BackboneSettings(name="mobilenetv2-0.1"),
    method=Method(keypoint_width=4, instance_width=8, semantic_points=2),
    optim=OptimSettings(
        name="adamw", lr=3e-3, weight_decay=0.01, schedule="cosine", accumulate=2, ema=0.9, clip_norm=1
    ),
    data=DataSettings(in_memory=True, workers=0),
    predict=PredictSettings(short_side=64, score_threshold=-1),
)  # fmt: skip
STEPS = 6  # 8 images, 2 batches of 2 each: 2 steps an epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> KeypointData:
    """Eight synthetic images."""
    annotations = write_synthetic_data(tmp_path_factory.mktemp("drawn") / "data", 8, EASY, (80, 64), seed=3)
    return read_coco(annotations, annotations.parent / "images")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of history that fall neither on the ends of epochs nor on interruptions; no scalars (they are slow)."""
    monkeypatch.setattr(loop, "LOG_STEPS", 4)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def changed(recipe: Recipe = RECIPE, **tables: dict) -> Recipe:
    return msgspec.structs.replace(
        recipe, **{name: msgspec.structs.replace(getattr(recipe, name), **new) for name, new in tables.items()}
    )


def evaluate(data: KeypointData) -> Callable[[Predictor, int], dict[str, float]]:
    """A stand-in for AP that feels every weight."""

    def score(predictor: Predictor, epoch: int) -> dict[str, float]:
        image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        return {"ap": float(predictor.predict(image).scores.sum())}

    return score


def train(out: Path, data: KeypointData, recipe: Recipe = RECIPE, **options: object) -> Trainer:
    trainer = Trainer(recipe, data, out, evaluate=evaluate(data), **options)
    trainer.run()
    return trainer


def outcome(folder: Path) -> dict[str, object]:
    """History, weights of both checkpoints and the whole state, without the clock."""
    found: dict[str, object] = {"history": (folder / "history.jsonl").read_text()}
    for name in ("last", "best", "state"):
        tensors, header = load_tensors(folder / f"{name}.safetensors")
        found |= {f"{name}.{key}": value.numpy().tobytes() for key, value in tensors.items()}
        about = dict(header.get("progress") or header["notes"])
        about.pop("seconds", None)
        about.pop("minutes", None)
        found[name] = about
    return found


@pytest.fixture(scope="module")
def straight(data: KeypointData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the training comes to that nobody interrupts."""
    out = tmp_path_factory.mktemp("run") / "straight"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_STEPS", 4)
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        train(out, data)
    return outcome(out)


def test_history_of_an_uninterrupted_training(straight: dict[str, object]) -> None:
    lines = [json.loads(line) for line in str(straight["history"]).splitlines()]
    kinds = [(line["step"], line["epoch"], "val_ap" in line) for line in lines]
    assert kinds == [(2, 1, True), (4, 2.0, False), (4, 2, True), (6, 3.0, False), (6, 3, True)]
    assert all(line["total"] > 0 for line in lines if "total" in line)


class CrashError(Exception):
    """The computer fails."""


def stop_at(step: int, how: str) -> Callable[[int, int, dict[str, float]], None]:
    def progress(now: int, total: int, _: dict[str, float]) -> None:
        assert total == STEPS
        if now == step:
            if how == "crash":
                raise CrashError
            signal.raise_signal(signal.SIGTERM if how == "term" else signal.SIGINT)

    return progress


@pytest.mark.parametrize(
    ("interruptions", "save_seconds"),
    [
        ([("term", 1)], 300),  # in the middle of an epoch, between two lines of history
        ([("int", 2)], 300),  # after an epoch's last step, before its evaluation
        ([("term", 6)], 300),  # after the very last step
        ([("term", 1), ("term", 2), ("term", 3), ("int", 4), ("term", 5)], 300),
        ([("crash", 3)], 300),  # goes back to the end of epoch 1
        ([("crash", 5), ("crash", 6)], 0),  # saved after every step: goes back by one
    ],
)
def test_an_interrupted_training_comes_to_the_same(
    straight: dict[str, object],
    data: KeypointData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruptions: list[tuple[str, int]],
    save_seconds: float,
) -> None:
    assert threading.current_thread() is threading.main_thread(), "signals reach the main thread only"
    monkeypatch.setattr(loop, "SAVE_SECONDS", save_seconds)
    for number, (how, step) in enumerate(interruptions):
        with pytest.raises(CrashError if how == "crash" else Stopped):
            train(tmp_path, data, resume=number > 0, progress=stop_at(step, how))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(tmp_path, data, resume=True)
    assert outcome(tmp_path) == straight


def test_a_crash_after_the_evaluation_s_line_does_not_double_it(
    straight: dict[str, object], data: KeypointData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)

    def fails(*_: object) -> None:
        (tmp_path / "history.jsonl").open("a").write('{"step": 2, "half a l')
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", fails)  # the first best checkpoint: its line is written already
        patch.setattr(Trainer, "_save", lambda trainer: None)
        with pytest.raises(CrashError):
            train(tmp_path, data)
        assert (tmp_path / "history.jsonl").read_text().count("val_ap") == 1
    with pytest.raises(InputError, match=r"state\.safetensors: no such"):
        train(tmp_path, data, resume=True)  # nothing was saved yet
    with pytest.raises(CrashError):
        train(tmp_path, data, progress=stop_at(3, "crash"))
    (tmp_path / "history.jsonl").open("a").write('{"step": 2, "half a l')
    train(tmp_path, data, resume=True)
    assert outcome(tmp_path) == straight


def test_a_finished_training_resumes_to_its_result(data: KeypointData, tmp_path: Path) -> None:
    short = msgspec.structs.replace(RECIPE, epochs=1)
    first = Trainer(short, data, tmp_path)
    result = first.run()
    assert (result.last, result.best) == (tmp_path / "last.safetensors", None)
    again = Trainer(short, data, tmp_path, resume=True).run()
    assert again.history == result.history
    assert again.minutes == pytest.approx(result.minutes, abs=0.01)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


@pytest.mark.parametrize("what", ["joint", "area"])
def test_a_loss_that_is_not_finite_stops_before_the_step(data: KeypointData, tmp_path: Path, what: str) -> None:
    keypoints, area = data.keypoints_img.copy(), data.area_img.copy()
    spoilt = 5
    person = data.person_start[spoilt]
    if what == "joint":
        keypoints[person, 7] = np.nan
    else:
        area[person] = np.nan
    recipe = changed(augment={"rotation_degrees": 0.0, "scale": (1.0, 1.0), "shift_inp": 0.0})
    trainer = Trainer(recipe, replace(data, keypoints_img=keypoints, area_img=area), tmp_path)
    before = {0: weights(trainer)}
    trainer.progress = lambda step, *_: before.update({step: weights(trainer)})
    with pytest.raises(NonFiniteLossError) as raised:
        trainer.run()
    message = str(raised.value)
    assert str(data.image_path(spoilt)) in message
    assert message.count(".jpg") == RECIPE.batch_size  # no batch but its own
    assert f"step {trainer.step + 1}" in message
    learnt = {name for name, _ in trainer.network.named_parameters()}
    for name, value in weights(trainer).items():
        assert name not in learnt or torch.equal(value, before[trainer.step][name]), name


@pytest.mark.parametrize("how", ["none", "norm", "all"])
def test_a_frozen_backbone_stays_as_it_is(data: KeypointData, tmp_path: Path, how: str) -> None:
    recipe = changed(msgspec.structs.replace(RECIPE, epochs=1), backbone={"freeze": how})
    trainer = Trainer(recipe, data, tmp_path)
    before = weights(trainer)
    trainer.run()
    norms = {
        f"backbone.{name}"
        for name, module in trainer.network.backbone.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    assert norms
    for source in (weights(trainer), trainer.average.values):
        for name, value in source.items():
            norm = name.rpartition(".")[0] in norms
            fixed = name.startswith("backbone.") and (how == "all" or (how == "norm" and norm))
            assert torch.equal(value, before[name]) == fixed, name


def test_run_folders(data: KeypointData, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(RECIPE, epochs=1)
    Trainer(recipe, data, tmp_path / "a").run()
    history = (tmp_path / "a" / "history.jsonl").read_text()
    with pytest.raises(InputError, match=r"already holds a training.*--resume"):
        Trainer(recipe, data, tmp_path / "a")
    assert (tmp_path / "a" / "history.jsonl").read_text() == history
    with pytest.raises(InputError, match="no such"):
        Trainer(recipe, data, tmp_path / "b", resume=True)
    assert not (tmp_path / "b").exists()


def test_initial_weights(data: KeypointData, tmp_path: Path) -> None:
    first = msgspec.structs.replace(RECIPE, epochs=1)
    result = Trainer(first, data, tmp_path / "first").run()
    trained = load_checkpoint(result.last)
    second = Trainer(first, data, tmp_path / "second", initial=result.last)
    assert all(torch.equal(value, trained.weights[name]) for name, value in weights(second).items())

    skeleton = Skeleton("mouse", ("nose", "tail"), (), ((0, 1),), (0.1, 0.1))
    save_checkpoint(tmp_path / "mouse", replace(trained, skeleton=skeleton))  # with weights of 17 keypoints
    with pytest.raises(InputError, match="mouse: weights of another network"):
        Trainer(first, data, tmp_path / "third", initial=tmp_path / "mouse")
    wider = changed(first, method={"keypoint_width": 8})
    with pytest.raises(
        InputError, match=r"last\.safetensors: weights of another network: \d+ of \d+ differ, first 'head\."
    ):
        Trainer(wider, data, tmp_path / "fourth", initial=result.last)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (changed(optim={"accumulate": 5}), "lower optim.accumulate"),
        (msgspec.structs.replace(RECIPE, batch_size=9), "use smaller batches"),
        (changed(data={"repeat": (1.0, 2.0)}), "2 numbers, but there are 1 data sets"),
    ],
)
def test_recipes_that_do_not_fit_the_data(data: KeypointData, tmp_path: Path, recipe: Recipe, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Trainer(recipe, data, tmp_path / "run")


def test_an_unreadable_image_is_named(data: KeypointData, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(len(data)):
        path = data.image_path(index)
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes()[: 400 if index == 6 else None])
    spoilt = replace(data, folders=(tmp_path / "images",))
    for in_memory in (True, False):
        trainer = Trainer(changed(data={"in_memory": in_memory}), spoilt, tmp_path / f"run{in_memory}")
        with pytest.raises(ImageError, match=r"000007\.jpg is cut off"):
            trainer.run()


def test_it_learns(data: KeypointData, tmp_path: Path) -> None:
    """Four images by heart: the offsets' loss falls by more than half, and the mean OKS rises."""
    recipe = Recipe(
        name="by-heart", size=64, batch_size=4, epochs=60, backbone=BackboneSettings(name="mobilenetv2-0.25"),
        method=RECIPE.method, optim=OptimSettings(lr=5e-3), augment=AugmentSettings.none(), data=RECIPE.data,
    )  # fmt: skip
    seen: list[dict[str, float]] = []
    trainer = Trainer(recipe, data.subset(np.arange(4)), tmp_path, progress=lambda *call: seen.append(call[2]))
    trainer._save = lambda: None  # sixty times nothing to keep
    trainer.run()
    first, last = ({key: np.mean([line[key] for line in lines]) for key in seen[0]} for lines in (seen[:5], seen[-5:]))
    assert last["offset"] < 0.5 * first["offset"]
    assert last["mean_oks"] > first["mean_oks"]
    assert last["total"] < first["total"]


def test_a_full_disk_costs_no_training(
    straight: dict[str, object],
    data: KeypointData,
    tmp_path: Path,
    full_disk: Callable[[int], AbstractContextManager[None]],
) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, progress=stop_at(1, "term"))
    with full_disk(20_000), pytest.raises(WriteError, match=r"last\.safetensors cannot be written: .*File too large"):
        train(tmp_path, data, resume=True)
    assert not list(tmp_path.glob(".*"))
    train(tmp_path, data, resume=True)
    assert outcome(tmp_path) == straight


def test_a_history_that_cannot_be_written_is_named(data: KeypointData, tmp_path: Path) -> None:
    trainer = Trainer(RECIPE, data, tmp_path)
    (tmp_path / "history.jsonl").unlink()
    (tmp_path / "history.jsonl").mkdir()
    named = pytest.raises(WriteError, match=r"history\.jsonl cannot be written: Is a directory")
    with named, trainer.record.open(main=True):
        trainer.record.add({"step": 1, "epoch": 1, "total": 1.0})
