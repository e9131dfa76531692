"""Poses of a `ray.data.Dataset` of images: a pool of workers, each with the model loaded once."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calipose.bulk.schema import digest, result_schema, row_of_poses
from calipose.bulk.sources import Row, open_image
from calipose.errors import ImageError
from calipose.inference.opening import model_files
from calipose.inference.packaged import DEFAULT
from calipose.io.ahead import done_ahead
from calipose.io.images import Image

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

    from calipose.inference.predictor import Predictor

AHEAD = 2  # images that are read and decoded while one is in the network
MAX_RETRIES = 3  # of a block of images whose worker died


@dataclass(frozen=True)
class ModelOptions:
    """Which model a worker opens, and how.

    Attributes:
        model: as `Predictor` takes it; a file must be there on each machine, under the same name.
        min_score: poses below are left out.
        short_side: of the network's input, in pixels; 0: the model's.
        scales: multiples of it; empty: the model's.
        device: of a checkpoint.
        providers: of an ONNX file, such as "cuda".
        threads: of an ONNX file.
        batch_size: images of equal size that go through the network together.
    """

    model: str = DEFAULT
    min_score: float = 0.3
    short_side: int = 0
    scales: tuple[float, ...] = ()
    device: str = ""
    providers: tuple[str, ...] = ()
    threads: int = 1
    batch_size: int = 1

    def open(self) -> Predictor:
        """The predictor.

        Raises:
            InputError: as `Predictor`.
        """
        from calipose.inference.predictor import Predictor

        predictor = Predictor(
            self.model, device=self.device, providers=list(self.providers) or None, threads=self.threads
        )
        settings = predictor.settings
        return predictor.with_settings(
            short_side=self.short_side or settings.short_side,
            scales=self.scales or settings.scales,
            score_threshold=min(settings.score_threshold, self.min_score),
        )

    def model_id(self, predictor: Predictor) -> str:
        """Name of the model with a digest of its files and settings."""
        whole = hashlib.sha256(repr(predictor.settings).encode())
        for file in model_files(self.model):
            whole.update(file.read_bytes())
        return f"{Path(self.model).name}-{whole.hexdigest()[:12]}"

    def common(self, predictor: Predictor) -> dict[str, str | None]:
        """The columns of `result_schema` that are the same in all rows of a model."""
        return {
            "skeleton": predictor.skeleton.name,
            "model": self.model_id(predictor),
            "calibration": calibration_id(predictor),
        }


def calibration_id(predictor: Predictor) -> str | None:
    """A digest of what the scores mean; None where they are the network's own."""
    return None if predictor.calibration.is_identity else digest(predictor.calibration.to_dict())


class PoseWorker:
    """What runs in each worker: tables of images in, tables of `result_schema` out.

    Args:
        options: the model, opened once.
    """

    def __init__(self, options: ModelOptions) -> None:
        self.options = options
        self.predictor = options.open()
        self.predictor.warm_up()
        self.common = options.common(self.predictor)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Predict the images of a table with the columns "key" and "place" (or "data", or "error")."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.rows(table.to_pylist()), schema=result_schema())

    def rows(self, rows: list[Row]) -> list[dict[str, Any]]:
        """One result for each row, in order; what is wrong with an image is in its "error".

        Raises:
            InputError: the model is damaged.
        """
        results: list[dict[str, Any]] = []
        waiting: list[tuple[Row, Image]] = []
        for row, image in _opened(rows):
            if isinstance(image, str):
                results.append({"key": row["key"], "error": image, **self.common})
                continue
            waiting.append((row, image))
            if len(waiting) == self.options.batch_size:
                results += self._predict(waiting)
                waiting = []
        return results + self._predict(waiting)

    def _predict(self, images: list[tuple[Row, Image]]) -> list[dict[str, Any]]:
        results = []
        found = self.predictor.predict_many([image for _, image in images], max(1, len(images))) if images else ()
        for (row, _), poses in zip(images, found, strict=True):
            results.append({"key": row["key"], **row_of_poses(poses.above(self.options.min_score)), **self.common})
        return results


def _opened(rows: list[Row]) -> Iterator[tuple[Row, Image | str]]:
    """The images, read a little ahead, or what is wrong with them."""

    def open_one(row: Row) -> Image | str:
        try:
            return open_image(row)
        except ImageError as error:
            return str(error)
        except Exception as error:  # a decoder's own error: of this image, not of the run
            return f"image {row['key']} cannot be read: {type(error).__name__}: {error}"

    yield from done_ahead(rows, open_one, AHEAD)


def predict_dataset(
    dataset: Dataset,
    options: ModelOptions | None = None,
    *,
    workers: int = 1,
    cpus: float = 1,
    gpus: float = 0,
) -> Dataset:
    """Poses of the images of a dataset, lazily: nothing runs before the result is read or written.

    Args:
        dataset: rows with a "key" (text) and "data" (bytes of an image file) or "place" (path or URI, text or bytes).
            Other columns are left out.
        options: the model; by default the package's default.
        workers: processes, each with its own model.
        cpus: that each takes.
        gpus: that each takes; a fraction lets several share one.

    Returns:
        A dataset of one row an image, in any order, with the columns of `calipose.bulk.schema.result_schema`. An image
        that cannot be read has an "error" and no poses.

    Raises:
        InputError: ray is not installed.

    Example:
        >>> images = ray.data.read_binary_files("s3://bucket/images", include_paths=True)
        >>> images = images.rename_columns({"path": "key", "bytes": "data"})
        >>> predict_dataset(images, workers=8).write_parquet("s3://bucket/poses")
    """
    return map_images(dataset, options or ModelOptions(), workers, cpus, gpus)


def map_images(
    dataset: Dataset, options: ModelOptions, workers: int, cpus: float, gpus: float, in_flight: int | None = None
) -> Dataset:
    """As `predict_dataset`, with the number of blocks that a worker holds; those of a worker that dies die with it."""
    from calipose.bulk.store import need_ray

    need_ray()
    from ray.data import ActorPoolStrategy

    with warnings.catch_warnings():
        # Without a limit, an image that kills its worker would do so for ever; no named parameter sets it.
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*deprecated")
        return dataset.map_batches(
            PoseWorker,
            fn_constructor_args=(options,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=in_flight),
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=MAX_RETRIES,
        )
