"""Datasets of the images that workers are given, in blocks, and the Ray that they run on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from calipose.bulk.sources import row_of_file, rows_of_shard
from calipose.bulk.store import key_hash
from calipose.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

MAX_BLOCK = 256  # images that a worker is given at a time
READ_AHEAD_BYTES = 16 * 2**20  # of images from shards, in one block
OBJECT_STORE_BYTES = 2**30


def blocks_of_files(names: list[str], size: int) -> Dataset:
    """A dataset of images in files, in blocks of so many."""
    import pyarrow as pa
    import ray.data

    schema = image_schema()
    rows = [names[first : first + size] for first in range(0, len(names), size)]
    return ray.data.from_arrow(
        [pa.Table.from_pylist([row_of_file(name) for name in block], schema=schema) for block in rows]
    )


def blocks_of_shards(shards: list[str], done: set[int], column: str, key: str, workers: int) -> Dataset:
    """A dataset of the images in Parquet files and tars that have no row yet; each shard is read by one task.

    Args:
        shards: names or URIs.
        done: `key_hash` of the images that are left out.
        column: of Parquet files, see `calipose.bulk.sources.rows_of_shard`.
        key: likewise.
        workers: shards that are read at the same time.
    """
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
            for row in rows_of_shard(os.fsdecode(shard), column, key):
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
def ray_running(address: str, cpus: int) -> Iterator[None]:
    """Ray on this machine, or a cluster's, quiet; one that runs in this process already is used and left running.

    Args:
        address: of a cluster; empty: this machine.
        cpus: that are asked for at the same time, at least all of this machine.

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
        own: dict[str, Any] = {"address": address}
        if not address:
            own = {
                "address": "local", "num_cpus": cpus, "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }  # fmt: skip
        try:
            ray.init(**own, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"--address {address or 'local'}: Ray cannot be reached ({error})") from None
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = READ_AHEAD_BYTES
    try:
        yield
    finally:
        if not running:
            ray.shutdown()
