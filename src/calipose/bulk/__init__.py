"""Prediction of millions of images on Ray Data: from folders, Parquet or tar shards to Parquet (docs/scale.md).

Needs the extra `ray`; ray and pyarrow are imported inside of functions only.
"""

from calipose.bulk.convert import convert, read_rows
from calipose.bulk.dataset import ModelOptions, predict_dataset
from calipose.bulk.run import BulkOptions, Summary, predict_bulk

__all__ = ["BulkOptions", "ModelOptions", "Summary", "convert", "predict_bulk", "predict_dataset", "read_rows"]
