"""Bulk prediction whose worker, driver or raylet is killed at random moments, and started again; and its speed.

    python experiments/bulk_crashes.py IMAGES [--images 5000] [--broken 50] [--kills 20] [--short-side 64]

Copies images of a folder under other names, breaks some, and runs `predict_bulk` on two workers in a process of its
own, which is killed with -9, or whose worker or raylet is, again and again. At the end each image must have exactly
one row, each broken one with its error. Then, `--speed`: images per second of one plain process and of two workers,
and peak memory of the driver. `--rows N` writes N rows through the writers and prints the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from calipose.bulk.convert import convert, read_rows
from calipose.bulk.dataset import ModelOptions
from calipose.bulk.run import BulkOptions, predict_bulk
from calipose.bulk.schema import VERSION, result_schema
from calipose.bulk.sources import row_of_file
from calipose.bulk.store import ResultFolder
from calipose.skeleton import COCO_17

VICTIMS = ("driver", "ray::MapWorker", "raylet/raylet")
PATIENCE = 600.0  # seconds, for a run that was left alone to end by itself


def make_images(source: Path, folder: Path, number: int, broken: int) -> set[str]:
    """Copies of the images; names of the broken ones."""
    folder.mkdir(parents=True)
    files = sorted(source.glob("*.jpg"))
    for i in range(number):
        shutil.copyfile(files[i % len(files)], folder / f"{i:06d}.jpg")
    names = {f"{i:06d}.jpg" for i in range(0, number, max(1, number // broken))} if broken else set()
    for i, name in enumerate(sorted(names)):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes((b"", data[: len(data) // 2], b"not an image")[i % 3])
    return names


def drive(folder: Path, out: Path, short_side: int, workers: int) -> None:
    """One run, as a process of its own."""
    options = BulkOptions(workers=workers, part_rows=100, part_seconds=2.0)
    start = time.monotonic()
    seen: list[tuple[int, dict[str, float]]] = []

    def progress(done: int, _: int | None) -> None:
        if not seen or done - seen[-1][0] >= 200:  # to look takes time, too
            seen.append((done, cpu_seconds()))

    model = ModelOptions("onepass", short_side=short_side)
    summary = predict_bulk([str(folder)], str(out), model, options, progress=progress)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    seconds = time.monotonic() - start
    told = {"images": summary.images, "run": summary.seconds, "seconds": seconds, "memory_mb": memory}
    if len(seen) > 1:  # without the start of Ray and of the workers
        (first, before), (last, after) = seen[0], seen[-1]
        told |= {f"ms_{kind}": round(1000 * (after[kind] - before[kind]) / (last - first), 2) for kind in after}
    print(json.dumps(told))


def cpu_seconds() -> dict[str, float]:
    """CPU time of this process, of its workers, and of Ray's own processes below it."""
    ticks = {"driver": time.process_time(), "workers": 0.0, "ray": 0.0}
    for pid, line in descendants(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        kind = "workers" if "ray::MapWorker" in line else "ray"
        ticks[kind] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return ticks


def descendants(pid: int) -> list[tuple[int, str]]:
    """Processes below one: number and command line."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(entry.read_text().rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
        except OSError:
            continue
    found, todo = [], [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            todo.append(child)
            try:
                line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found.append((child, line))
    return found


def rows(out: Path) -> int:
    """Rows that are in files."""
    return sum(1 for _ in read_rows(str(out))) if (out / "_calipose.json").exists() else 0


def run_and_kill(command: list[str], victim: str, rng: random.Random, out: Path) -> str:
    """Start a run, kill something of it at a random moment after its first new rows; what happened."""
    before = rows(out)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    began, wait = time.monotonic(), rng.uniform(0, 6)
    early = rng.random() < 0.25  # while Ray starts, or reads
    while process.poll() is None and not early and rows(out) == before and time.monotonic() - began < PATIENCE:
        time.sleep(0.5)
    time.sleep(wait)
    below = descendants(process.pid)
    pids = [process.pid] if victim == "driver" else [pid for pid, line in below if victim in line]
    if process.poll() is not None:
        assert process.stderr is not None
        last = (process.stderr.read().strip().splitlines() or ["nothing"])[-1]
        return f"ended before ({process.returncode}): {last[:300]}"
    if pids:
        os.kill(rng.choice(pids), signal.SIGKILL)
    time.sleep(rng.uniform(1, 5))
    if victim == "ray::MapWorker":  # the run goes on: it is stopped with the driver later
        time.sleep(rng.uniform(1, 10))
    process.kill()
    process.wait()
    return f"{victim} {'killed' if pids else 'not there yet, driver killed'}: {rows(out)} rows"


def crashes(folder: Path, out: Path, broken: set[str], options: argparse.Namespace) -> None:
    """Kill, restart, and check."""
    rng = random.Random(options.seed)
    command = [
        sys.executable, __file__, str(folder), "--drive", str(out), "--short-side", str(options.short_side),
    ]  # fmt: skip
    for i in range(options.kills):
        print(f"{i + 1:2d}. {run_and_kill(command, VICTIMS[i % 3], rng, out)}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    print(done.stdout.strip() or done.stderr[-2000:])
    number = Counter(Path(row["key"]).name for row in read_rows(str(out)))
    named = {Path(row["key"]).name for row in read_rows(str(out)) if row["error"]}
    whole = number == Counter({path.name: 1 for path in folder.glob("*.jpg")})
    print(
        f"every one of {len(number)} images exactly once: {whole}; broken ones named: {named == broken} ({len(named)})"
    )
    left = [path.name for path in out.rglob("*.part")]
    print(f"half parts left: {len(left)}; parts: {len(list(out.rglob('*.parquet')))}")


def plain(folder: Path, short_side: int, number: int) -> float:
    """Images per second of one process with one thread, reading included."""
    from calipose.bulk.dataset import PoseWorker

    worker = PoseWorker(ModelOptions("onepass", short_side=short_side))
    files = [row_of_file(str(path)) for path in sorted(folder.glob("*.jpg"))[:number]]
    start = time.monotonic()
    worker.rows(files)
    return len(files) / (time.monotonic() - start)


def many_rows(number: int) -> None:
    """Rows through the writers, and the peak memory after each step."""

    def memory() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    import pyarrow as pa

    keypoints = [{"x": 123.4 + j, "y": 56.7, "score": 0.5} for j in range(17)]
    pose = {"score": 0.75, "raw_score": 0.5, "p_oks50": 0.9, "p_oks75": 0.8, "keypoints": keypoints}
    common = {"skeleton": "coco-17", "model": "m", "calibration": None}
    header = {"schema": VERSION, "model": "m", "calibration": None, "min_score": 0.3, "skeleton": COCO_17.to_dict()}
    with tempfile.TemporaryDirectory() as temporary:
        out = f"{temporary}/poses"
        start = time.monotonic()
        with ResultFolder(out) as folder:
            folder.begin(header)
            for first in range(0, number, 100):
                block = [
                    {"key": f"/data/{i:09d}.jpg", "width": 640, "height": 480, "poses": [pose] * (i % 5), **common}
                    for i in range(first, min(number, first + 100))
                ]
                folder.add(pa.Table.from_pylist(block, schema=result_schema()))
                if folder.waiting >= 10_000:
                    folder.flush()
                if first in {0, number // 10}:
                    print(f"{first} rows: {memory()} MB", flush=True)
        size = sum(path.stat().st_size for path in Path(out).rglob("*.parquet"))
        print(
            f"{number} rows written in {time.monotonic() - start:.1f} s, {size / number:.0f} bytes each: {memory()} MB"
        )
        start = time.monotonic()
        with ResultFolder(out) as folder:
            folder.begin(header)
            print(f"restart: {len(folder.done)} keys read in {time.monotonic() - start:.2f} s: {memory()} MB")
        for name in ("jsonl", "csv", "coco"):
            start = time.monotonic()
            convert(out, f"{temporary}/file", name)
            print(f"{name}: {time.monotonic() - start:.1f} s: {memory()} MB", flush=True)


def main() -> None:
    """Run and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--broken", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short-side", type=int, default=64)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--drive", type=Path, help="for this script itself: one run into this folder")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.drive:
        drive(options.source, options.drive, options.short_side, options.workers)
        return
    if options.rows:
        many_rows(options.rows)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "images", Path(temporary) / "out"
        broken = make_images(options.source, folder, options.images, options.broken)
        if not options.speed:
            crashes(folder, out, broken, options)
            return
        one = plain(folder, options.short_side, min(200, options.images))
        command = [sys.executable, __file__, str(folder), "--drive", str(out), "--short-side", str(options.short_side)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout.splitlines()[-1])
        again = plain(folder, options.short_side, min(200, options.images))
        speed = told["images"] / told["run"]
        print(f"one process: {one:.1f} and {again:.1f} images/s; two workers: {speed:.1f} images/s, {told}")


if __name__ == "__main__":
    main()
