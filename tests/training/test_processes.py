"""Two processes train as one does with both their images: losses, gradients; what stops one stops both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from calipose.config.method import Method
from calipose.config.recipe import Recipe
from calipose.config.settings import BackboneSettings, ComputeSettings, DataSettings, OptimSettings, PredictSettings
from calipose.data.coco import read_coco
from calipose.data.store import KeypointData
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.errors import CaliposeError, NonFiniteLossError
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.run import Share, evaluate_predictor
from calipose.model.checkpoint import load_tensors
from calipose.training import computing
from calipose.training.loop import Trainer
from calipose.training.order import EpochBatches
from calipose.training.processes import BatchNormOverProcesses, end_process, gathered, process_count, process_index
from free_port import free_port

RECIPE = Recipe(
    name="tiny", size=64, batch_size=4, epochs=2, evaluate_every=1,
    backbone=BackboneSettings(name="mobilenetv2-0.1"),
    method=Method(keypoint_width=4, instance_width=8, semantic_points=2),
    optim=OptimSettings(lr=1e-3, sync_norm=True, clip_norm=1e9),
    data=DataSettings(in_memory=True, workers=0),
    predict=PredictSettings(short_side=64, score_threshold=-1),
)  # fmt: skip
PATIENCE = 400  # seconds on the busiest machine: none of the runs may hang
DIES_AT = 3


def read(folder: Path) -> KeypointData:
    return read_coco(folder / "annotations.json", folder / "images")


# The backbone takes each image on its own: with 51 batch norms, two ways to add up flip single ReLUs, which moves
# gradients by a thousandth.
FROZEN = msgspec.structs.replace(
    RECIPE,
    epochs=1,
    backbone=BackboneSettings(name="mobilenetv2-0.1", freeze="norm"),
    optim=OptimSettings(lr=1e-3, sync_norm=True),
)

# Computed otherwise: with checkpointing, batch norms over both processes are computed again in the backward pass.
COMPUTED = {
    "checkpointed": msgspec.structs.replace(RECIPE, epochs=1, compute=ComputeSettings(gradient_checkpointing=True)),
    "compiled": msgspec.structs.replace(FROZEN, compute=ComputeSettings(fused=True, compile=True)),
}


def train(
    data: KeypointData, out: Path, recipe: Recipe = RECIPE, die: bool = False, **options: object
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """A training: the losses of each step, and the gradients of the first."""
    losses: list[dict] = []
    gradients: dict[str, torch.Tensor] = {}

    def progress(now: int, _: int, values: dict) -> None:
        losses.append(values)
        if die and process_index() == 1 and now == DIES_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer = Trainer(recipe, data, out, progress=progress, **options)
    step = trainer.optimizer.step

    def stepped() -> None:
        if not gradients:
            named = trainer.network.named_parameters()
            gradients.update({name: p.grad.clone() for name, p in named if p.grad is not None})
        step()

    trainer.optimizer.step = stepped
    trainer.run()
    return losses, gradients


def norm_layer(layer: torch.nn.Module, values: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradients and statistics of a batch norm in training, of a loss that sums all over."""
    values = values.clone().requires_grad_(True)
    out = layer(values)
    (out**3).sum().backward()
    grads = [values.grad, *(p.grad for p in layer.parameters())]
    return [out.detach(), *grads, layer.running_mean, layer.running_var]


def norm_input() -> torch.Tensor:
    return torch.rand(4, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9


def in_a_process(what: str, folder: Path, out: Path) -> None:
    """What each of the two processes does."""
    data, rank = read(folder), process_index()
    truth = read_ground_truth(folder / "annotations.json", data.skeleton)

    def evaluate(predictor: object, epoch: int) -> dict[str, float]:
        share = Share(process_index(), process_count(), gathered)
        evaluation = evaluate_predictor(predictor, truth, folder / "images", share=share)
        own = gathered(len(share.part(range(7))))
        assert own == [4, 3]
        return {"ap": evaluation.ap.ap, "results": float(len(evaluation.entries))}

    if what == "die":
        try:
            train(data, out, evaluate=evaluate, die=True)
        except CaliposeError as error:
            print(error)
        return
    if what == "resume":
        train(data, out, evaluate=evaluate, resume=True)
        return
    losses, gradients = train(data, out, evaluate=evaluate)
    frozen = train(data, out.with_name("frozen"), FROZEN)
    others = [train(data, out.with_name(name), recipe) for name, recipe in COMPUTED.items()]
    norm = norm_layer(BatchNormOverProcesses(3).double(), norm_input()[2 * rank : 2 * rank + 2])
    torch.save([losses, gradients, *frozen, others, norm], out / f"seen{rank}.pt")
    area = data.area_img.copy()
    # The fourth image of the first batch is in the second process.
    first = EpochBatches(len(data), 2, RECIPE.seed, 0, 1, 2).draws[3]
    area[data.person_start[first] : data.person_start[first + 1]] = np.nan
    try:
        train(replace(data, area_img=area), out.with_name("spoilt"))
    except NonFiniteLossError as error:
        print(f"{rank}: {Path(data.image_path(int(first))).name}: {error}")


def start(what: str, folder: Path, out: Path) -> list[tuple[int, str, str]]:
    """Run two processes; exit code, standard output and error of each."""
    port = free_port()
    common = {
        **os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, __file__, what, str(folder), str(out)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=PATIENCE) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine synthetic images: two steps of four an epoch."""
    return write_synthetic_data(tmp_path_factory.mktemp("drawn") / "data", 9, EASY, (80, 64), seed=3).parent


@pytest.fixture(scope="module")
def both(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    out = tmp_path_factory.mktemp("run") / "both"
    return out, start("train", folder, out)


def test_two_processes_are_as_one(folder: Path, both: tuple[Path, list[tuple[int, str, str]]], tmp_path: Path) -> None:
    out, ends = both
    assert [code for code, *_ in ends] == [0, 0], ends
    assert "stride" not in ends[0][2] + ends[1][2]
    losses, gradients = train(read(folder), tmp_path / "a")
    frozen_losses, frozen_gradients = train(read(folder), tmp_path / "b", FROZEN)
    for rank in range(2):
        seen = torch.load(out / f"seen{rank}.pt")
        assert len(seen[0]) == len(losses) == 4
        assert seen[0][0] == pytest.approx(losses[0], rel=1e-5)  # batch norms over both processes
        assert cosine(seen[1], gradients) > 0.999
        assert seen[0][-1]["total"] == pytest.approx(losses[-1]["total"], rel=0.1)
        assert [line["total"] for line in seen[2]] == pytest.approx([line["total"] for line in frozen_losses], rel=1e-3)
        assert seen[2][0] == pytest.approx(frozen_losses[0], rel=1e-5)
        scale = max(float(value.abs().max()) for value in frozen_gradients.values())
        assert seen[3].keys() == frozen_gradients.keys()
        for name, value in frozen_gradients.items():
            assert float((seen[3][name] - value).abs().max()) < 1e-5 * scale, name
    # Adam makes whole steps of gradients that are all but 0, so weights may differ by a part of the steps.
    mine, theirs = (load_tensors(path / "last.safetensors")[0] for path in (tmp_path / "a", out))
    for name, value in mine.items():
        if "running" not in name:
            assert float((theirs[name].double() - value.double()).abs().max()) < 8 * RECIPE.optim.lr, name


def test_two_processes_compute_otherwise_to_the_same(both: tuple[Path, list]) -> None:
    for rank in range(2):
        losses, gradients, frozen_losses, frozen_gradients, others, _ = torch.load(both[0] / f"seen{rank}.pt")
        wanted = [(losses, gradients), (frozen_losses, frozen_gradients)]
        for (want, want_gradients), (found, found_gradients) in zip(wanted, others, strict=True):
            assert found[0] == pytest.approx(want[0], rel=1e-5)
            assert found[1]["total"] == pytest.approx(want[1]["total"], rel=1e-3)
            scale = max(float(value.abs().max()) for value in want_gradients.values())
            assert found_gradients.keys() == want_gradients.keys()
            for name, value in want_gradients.items():
                assert float((found_gradients[name] - value).abs().max()) < 1e-6 * scale, name


def cosine(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    a, b = (torch.cat([values[name].flatten().double() for name in one]) for values in (one, other))
    return float(a @ b / (a.norm() * b.norm()))


def test_a_batch_norm_over_processes_is_that_of_the_whole_batch(both: tuple[Path, list]) -> None:
    """In double precision: output and its gradient by image; weights' gradients as parts of a sum; statistics."""
    want = norm_layer(torch.nn.BatchNorm2d(3).double(), norm_input())
    parts = [torch.load(both[0] / f"seen{rank}.pt")[-1] for rank in range(2)]
    for i, value in enumerate(want):
        pair = [part[i] for part in parts]
        found = torch.cat(pair) if i < 2 else pair[0] + pair[1] if i < 4 else pair[0]
        torch.testing.assert_close(found, value)


def test_evaluation_is_shared_and_takes_each_image_once(folder: Path, both: tuple[Path, list]) -> None:
    lines = [json.loads(line) for line in (both[0] / "history.jsonl").read_text().splitlines()]
    from calipose.inference.predictor import Predictor

    (line,) = [line for line in lines if "val_results" in line and line["epoch"] == 2]
    alone = evaluate_predictor(Predictor(both[0] / "last.safetensors"), folder / "annotations.json", folder / "images")
    assert line["val_results"] == len(alone.entries) > 0
    assert line["val_ap"] == pytest.approx(alone.ap.ap, nan_ok=True)


def test_a_loss_that_is_not_finite_in_one_stops_both(both: tuple[Path, list[tuple[int, str, str]]]) -> None:
    for rank, (_, out, _) in enumerate(both[1]):
        (line,) = [line for line in out.splitlines() if line.startswith(f"{rank}: ")]
        _, name, message = line.split(": ", 2)
        assert "step 1" in message
        assert name in message
        assert message.count(".jpg") == 2  # the images of the second process


def test_a_killed_process_ends_the_other_and_the_training_resumes(
    folder: Path, both: tuple[Path, list], tmp_path: Path
) -> None:
    (code, said, _), (killed, *_) = start("die", folder, tmp_path)
    assert (code, killed) == (0, -signal.SIGKILL)
    assert f"step {DIES_AT + 1}: another process of this training ended" in said
    assert "--resume" in said
    ends = start("resume", folder, tmp_path)
    assert [code for code, *_ in ends] == [0, 0], ends
    straight, resumed = (load_tensors(path / "last.safetensors")[0] for path in (both[0], tmp_path))
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]  # slow to load
    torch.set_num_threads(1)
    computing.COMPILER = "aot_eager"  # the compiler's graphs without its machine code, which takes a minute
    in_a_process(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    end_process()
