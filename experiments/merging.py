"""How the poses of several input sizes are best put together, and which sizes: AP against the single size.

"best" is what the predictor does: pose NMS over the poses of all sizes, so the size of the highest score wins. "mean"
averages the poses that the sizes show of a person, scores too, weighted by the scores; a size that does not show the
person does not count.

    python experiments/merging.py --data ANNOTATIONS.json=IMAGES [--model onepass]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from calipose.data.locate import find_data
from calipose.evaluation.ap import evaluate_results, paired_difference
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.geometry import Floats, oks, pose_area, pose_nms
from calipose.inference.predictor import Predictor
from calipose.inference.scales import ScaleCandidates, merge_scales
from calipose.io.images import read_image
from calipose.poses import Poses

SETS = ((1.0,), (0.5, 1.0, 1.5), (0.35, 1.0), (0.5, 1.0), (0.6, 1.0), (0.75, 1.0), (0.35, 0.6, 1.0), (0.5, 1.25))
MEANS = SETS[1:3]  # where both ways are compared


def best(views: Sequence[ScaleCandidates], sigmas: Floats, threshold: float) -> ScaleCandidates:
    """Pose NMS over the poses of all sizes."""
    joined = merge_scales(views)
    return joined[pose_nms(joined.keypoints_img, joined.raw_scores, sigmas, threshold)]


def mean(views: Sequence[ScaleCandidates], sigmas: Floats, threshold: float) -> ScaleCandidates:
    """For each of the best poses, the mean of what the sizes say of the same person."""
    chosen, everywhere = best(views, sigmas, threshold), np.ones(len(sigmas), bool)
    keypoints, scores = [], []
    for pose in chosen.keypoints_img:
        group = []
        for view in views:
            similarity = oks(view.keypoints_img, pose, everywhere, pose_area(pose), sigmas)
            if len(similarity) and similarity.max() > threshold:
                nearest = similarity.argmax()
                group.append((view.keypoints_img[nearest], view.raw_scores[nearest]))
        weights = np.maximum([score for _, score in group], 1e-3)
        keypoints.append(np.average([points for points, _ in group], 0, weights))
        scores.append(np.mean([score for _, score in group]))
    return ScaleCandidates(np.array(keypoints).reshape(chosen.keypoints_img.shape), np.array(scores).reshape(-1))


def main() -> None:
    """Predict once at each size, put together in all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="onepass")
    options = parser.parse_args()
    annotations, folder = find_data(options.data)
    predictor = Predictor(options.model)
    settings, sigmas = predictor.settings, predictor.skeleton.sigmas_array
    seen: list[tuple[int, tuple[int, int], dict[float, ScaleCandidates]]] = []
    for image_id, name in read_ground_truth(annotations).files.items():
        image = read_image(folder / name, ignore_orientation=True)
        sides = sorted({scale for scales in SETS for scale in scales})
        views = {scale: predictor.candidates_at_size([image], round(settings.short_side * scale))[0] for scale in sides}
        seen.append((image_id, (image.shape[1], image.shape[0]), views))

    def results(
        scales: tuple[float, ...], way: Callable[[Sequence[ScaleCandidates], Floats, float], ScaleCandidates]
    ) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = []
        for image_id, size, views in seen:
            view = way([views[scale] for scale in scales], sigmas, settings.nms_threshold)
            good = view[np.flatnonzero(view.raw_scores > settings.score_threshold)]
            poses = Poses(good.keypoints_img, good.raw_scores, size, skeleton=predictor.skeleton)
            entries += poses.sorted().to_coco(image_id)
        return entries

    single = results(SETS[0], best)
    rows = [("best", scales, results(scales, best)) for scales in SETS]
    rows += [("mean", scales, results(scales, mean)) for scales in MEANS]
    print("| way | scales | pixels | AP | AP50 | APM | APL | lead in AP over the single size (95 %) |")
    print("|---|---|---|---|---|---|---|---|")
    for way, scales, entries in rows:
        figures = evaluate_results(annotations, entries, predictor.skeleton)
        lead = paired_difference(annotations, entries, single, predictor.skeleton)
        values = (figures.ap, figures.ap50, figures.ap_medium, figures.ap_large)
        print(
            f"| {way} | {', '.join(f'{s:g}' for s in scales)} | x {sum(s * s for s in scales):.2f} |"
            f" {' | '.join(f'{value:.3f}' for value in values)} |"
            f" {lead.difference:+.3f} ({lead.interval[0]:+.3f} to {lead.interval[1]:+.3f}) |"
        )


if __name__ == "__main__":
    main()
