"""Poses as a table of pandas."""

from __future__ import annotations

from typing import Any

from calipose.errors import InputError, install_hint
from calipose.formats.csv import keypoint_columns, keypoint_rows
from calipose.poses import Poses


def to_pandas(poses: Poses) -> Any:
    """A table of poses with the columns of `calipose.formats.csv.COLUMNS`; all columns are always there.

    Poses of `Poses.with_regions` also have the columns "radius" and "coverage".

    Args:
        poses: of one image.

    Returns:
        A `pandas.DataFrame` with one row for each keypoint.

    Raises:
        InputError: pandas is not installed.

    Example:
        table = to_pandas(predictor.predict("photo.jpg"))
        table[table.keypoint == "nose"][["x", "y", "score"]]
    """
    try:
        import pandas
    except ImportError:
        raise InputError(f"to_pandas needs pandas: {install_hint('pandas')}") from None
    regions = poses.coverage is not None
    columns = keypoint_columns(regions)
    return pandas.DataFrame(list(keypoint_rows(poses, regions)), columns=list(columns)).astype(columns)
