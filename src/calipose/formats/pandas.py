"""Poses as a table of pandas."""

from __future__ import annotations

from typing import Any

from calipose.errors import InputError, install_hint
from calipose.formats.csv import COLUMNS, keypoint_rows
from calipose.poses import Poses


def to_pandas(poses: Poses) -> Any:
    """`pandas.DataFrame` with one row a keypoint and the columns of `calipose.formats.csv.COLUMNS`, all always there.

    Example:
        table = to_pandas(predictor.predict("photo.jpg"))
        table[table.keypoint == "nose"][["x", "y", "score"]]

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError(f"to_pandas needs pandas: {install_hint('pandas')}") from None
    return pandas.DataFrame(list(keypoint_rows(poses)), columns=list(COLUMNS)).astype(COLUMNS)
