"""What the packaged models found in the images of their calibration, from which `predict` knows other images.

Predicts images that were kept apart with `fast` and `accurate`, and writes `fast.images.json` and
`accurate.images.json` beside the networks, whose files stay as they are.

    python tools/default_images.py DATA [--models fast]
"""

from __future__ import annotations

import argparse

from calipose.calibration.maps import Calibration
from calipose.data.locate import find_data
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.beside import write_images_beside
from calipose.inference.packaged import ACCURATE, FAST, packaged
from calipose.inference.predictor import Predictor


def main() -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="images that no network was trained on")
    parser.add_argument("--models", nargs="+", default=[FAST, ACCURATE])
    options = parser.parse_args()
    annotations, images = find_data(options.data)
    for name in options.models:
        predictor = Predictor(name).with_calibration(Calibration())
        summaries = evaluate_predictor(predictor, annotations, images).image_summaries(images)
        print(f"{write_images_beside(summaries, packaged(name))}: {len(summaries)} images")


if __name__ == "__main__":
    main()
