"""Makes `src/calipose/data/synthetic/layouts.npz`, from which synthetic people take their poses and positions.

    python tools/make_layouts.py ../shared/data/coco-layouts.npz src/calipose/data/synthetic/layouts.npz

No annotation is copied: the table holds the parameters of mixtures of Gaussians fitted to COCO train2017's
keypoint annotations (CC BY 4.0, the COCO Consortium). Used are people whose 12 body joints are all labelled,
whose pose is at least 48 px in diagonal, and whose head shows a face or is seen from behind. What the table
keeps:

    pose_weight (c,), pose_mean (c, 34), pose_factor (c, 34 * 35 / 2)  joints about the middle of shoulders
        and hips, in units of the diagonal of the body joints' box; the factor is the lower Cholesky
        triangle, row by row
    pose_back (c,)         1 where the component is of people without a visible face (seen from behind)
    pose_seen (c, 17)      how often the joint is visible where it is labelled
    people (6,)            how often an image has 1 .. 6 people
    first_* (log size, x, y) of an image's largest person, other_* (log size ratio, dx, dy) of the rest
        relative to it: size is the box's longer side by the image's height, x and y fractions of the
        image, dx and dy in the largest person's size
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calipose.skeleton import COCO_17

Floats = NDArray[np.float64]
SEED = 17
FACE_COMPONENTS, BACK_COMPONENTS, PLACE_COMPONENTS = 150, 26, 10
RIDGE = 1e-5  # added to variances: about 0.3 % of a person's size, below an annotator's noise
FEWEST_PIXELS = 48


def fit_mixture(x: Floats, components: int, rng: np.random.Generator, rounds: int = 15) -> tuple[Floats, ...]:
    """Weights (c,), means (c, d), lower Cholesky factors (c, d, d) and responsibilities (n, c) by EM."""
    n, d = x.shape
    means = x[rng.choice(n, components, replace=False)]
    for _ in range(10):  # k-means for a start
        nearest = ((means**2).sum(1) - 2 * x @ means.T).argmin(1)
        means = np.stack([x[nearest == c].mean(0) if (nearest == c).any() else means[c] for c in range(components)])
    r = np.eye(components)[nearest]
    pooled = np.cov((x - means[nearest]).T)
    for _ in range(rounds):
        mass = r.sum(0) + 1e-9
        weights, means = mass / mass.sum(), (r.T @ x) / mass[:, None]
        logs, factors = np.empty((n, components)), np.empty((components, d, d))
        for c in range(components):
            dx = x - means[c]
            # a component of few people leans on the covariance of all of them
            covariance = ((r[:, c, None] * dx).T @ dx + 20 * pooled) / (mass[c] + 20)
            factors[c] = np.linalg.cholesky(covariance + RIDGE * np.eye(d))
            z = dx @ np.linalg.inv(factors[c]).T
            logs[:, c] = np.log(weights[c]) - np.log(np.diag(factors[c])).sum() - 0.5 * (z**2).sum(1)
        r = np.exp(logs - logs.max(1, keepdims=True))
        r /= r.sum(1, keepdims=True)
    return weights, means, factors, r


def complete(x: Floats, known: NDArray[np.bool_], rounds: int = 8) -> Floats:
    """Rows of x (n, d) with unknown entries set to their expectation under one Gaussian fitted by EM."""
    d = x.shape[1]
    mean = np.array([x[known[:, j], j].mean() for j in range(d)])
    filled = np.where(known, x, mean)
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    covariance = np.cov(filled.T) + 1e-4 * np.eye(d)
    for _ in range(rounds):
        extra = np.zeros((d, d))
        for p, seen in enumerate(patterns):
            rows = np.flatnonzero(which == p)
            hidden = ~seen
            gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, hidden)])
            filled[np.ix_(rows, hidden)] = mean[hidden] + (x[np.ix_(rows, seen)] - mean[seen]) @ gain
            left = covariance[np.ix_(hidden, hidden)] - covariance[np.ix_(hidden, seen)] @ gain
            extra[np.ix_(hidden, hidden)] += len(rows) * left
        mean = filled.mean(0)
        covariance = np.cov(filled.T) + extra / len(x) + 1e-5 * np.eye(d)
    return filled


def pose_table(xy: Floats, v: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Mixture of poses; xy (n, 17, 2) in pixels, v (n, 17)."""
    labelled = v > 0
    body = xy[:, 5:]
    diagonal = np.linalg.norm(body.max(1) - body.min(1), axis=-1)
    spine = xy[:, [11, 12]].mean(1) - xy[:, [5, 6]].mean(1)
    across = xy[:, 5] - xy[:, 6]
    chest = across[:, 0] * spine[:, 1] - across[:, 1] * spine[:, 0] > 0  # the left shoulder is on the right
    face = labelled[:, 0] & labelled[:, 1:3].any(1)
    behind = ~labelled[:, :3].any(1) & labelled[:, 3:5].any(1) & ~chest
    used = labelled[:, 5:].all(1) & (diagonal > FEWEST_PIXELS) & (face | behind)
    xy, labelled, v, behind, diagonal = xy[used], labelled[used], v[used], behind[used], diagonal[used]
    x = (xy - xy[:, [5, 6, 11, 12]].mean(1)[:, None]) / diagonal[:, None, None]

    # Seen from behind, a body is the body seen from the front with left and right exchanged: the face, which
    # annotators do not label from behind, is completed by what is known of faces.
    flip = COCO_17.flip_index
    x[behind], swapped = x[behind][:, flip], labelled.copy()
    swapped[behind] = labelled[behind][:, flip]
    x = complete(x.reshape(len(x), -1), np.repeat(swapped, 2, axis=1)).reshape(x.shape)
    x[behind] = x[behind][:, flip]

    parts: dict[str, list[NDArray[np.generic]]] = {}
    for rows, components in ((~behind, FACE_COMPONENTS), (behind, BACK_COMPONENTS)):
        weights, means, factors, r = fit_mixture(x[rows].reshape(-1, 34), components, rng)
        mass = r.T @ labelled[rows]
        columns = {
            "pose_weight": (weights * rows.mean()).astype(np.float32),
            "pose_mean": means.astype(np.float16),
            "pose_factor": factors[:, *np.tril_indices(34)].astype(np.float16),
            "pose_back": np.full(components, not rows[~behind].any(), np.uint8),
            "pose_seen": ((r.T @ (v[rows] == 2) + 1) / (mass + 1)).astype(np.float16),
        }
        for name, column in columns.items():
            parts.setdefault(name, []).append(column)
    print(f"{len(x)} poses, {behind.mean():.1%} seen from behind")
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def place_table(
    image_id: NDArray[np.int32], box: Floats, size: Floats, rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    """Mixtures of where people are; box (n, 4) centre and size as fractions, size (n, 2) pixels."""
    aspect = size[:, 0] / size[:, 1]
    longer = np.maximum(box[:, 2] * aspect, box[:, 3])  # by the image's height
    order = np.lexsort((-longer, image_id))
    _, start, count = np.unique(image_id[order], return_index=True, return_counts=True)
    few = count <= 6
    start, count = start[few], count[few]
    first = order[start]
    other = np.concatenate([order[s + 1 : s + c] for s, c in zip(start, count, strict=True)])
    owner = np.repeat(first, count - 1)
    height = np.stack([aspect, np.ones_like(aspect)], axis=1)  # image fractions -> fractions of its height
    step = (box[other, :2] - box[owner, :2]) * height[owner] / longer[owner, None]
    tables = {
        "first": np.column_stack([np.log(longer[first]), box[first, :2]]),
        "other": np.column_stack([np.log(longer[other] / longer[owner]), step]),
    }
    out: dict[str, NDArray[np.generic]] = {"people": (np.bincount(count, minlength=7)[1:] / len(count)).astype("f4")}
    for name, x in tables.items():
        weights, means, factors, _ = fit_mixture(x, PLACE_COMPONENTS, rng, rounds=40)
        out |= {f"{name}_weight": weights.astype("f4"), f"{name}_mean": means.astype("f4")}
        out |= {f"{name}_factor": factors.astype("f4")}
    print(f"{len(first)} images, {len(first) + len(other)} people in them")
    return out


def main(source: Path, target: Path) -> None:
    """Fit both tables and write them."""
    with np.load(source) as file:
        layouts = {name: file[name] for name in file.files}
    sized = (layouts["size"] > 0).all(1)  # without the image's size the shape of a pose is unknown
    image_id, v = layouts["image_id"][sized], layouts["v"][sized]
    size = layouts["size"][sized].astype(np.float64)
    rng = np.random.default_rng(SEED)
    table = pose_table(layouts["xy"][sized] / 65535.0 * size[:, None], v, rng)
    table |= place_table(image_id, layouts["box"][sized] / 65535.0, size, rng)
    table["source"] = np.array("fitted to COCO train2017 keypoint annotations (CC BY 4.0, COCO Consortium)")
    np.savez_compressed(target, **table)
    print(f"{target}: {target.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
