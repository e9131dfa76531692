"""Kills predictions and trainings at random moments, fills the disk in each writer, and counts what is left.

Each run is a process of its own, which runs the command line and is ended by SIGKILL at a random moment after its
output folder appeared. What lies there is then counted, the same command is run with --resume, and its result is
compared with that of a run that nobody interrupted: names and bytes of all files, for trainings all tensors and the
history. A full disk is a limit of a file's size at a random byte of what the writer would write.

    python experiments/crashes.py --predict 30 --train 20 --full-disk 10

Ends with status 1 if a file of a final name was half, or a result differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from calipose.cli import app
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.errors import WriteError
from calipose.model.checkpoint import load_tensors
from full_disk import limited_files
from tampered import make_onnx

TESTS = Path(__file__).resolve().parents[1] / "tests"
IMAGES = 40  # of a prediction
RECIPE = """
name = "tiny"
size = 64
batch_size = 4
epochs = 12
evaluate_every = 4

[backbone]
name = "mobilenetv2-0.1"

[method]
keypoint_width = 4
instance_width = 8

[data]
in_memory = true
workers = 0

[predict]
short_side = 64
score_threshold = -1.0
"""
Compare = Callable[[Path, Path], bool]


def run(arguments: list[str], log: Path) -> None:
    """The command line, in this process."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    app(arguments, prog_name="calipose")


def process(arguments: list[str], log: Path) -> multiprocessing.process.BaseProcess:
    """A started process that runs the command line."""
    started = multiprocessing.get_context("fork").Process(target=run, args=(arguments, log))
    started.start()
    return started


def until_there(path: Path, started: multiprocessing.process.BaseProcess) -> float:
    """The time at which the path appears."""
    while not path.exists() and started.is_alive():
        time.sleep(0.0005)
    return time.monotonic()


def files(folder: Path) -> dict[str, bytes]:
    """Name and bytes of each file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.exists() else {}


def kill_often(
    command: list[str], folder: Path, kills: int, rng: random.Random, look: Callable[[Path, Path], Counter[str]],
    same: Compare,
) -> Counter[str]:  # fmt: skip
    """Run a command, kill it, look at its output, resume it, and compare; so many times.

    Args:
        command: without --out and --resume.
        folder: for all outputs.
        kills: how often.
        rng: chooses the moments.
        look: counts what lies in an output, given that of a whole run.
        same: whether a resumed output has the result of the whole run.
    """
    log, whole = folder / "log.txt", folder / "whole"
    started = process([*command, "--out", str(whole)], log)
    begin = until_there(whole, started)
    started.join()
    seconds = time.monotonic() - begin
    if started.exitcode != 0:
        raise SystemExit(f"{command} failed:\n{log.read_text()}")
    counts: Counter[str] = Counter()
    for number in range(kills):
        for turn in range(20):
            out = folder / f"{number}-{turn}"
            started = process([*command, "--out", str(out)], log)
            until_there(out, started)
            time.sleep(rng.uniform(0, seconds))
            started.kill()
            started.join()
            if started.exitcode != 0:
                break
            seconds *= 0.8  # it had finished: the machine is faster than it was for the whole run
        counts["killed"] += started.exitcode != 0
        counts += look(out, whole)
        resumed = process([*command, "--out", str(out), "--resume"], log)
        resumed.join()
        begun_anew = resumed.exitcode != 0
        if begun_anew:  # a training that was killed before its first state
            counts["nothing to resume: said so, begun anew"] += 1
            again = process([*command, "--out", str(folder / f"{number}-anew")], log)
            again.join()
            out = folder / f"{number}-anew"
        counts["final result equals the uninterrupted one's"] += same(out, whole)
        counts["final result differs"] += not same(out, whole)
        counts["temporary names that stay after resuming"] += sum(name.endswith(".part") for name in files(out))
    return counts


def look_at_prediction(out: Path, whole: Path) -> Counter[str]:
    """Count the files of a prediction by their state."""
    counts: Counter[str] = Counter()
    wanted = files(whole)
    for name, data in files(out).items():
        if name.endswith(".part"):
            counts["temporary names"] += 1
        elif name == "poses.jsonl":
            counts["journals that end in a half line"] += bool(data) and not data.endswith(b"\n")
            lines = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
            counts["whole lines of journals"] += len(lines)
            counts["lines that differ"] += len(set(lines) - set(wanted[name].splitlines(keepends=True)))
        else:
            counts["whole files" if wanted.get(name) == data else "half files of a final name"] += 1
    return counts


def same_prediction(out: Path, whole: Path) -> bool:
    """Whether all files have the same bytes, but for temporary names."""
    left = {name: data for name, data in files(out).items() if not name.endswith(".part")}
    return left == files(whole)


def look_at_training(out: Path, whole: Path) -> Counter[str]:
    """Count the files of a training by their state: each checkpoint must be readable."""
    counts: Counter[str] = Counter()
    for name in files(out):
        if name.endswith(".part"):
            counts["temporary names"] += 1
        elif name.endswith(".safetensors"):
            try:
                load_tensors(out / name)
                counts["whole files"] += 1
            except Exception:
                counts["half files of a final name"] += 1
        elif name == "history.jsonl":
            data = (out / name).read_bytes()
            counts["histories that end in a half line"] += bool(data) and not data.endswith(b"\n")
    return counts


def same_training(out: Path, whole: Path) -> bool:
    """Whether all tensors of the checkpoints and of the state are the same, and the history is."""
    for name in ("last.safetensors", "state.safetensors"):
        ours, theirs = load_tensors(out / name)[0], load_tensors(whole / name)[0]
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours):
            return False
    histories = [[json.loads(line) for line in (path / "history.jsonl").open()] for path in (out, whole)]
    return histories[0] == histories[1]


def fill_disks(writers: ModuleType, times: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Let each writer of `tests/io/test_full_disk.py` run out of space at random bytes, so many times."""
    counts: Counter[str] = Counter()
    for number, (name, (file_name, write)) in enumerate(writers.WRITERS.items()):
        sound = folder / f"sound-{number}"
        sound.mkdir()
        write(sound / file_name)
        size = max(path.stat().st_size for path in sound.rglob("*") if path.is_file())
        counts["writers"] += 1
        for turn in range(times):
            place = folder / f"full-{number}-{turn}"
            place.mkdir()
            limit = rng.randrange(size)
            try:
                with limited_files(limit):
                    write(place / file_name)
                counts["written all the same"] += 1
            except WriteError as error:
                said = str(place / file_name) in str(error) and writers.REASON in str(error)
                counts["one sentence with file and reason" if said else "another sentence"] += 1
                if not said:
                    print(f"{name}, {limit} of {size} bytes: {error}")
                counts["nothing left" if not any(place.iterdir()) else "something left"] += 1
            except Exception as error:
                counts["another error"] += 1
                print(f"{name}, {limit} of {size} bytes: {type(error).__name__}: {error}")
    return counts


def show(title: str, counts: Counter[str]) -> None:
    """Print counts as a table, in Markdown."""
    print(f"\n| {title} | count |\n|---|---|")
    for what, count in counts.items():
        print(f"| {what} | {count} |")
    sys.stdout.flush()


def main() -> None:
    """Do what the arguments say, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predict", type=int, default=0, metavar="N", help="kills of predictions")
    parser.add_argument("--train", type=int, default=0, metavar="N", help="kills of trainings")
    parser.add_argument("--full-disk", type=int, default=0, metavar="N", help="full disks of each writer")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    torch.set_num_threads(1)  # threads do not survive a fork
    cv2.setNumThreads(1)
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.predict:
            (folder / "predict").mkdir()
            (folder / "in").mkdir()
            for i in range(IMAGES):
                noise = np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8)
                cv2.imwrite(str(folder / "in" / f"{i}.jpg"), cv2.resize(noise, (1280, 960)))
            model = make_onnx(folder)  # poses at once, so that most of the time is writing
            command = ["predict", str(folder / "in"), "--model", str(model), "--save", "csv", "--threads", "1", "-q"]
            counts = kill_often(command, folder / "predict", chosen.predict, rng, look_at_prediction, same_prediction)
            show(f"{chosen.predict} kills of `calipose predict`, {IMAGES} images", counts)
            bad += counts["half files of a final name"] + counts["final result differs"] + counts["lines that differ"]
        if chosen.train:
            (folder / "train").mkdir()
            write_synthetic_data(folder / "people", 16, EASY, (80, 64), seed=3)
            (folder / "tiny.toml").write_text(RECIPE)
            command = ["train", str(folder / "tiny.toml"), "--data", str(folder / "people"), "-q"]
            counts = kill_often(command, folder / "train", chosen.train, rng, look_at_training, same_training)
            show(f"{chosen.train} kills of `calipose train`, 12 epochs", counts)
            bad += counts["half files of a final name"] + counts["final result differs"]
        if chosen.full_disk:
            spec = importlib.util.spec_from_file_location("writers", TESTS / "io" / "test_full_disk.py")
            assert spec is not None
            assert spec.loader is not None
            writers = importlib.util.module_from_spec(spec)
            sys.modules["writers"] = writers
            spec.loader.exec_module(writers)
            (folder / "disk").mkdir()
            counts = fill_disks(writers, chosen.full_disk, folder / "disk", rng)
            show(f"{chosen.full_disk} full disks in each writer", counts)
            bad += sum(counts[what] for what in ("another sentence", "something left", "another error"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
