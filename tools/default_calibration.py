"""All that is known of the packaged models' scores: maps, precision, regions, and what their images are like.

Predicts labelled images of one or several data sets with each model, fits on all of them together, writes
`onepass.calipose.json` beside `onepass.onnx` and `onepass.safetensors`, whose files stay as they are, and the
calibration in `accurate.model.json` and `fast.model.json`. No weight is fitted: those of the second look stay, too.

    python tools/default_calibration.py DATA [DATA ...] --name TEXT [--models fast]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from calipose.calibration.maps import Calibration
from calipose.cli.calibrate import describe
from calipose.config.stored import StoredModel, write_stored
from calipose.data.locate import find_data
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.opening import read_two_networks, write_two_networks
from calipose.inference.packaged import ACCURATE, FAST, ONEPASS, packaged
from calipose.inference.predictor import Predictor


def put_together(sources: list[str]) -> tuple[dict[str, Any], Path]:
    """The annotations of several data sets as one, and the folder that its file names are relative to."""
    found = [find_data(source) for source in sources]
    root = Path(os.path.commonpath([folder.resolve() for _, folder in found]))
    content: dict[str, Any] = {"images": [], "annotations": []}
    for file, folder in found:
        part = json.loads(file.read_text())
        content["categories"] = part["categories"]
        content["annotations"] += part["annotations"]
        below = folder.resolve().relative_to(root)
        content["images"] += [image | {"file_name": str(below / image["file_name"])} for image in part["images"]]
    return content, root


def main() -> None:
    """Predict, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", nargs="+", help="images on which we trained no network")
    parser.add_argument("--name", required=True, help="of the data, kept in the files")
    parser.add_argument("--models", nargs="+", choices=(ACCURATE, FAST, ONEPASS), default=[ACCURATE, FAST, ONEPASS])
    options = parser.parse_args()
    content, root = put_together(options.data)
    for name in options.models:
        predictor = Predictor(name).with_calibration(Calibration())  # gives the network's own scores
        evaluation = evaluate_predictor(predictor, content, root)
        calibration = evaluation.fit_calibration(predictor.setting, options.name)
        path = packaged(name)
        if name == ONEPASS:
            path = write_stored(path, StoredModel(calibration=calibration), any_file=True)
        else:
            write_two_networks(path, msgspec.structs.replace(read_two_networks(path), calibration=calibration))
        print(f"{path}: {describe(calibration)}; {len(calibration.images)} images summarized", flush=True)


if __name__ == "__main__":
    main()
