"""One bulk prediction from its sources to its folder, restartable at any moment."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calipose._version import __version__
from calipose.bulk.dataset import ModelOptions, calibration_id, predict_dataset
from calipose.bulk.schema import VERSION
from calipose.bulk.sources import Found, find, row_of_file, rows_of_shard
from calipose.bulk.store import ResultFolder, key_hash, need_ray
from calipose.errors import CaliposeError, InputError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

PART_ROWS = 10_000  # of a Parquet file, some 20 MB
PART_SECONDS = 60.0  # a killed run loses at most this much
MIN_BLOCK, MAX_BLOCK = 8, 256  # images that a worker is given at a time
BLOCKS_A_WORKER = 32
READ_AHEAD_BYTES = 16 * 2**20  # of images from shards, in one block
OBJECT_STORE_BYTES = 2**30
DIED = "the worker died with this image alone {} times, perhaps for want of memory"


@dataclass(frozen=True)
class BulkOptions:
    """Where and how a bulk prediction runs.

    Attributes:
        address: of a Ray cluster to join, such as "auto" or "ray://host:10001"; empty: this machine.
        workers: processes with a model each; 0: as many as this machine has CPUs for.
        cpus: that each worker takes.
        gpus: that each worker takes.
        column, key: of Parquet sources, see `calipose.bulk.sources.rows_of_shard`.
        part_rows: rows of a part of the output.
        part_seconds: rows wait at most so long for their part.
    """

    address: str = ""
    workers: int = 0
    cpus: float = 1
    gpus: float = 0
    column: str = ""
    key: str = ""
    part_rows: int = PART_ROWS
    part_seconds: float = PART_SECONDS


@dataclass
class Summary:
    """What a bulk prediction did.

    Attributes:
        images: rows that were written, broken images included.
        poses: in them.
        earlier: rows that were there before.
        broken: number of broken images by what is wrong with them.
        passed_over: videos among the sources.
        seconds: since the first worker was asked for.
        stopped: the user stopped it.
    """

    images: int = 0
    poses: int = 0
    earlier: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    passed_over: int = 0
    seconds: float = 0.0
    stopped: bool = False


Progress = Callable[[int, int | None], None]  # rows that are done, and all rows as far as known


def predict_bulk(
    sources: Sequence[str],
    out: str,
    model: ModelOptions | None = None,
    options: BulkOptions | None = None,
    *,
    progress: Progress = lambda *_: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Predict all images of the sources that have no row in `out` yet, and write their rows there.

    Whatever is killed, a worker, Ray or this process: started again, it goes on, and each image has exactly one row
    at the end. Only this process writes, and a part appears whole.

    Args:
        sources: see `calipose.bulk.sources.find`.
        out: folder, or a URI of pyarrow's file systems.
        model: the model.
        options: where it runs.
        progress: called after each block of images.
        stopped: asked after each block; True ends the run, and what is predicted is written.

    Raises:
        InputError: nothing to predict, the model cannot be opened, or `out` holds rows of another model.
        WriteError: `out` cannot be written to.
    """
    need_ray()
    model, options = model or ModelOptions(), options or BulkOptions()
    found = find(sources)
    summary = Summary(passed_over=found.videos)
    predictor = model.open()
    header = {
        "schema": VERSION, "calipose": __version__, "model": model.model_id(predictor),
        "calibration": calibration_id(predictor), "min_score": model.min_score,
        "skeleton": predictor.skeleton.to_dict(),
    }  # fmt: skip
    common = {"skeleton": predictor.skeleton.name, "model": header["model"], "calibration": header["calibration"]}
    del predictor
    with ResultFolder(out) as folder:
        folder.begin(header)
        summary.earlier = len(folder.done)
        run = _Run(folder, model, options, summary, progress, stopped)
        todo = run.missing(found)
        if found.shards or todo:
            with _ray(options, run.workers):
                run.predict(found, todo)
                if todo and not summary.stopped and (lost := run.missing(found)):
                    run.one_by_one(lost, common)
    return summary


class _Run:
    """The state of a running prediction."""

    def __init__(
        self,
        folder: ResultFolder,
        model: ModelOptions,
        options: BulkOptions,
        summary: Summary,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        self.folder, self.model, self.options, self.summary = folder, model, options, summary
        self.progress, self.stopped = progress, stopped
        self.workers = options.workers or max(1, int((os.cpu_count() or 1) / max(options.cpus, 0.1)))
        self.started = self.flushed = time.monotonic()
        self.total: int | None = None

    def missing(self, found: Found) -> list[str]:
        """The files that have no row."""
        return [name for name in found.files if key_hash(row_of_file(name)["key"]) not in self.folder.done]

    def predict(self, found: Found, todo: list[str]) -> None:
        """Predict what is left, in blocks."""
        self.total = None if found.shards else len(todo)
        size = min(MAX_BLOCK, max(MIN_BLOCK, len(todo) // (self.workers * BLOCKS_A_WORKER)))
        datasets = [_files(todo, size)] if todo else []
        if found.shards:
            datasets.append(_shards(found.shards, self.folder.done, self.options, self.workers))
        for dataset in datasets:
            self.write(dataset, may_lose=dataset is datasets[0] and bool(todo))

    def one_by_one(self, lost: list[str], common: dict[str, Any]) -> None:
        """Predict images whose block was lost each for itself; one that is lost again gets a row that says so."""
        import pyarrow as pa

        from calipose.bulk.dataset import MAX_RETRIES
        from calipose.bulk.schema import result_schema

        self.write(_files(lost, 1), may_lose=True)
        if not self.summary.stopped:
            left = [row_of_file(name)["key"] for name in lost]
            rows = [
                {"key": key, "error": f"image {key}: {DIED.format(MAX_RETRIES + 1)}", **common}
                for key in left
                if key_hash(key) not in self.folder.done
            ]
            self.take(pa.Table.from_pylist(rows, schema=result_schema()))

    def write(self, dataset: Dataset, may_lose: bool) -> None:
        """Run a dataset of images, and write its rows as they come.

        Args:
            dataset: of images.
            may_lose: a block whose worker dies again and again is left out; else that is an error.

        Raises:
            CaliposeError: Ray gave up.
        """
        import ray.exceptions

        options = self.options
        results = predict_dataset(dataset, self.model, workers=self.workers, cpus=options.cpus, gpus=options.gpus)
        results.context.max_errored_blocks = -1 if may_lose else 0  # a dataset has its own copy of the context
        try:
            for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                self.take(table)
                if self.stopped():
                    self.summary.stopped = True
                    return
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CaliposeError):
                raise cause from None
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CaliposeError(f"Ray gave up: {lines[-1].rstrip('.')}; the same command again goes on") from None

    def take(self, table: pa.Table) -> None:
        """Count rows, and write them when there are enough, or when they waited long enough."""
        import pyarrow.compute as pc

        new = self.folder.add(table)
        for row in new.filter(pc.is_valid(new.column("error"))).select(["key", "error"]).to_pylist():
            self.summary.broken[error_kind(row["key"], row["error"])] += 1
        self.summary.poses += pc.sum(pc.list_value_length(new.column("poses"))).as_py() or 0
        self.summary.images += len(new)
        now = time.monotonic()
        self.summary.seconds = now - self.started
        if self.folder.waiting >= self.options.part_rows or now - self.flushed > self.options.part_seconds:
            self.folder.flush()
            self.flushed = now
        self.progress(self.summary.images, self.total)


def error_kind(key: str, error: str) -> str:
    """What is wrong with an image, without its name."""
    for name in (key, os.path.basename(key)):
        error = error.replace(name, "")
    return error.removeprefix("image").strip(" :'")


def _files(names: list[str], size: int) -> Dataset:
    """A dataset of images in files, in blocks of so many."""
    import pyarrow as pa
    import ray.data

    schema = image_schema()
    rows = [names[first : first + size] for first in range(0, len(names), size)]
    return ray.data.from_arrow(
        [pa.Table.from_pylist([row_of_file(name) for name in block], schema=schema) for block in rows]
    )


def _shards(shards: list[str], done: set[int], options: BulkOptions, workers: int) -> Dataset:
    """A dataset of the images in Parquet files and tars that have no row yet; each shard is read by one task."""
    import pyarrow as pa
    import ray
    import ray.data
    from ray.data import TaskPoolStrategy

    known = ray.put(done)
    schema = image_schema()

    def read(table: pa.Table) -> Iterator[pa.Table]:
        finished: set[int] = ray.get(known)
        for shard in table.column("shard").to_pylist():
            block: list[dict[str, Any]] = []
            size = 0
            for row in rows_of_shard(os.fsdecode(shard), options.column, options.key):
                if key_hash(row["key"]) in finished:
                    continue
                block.append(row)
                size += len(row["data"] or b"")
                if len(block) == MAX_BLOCK or size > READ_AHEAD_BYTES:
                    yield pa.Table.from_pylist(block, schema=schema)
                    block, size = [], 0
            yield pa.Table.from_pylist(block, schema=schema)

    tables = [pa.table({"shard": [os.fsencode(shard)]}) for shard in shards]
    # Reading waits for disks and networks, so it takes no CPU from the workers.
    return ray.data.from_arrow(tables).map_batches(
        read, batch_format="pyarrow", batch_size=None, num_cpus=0, compute=TaskPoolStrategy(size=workers)
    )


def image_schema() -> pa.Schema:
    """The columns of the images that workers are given."""
    import pyarrow as pa

    return pa.schema(
        [("key", pa.string()), ("place", pa.binary()), ("data", pa.large_binary()), ("error", pa.string())]
    )


@contextmanager
def _ray(options: BulkOptions, workers: int) -> Iterator[None]:
    """Ray on this machine, or a cluster's, quiet; one that runs in this process already is used and left running.

    Raises:
        InputError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong comes as an error, and is raised
    import ray
    from ray.data import DataContext

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are raised
    running = ray.is_initialized()
    if not running:
        own: dict[str, Any] = {"address": options.address}
        if not options.address:
            cpus = max(os.cpu_count() or 1, workers * options.cpus)
            own = {
                "address": "local", "num_cpus": int(cpus), "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }  # fmt: skip
        try:
            ray.init(**own, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"--address {options.address or 'local'}: Ray cannot be reached ({error})") from None
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = READ_AHEAD_BYTES
    try:
        yield
    finally:
        if not running:
            ray.shutdown()
