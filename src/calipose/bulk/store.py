"""The folder of a bulk prediction: Parquet parts that appear whole, what they hold already, and one writer at a time.

OUT/_calipose.json              what made the rows: a restart with another model is refused
OUT/status=ok/part-....parquet      images that were predicted
OUT/status=error/part-....parquet   images that could not be; delete the folder, and a restart tries them again
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from calipose.bulk.schema import VERSION, result_schema
from calipose.bulk.sources import open_place
from calipose.errors import InputError, WriteError, install_hint
from calipose.io.atomic import make_folder, replacing
from calipose.plain_data import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

HEADER = "_calipose.json"  # names with _ or . at the start are passed over by readers of Parquet folders
LOCK = "_lock"
STATUSES = ("ok", "error")
MUST_BE_EQUAL = ("schema", "model", "calibration", "min_score", "skeleton")


def key_hash(key: str) -> int:
    """Eight bytes that stand for a key: among 10 million keys, two are equal with a probability of 3 in a million."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


class ResultFolder:
    """A folder on a disk, or at a URI of pyarrow's file systems (`s3://bucket/poses`), that takes rows of results.

    Args:
        place: need not exist.

    Attributes:
        done: `key_hash` of each image that has a row.

    Raises:
        InputError: there is no such file system, or pyarrow is not installed.

    Example:
        with ResultFolder("poses") as folder:
            folder.begin(header)
            folder.add(table)
    """

    def __init__(self, place: str) -> None:
        self.files, self.root = open_place(place)
        self.place = place
        self.local = Path(self.root) if "://" not in place else None
        self.done: set[int] = set()
        self._waiting: dict[str, list[pa.Table]] = {status: [] for status in STATUSES}
        self._lock: Any = None
        self._run, self._parts = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:12]}", 0

    def __enter__(self) -> ResultFolder:
        if self.local is not None:
            if self.local.exists() and not self.local.is_dir():
                raise InputError(f"{self.place}: this is a file; name a folder")
            make_folder(self.local)
            self._take_lock(self.local)
            for half in self.local.glob("status=*/.*.part"):  # of a process that was killed
                half.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            if self._lock is not None:
                self._lock.close()

    def _take_lock(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: nothing stops a second process there
            return
        self._lock = (folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{self.place}: another calipose bulk writes there; wait for it, or name another folder"
            ) from None

    def header(self) -> dict[str, Any] | None:
        """What the first run wrote about itself, or None in a new folder.

        Raises:
            InputError: the file is damaged, or of a later version.
        """
        path = f"{self.root}/{HEADER}"
        try:
            data = self.files.open_input_stream(path).read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self.place}/{HEADER} cannot be read: {error}") from None
        header = parse_json(data, f"{self.place}/{HEADER}")
        if not isinstance(header, dict) or not isinstance(header.get("schema"), int):
            raise InputError(f"{self.place}/{HEADER}: not from calipose bulk; name another folder")
        if header["schema"] > VERSION:
            raise InputError(f"{self.place}: rows of schema {header['schema']}; this Calipose knows up to {VERSION}")
        return header

    def begin(self, header: dict[str, Any]) -> None:
        """Say what makes the rows, or check that an earlier run said the same; reads the keys of its rows.

        Raises:
            InputError: the rows there are of another model, calibration, skeleton or score threshold, or a file there
                was not made by a bulk prediction.
        """
        earlier, header = self.header(), json.loads(json.dumps(header))
        if earlier is None:
            if any(True for _ in self.parts()):
                raise InputError(f"{self.place}: holds Parquet files, but no {HEADER}; name another folder")
            self._write(HEADER, json.dumps(header, indent=1).encode())
        else:
            differ = [key for key in MUST_BE_EQUAL if earlier.get(key) != header[key]]
            if differ:
                key = differ[0]
                raise InputError(
                    f"{self.place}: its rows are of {key} {_short(earlier.get(key))}, not {_short(header[key])}; "
                    "name another folder, or delete this one"
                )
        for batch in self.batches(["key"]):
            self.done.update(map(key_hash, batch.column("key").to_pylist()))

    def add(self, table: pa.Table) -> pa.Table:
        """Take rows; those whose key has a row already are passed over. They are in a file after `flush`.

        Args:
            table: of `result_schema`.

        Returns:
            The rows that were new.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        new = []
        for key in table.column("key").to_pylist():
            number = key_hash(key)
            new.append(number not in self.done)
            self.done.add(number)
        table = table.select(result_schema().names).cast(result_schema()).filter(pa.array(new, pa.bool_()))
        good = pc.is_null(table.column("error"))
        for status, rows in (("ok", table.filter(good)), ("error", table.filter(pc.invert(good)))):
            if len(rows):
                self._waiting[status].append(rows)
        return table

    @property
    def waiting(self) -> int:
        """Number of rows that are in no file yet."""
        return sum(len(table) for tables in self._waiting.values() for table in tables)

    def flush(self) -> None:
        """Write the rows that wait, one part for each status.

        Raises:
            WriteError: the folder cannot be written to; the rows still wait.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        for status, tables in self._waiting.items():
            if tables:
                sink = pa.BufferOutputStream()
                pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
                name = f"status={status}/part-{self._run}-{self._parts:06d}.parquet"
                self._write(name, sink.getvalue())
                self._parts += 1
                tables.clear()

    def _write(self, name: str, data: bytes | pa.Buffer) -> None:
        """A file that appears whole: by renaming, or, where a store has no names to change, in one request."""
        if self.local is not None:
            make_folder((self.local / name).parent)
            with replacing(self.local / name) as temporary:
                temporary.write_bytes(data)
            return
        try:
            with self.files.open_output_stream(f"{self.root}/{name}") as stream:
                stream.write(data)
        except OSError as error:
            raise WriteError(f"{self.place}/{name} cannot be written: {error}") from None

    def parts(self) -> Iterator[str]:
        """Paths of the Parquet files, by name, those of predicted images first."""
        from pyarrow.fs import FileSelector

        for status in STATUSES:
            selector = FileSelector(f"{self.root}/status={status}", allow_not_found=True)
            paths = sorted(info.path for info in self.files.get_file_info(selector))
            yield from (path for path in paths if path.endswith(".parquet") and not Path(path).name.startswith("."))

    def batches(self, columns: list[str] | None = None, rows: int = 1000) -> Iterator[pa.RecordBatch]:
        """The rows that are in files, some at a time.

        Raises:
            InputError: a file is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in self.parts():
            try:
                with self.files.open_input_file(path) as file:
                    yield from pq.ParquetFile(file).iter_batches(rows, columns=columns)
            except (OSError, pa.ArrowInvalid) as error:
                raise InputError(
                    f"{path} cannot be read: {error}; delete it, and its images are predicted again"
                ) from None


def _short(value: object) -> str:
    return str(value["name"] if isinstance(value, dict) and "name" in value else value)


def need_ray() -> None:
    """Say what to install where ray or pyarrow is missing.

    Raises:
        InputError: one of them is.
    """
    try:
        for name in ("pyarrow", "ray.data"):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"bulk prediction needs {error.name}: {install_hint('ray')}") from None
