"""One bulk prediction from its sources to its folder, restartable at any moment."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calipose._version import __version__
from calipose.bulk.blocks import MAX_BLOCK, blocks_of_files, blocks_of_shards, ray_running
from calipose.bulk.dataset import MAX_RETRIES, ModelOptions, map_images
from calipose.bulk.schema import VERSION, result_schema
from calipose.bulk.sources import Found, find, row_of_file, rows_of_shard
from calipose.bulk.store import ResultFolder, key_hash, need_ray
from calipose.errors import CaliposeError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

PART_ROWS = 10_000  # of a Parquet file, some 20 MB
PART_SECONDS = 60.0  # a killed run loses at most this much
MIN_BLOCK = 8  # images that a worker is given at a time, at least
BLOCKS_A_WORKER = 32
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
    common = model.common(predictor)
    header = {
        "schema": VERSION, "calipose": __version__, "model": common["model"], "calibration": common["calibration"],
        "min_score": model.min_score, "skeleton": predictor.skeleton.to_dict(),
    }  # fmt: skip
    del predictor
    with ResultFolder(out) as folder:
        folder.begin(header)
        summary.earlier = len(folder.done)
        run = _Run(folder, model, options, summary, progress, stopped)
        todo = run.missing(found)
        if found.shards or todo:
            with ray_running(options.address, int(max(os.cpu_count() or 1, run.workers * options.cpus))):
                run.predict(found, todo)
                run.one_by_one(found, common)
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
        self.lost_in_shards = False

    def missing(self, found: Found) -> list[str]:
        """The files that have no row."""
        return [name for name in found.files if key_hash(row_of_file(name)["key"]) not in self.folder.done]

    def predict(self, found: Found, todo: list[str]) -> None:
        """Predict what is left, in blocks."""
        self.total = None if found.shards else len(todo)
        size = min(MAX_BLOCK, max(MIN_BLOCK, len(todo) // (self.workers * BLOCKS_A_WORKER)))
        if todo:
            self.write(blocks_of_files(todo, size), may_lose=True)
        if found.shards and not self.summary.stopped:
            self.lost_in_shards = not self.write(self.shards(found.shards), may_lose=False)

    def shards(self, shards: list[str]) -> Dataset:
        """The images of shards that have no row."""
        options = self.options
        return blocks_of_shards(shards, self.folder.done, options.column, options.key, self.workers)

    def one_by_one(self, found: Found, common: dict[str, Any]) -> None:
        """Predict images whose block was lost each for itself; one that is lost again gets a row that says so."""
        if (lost := self.missing(found)) and not self.summary.stopped:
            self.write(blocks_of_files(lost, 1), may_lose=True, single=True)
            self.give_up((row_of_file(name)["key"] for name in lost), common)
        if self.lost_in_shards:  # what is missing is known after reading them again only
            for single in (False, True):
                if not self.summary.stopped:
                    self.write(self.shards(found.shards), may_lose=True, single=single)
            for shard in found.shards:
                rows = rows_of_shard(shard, self.options.column, self.options.key)
                self.give_up((row["key"] for row in rows), common)

    def give_up(self, keys: Iterable[str], common: dict[str, Any]) -> None:
        """Give each of these images that has no row one that names the worker's death."""
        import pyarrow as pa

        if self.summary.stopped:
            return
        error = DIED.format(MAX_RETRIES + 1)
        rows = [
            {"key": key, "error": f"image {key}: {error}", **common}
            for key in keys
            if key_hash(key) not in self.folder.done
        ]
        self.take(pa.Table.from_pylist(rows, schema=result_schema()))

    def write(self, dataset: Dataset, may_lose: bool, single: bool = False) -> bool:
        """Run a dataset of images, and write its rows as they come.

        Args:
            dataset: of images.
            may_lose: a block whose worker dies again and again is left out; else nothing more of the dataset runs.
            single: blocks of one image, of which a worker holds one at a time, so that none dies with another.

        Returns:
            False where it ended so.

        Raises:
            CaliposeError: Ray gave up.
        """
        import ray.exceptions

        options = self.options
        in_flight = 1 if single else None
        results = map_images(dataset, self.model, self.workers, options.cpus, options.gpus, in_flight)
        results.context.max_errored_blocks = -1 if may_lose else 0  # a dataset has its own copy of the context
        if single:
            results.context.target_max_block_size = 1  # bytes; a block has one row at least
        try:
            for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                self.take(table)
                if self.stopped():
                    self.summary.stopped = True
                    break
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CaliposeError):
                raise cause from None
            if isinstance(error, ray.exceptions.RayActorError):
                return False
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CaliposeError(f"Ray gave up: {lines[-1].rstrip('.')}; the same command again goes on") from None
        return True

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
