"""Rules that choose a score threshold for a target precision: how often they are wrong, and what they keep.

    python experiments/precision_targets.py [--sets 200] [--images 39 154 400]
    python experiments/precision_targets.py --results RESULTS.json --ground-truth ANNOTATIONS.json [--targets 0.9@0.5]

Without results: simulated poses (simulated_poses.py), where the true precision above each threshold is known. A rule
that promises 95 % confidence may choose a threshold of lower precision than asked for in 5 % of the sets. Its power is
the share of the correct poses that it keeps, of those above the lowest threshold that is right; a refusal keeps none.
With results, of raw scores: the same on halves of the images, chosen on one, judged by the other.

Rules: `kish` counts each image about once (before 2026-11-26); `alike` measures how alike the poses of an image are
(PrecisionTable); both as fixed-sequence tests. `smoothed`, which ships: the same of an isotonic fit. `band`:
the lowest threshold where the 5 % quantile of a bootstrap over images of the isotonic fit's mean reaches the target.
`betting`: learn then test with a betting martingale over images. `expected`: conformal risk control of the share, which
promises the target on average only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from calipose.calibration.isotonic import isotonic
from calipose.calibration.precision import EACH, OKS_LEVELS, STARTS, PrecisionTable, PrecisionTarget, lowest_supported
from calipose.errors import InputError
from calipose.evaluation.evaluation import Evaluation
from simulated_poses import SimulatedPoses, simulate

TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "scores right": lambda s: s,
    "scores too high": lambda s: s**1.5,
    "scores tell nothing": lambda s: 0.6 + 0 * s,
}
TARGETS = ("0.6@0.5", "0.7@0.5", "0.8@0.5", "0.9@0.5", "0.7@0.75")
BAND_DRAWS = 200


def fixed_sequence(poses: SimulatedPoses, target: PrecisionTarget, how: str) -> float:
    """The threshold of a fixed-sequence test; inf where refused."""
    table = PrecisionTable.count(poses.score, poses.oks, poses.image, 1)
    shares = np.array(table.num_correct[OKS_LEVELS.index(target.oks)]) / table.poses
    if how == "smoothed":
        shares = table.shares(target.oks)
    trials = list(table.trials) if how == "kish" else table.independent(target.oks)
    chosen = lowest_supported(shares, trials, target.precision)
    return table.raw[chosen] if chosen >= 0 else np.inf


def by_image(poses: SimulatedPoses, target: PrecisionTarget) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds (t,) falling, and (t, images) poses kept and correct ones."""
    order = np.argsort(-poses.score)
    ends = np.unique(np.linspace(0, len(order) - 1, 60).round().astype(int))
    place = np.unique(poses.image, return_inverse=True)[1][order]
    good = poses.oks[order] >= target.oks
    kept = np.stack([np.bincount(place[: end + 1], minlength=place.max() + 1) for end in ends])
    correct = np.stack([np.bincount(place[: end + 1], good[: end + 1], place.max() + 1) for end in ends])
    return poses.score[order][ends], kept, correct


def band(poses: SimulatedPoses, target: PrecisionTarget) -> float:
    """The lowest threshold whose bootstrapped, smoothed precision is high enough in 95 % of the resamples."""
    thresholds, kept, correct = by_image(poses, target)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(kept.shape[1], np.full(kept.shape[1], 1 / kept.shape[1]), BAND_DRAWS)
    n, c = weights @ kept.T, weights @ correct.T
    steps, gains = np.diff(n, axis=1, prepend=0), np.diff(c, axis=1, prepend=0)
    smooth = [
        np.cumsum(isotonic((g / np.maximum(s, 1e-9))[::-1], np.maximum(s, 1e-9))[::-1] * s) / np.maximum(s.cumsum(), 1)
        for s, g in zip(steps.astype(float), gains, strict=True)
    ]
    fine = np.flatnonzero(np.quantile(smooth, 0.05, axis=0) >= target.precision)
    fine = fine[kept.sum(1)[fine] >= np.log(0.05) / np.log(target.precision)]
    return float(thresholds[fine[-1]]) if len(fine) else np.inf


def betting(poses: SimulatedPoses, target: PrecisionTarget) -> float:
    """Fixed-sequence testing of "correct - target x kept has no positive mean over images" by a betting martingale."""
    thresholds, kept, correct = by_image(poses, target)
    gain = (correct - target.precision * kept)[:, np.random.default_rng(0).permutation(kept.shape[1])]
    most = max(kept.max() * target.precision, 1e-9)
    chosen = -1
    for start in range(STARTS):
        i = int(len(thresholds) * (start + 1) / (STARTS + 1))
        while i < len(thresholds):
            x = gain[i] / most
            before = np.arange(1, len(x) + 1)
            mean = np.append(0.0, x.cumsum()[:-1]) / before
            square = (0.05 + np.append(0.0, (x**2).cumsum()[:-1])) / before
            wealth = np.log1p((mean / square).clip(0, 0.75) * x).cumsum().max()
            if wealth < np.log(1 / EACH):
                break
            chosen = max(chosen, i)
            i += 1
    return float(thresholds[chosen]) if chosen >= 0 else np.inf


def expected(poses: SimulatedPoses, target: PrecisionTarget) -> float:
    """Conformal risk control: the lowest threshold where the loss over images, and one image of the worst, is <= 0."""
    thresholds, kept, correct = by_image(poses, target)
    loss = (target.precision * kept - correct).sum(1) + target.precision * kept.max(1)
    fails = np.flatnonzero(np.maximum.accumulate(loss[::-1])[::-1] <= 0)
    fine = np.flatnonzero(loss <= 0) if not len(fails) else fails
    return float(thresholds[fine[-1]]) if len(fine) else np.inf


RULES: dict[str, Callable[[SimulatedPoses, PrecisionTarget], float]] = {
    "kish": lambda poses, target: fixed_sequence(poses, target, "kish"),
    "alike": lambda poses, target: fixed_sequence(poses, target, "alike"),
    "smoothed": lambda poses, target: fixed_sequence(poses, target, "smoothed"),
    "band": band,
    "betting": betting,
    "expected": expected,
}


def truth_above(poses: SimulatedPoses, oks: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of very many poses: scores falling, the precision from each on, and the number of correct ones."""
    order = np.argsort(-poses.score)
    correct = np.cumsum(poses.oks[order] >= oks)
    return poses.score[order], correct / np.arange(1, len(order) + 1), correct


def simulation(images: int, truth: str, alike: float, sets: int) -> None:
    """One line a target and rule."""
    many = simulate(np.random.default_rng(99), 60_000, TRUTHS[truth], alike)
    for text in TARGETS:
        target = PrecisionTarget.parse(text)
        score, precision, correct = truth_above(many, target.oks)
        right = np.flatnonzero(precision[200:] >= target.precision)
        best = correct[right[-1] + 200] if len(right) else 0
        cells = []
        for rule in RULES.values():
            wrong, power = [], []
            for seed in range(sets):
                threshold = rule(simulate(np.random.default_rng(seed), images, TRUTHS[truth], alike), target)
                at = int(np.searchsorted(-score, -threshold, side="right")) - 1
                above = at >= 0 and np.isfinite(threshold)
                wrong.append(above and precision[max(at, 200)] < target.precision)
                power.append(correct[at] / best if above and best and not wrong[-1] else 0.0)
            cells.append(f"{np.mean(wrong):.3f} / {np.mean(power):.2f}")
        print(f"| {images} | {truth} | {alike:g} | {text} | {' | '.join(cells)} |", flush=True)


def judged_by_the_other(
    poses: SimulatedPoses, rule: Callable[[SimulatedPoses], float], oks: float, firsts: Sequence[np.ndarray]
) -> tuple[list[float], list[float]]:
    """Thresholds chosen on one half of the poses, judged by the other one.

    Args:
        poses: of which each of `firsts`, (n,) bool, is a half.
        rule: chooses a threshold; inf where refused.
        oks: from which a pose is correct.
        firsts: the halves that are chosen on.

    Returns:
        The share of correct poses above, of each half that was granted one; and of all, the share of the correct kept.
    """
    good, got, kept = poses.oks >= oks, [], []
    for first in firsts:
        half = SimulatedPoses(*(values[first] for values in vars(poses).values()))
        above = ~first & (poses.score >= rule(half))
        kept.append(float((above & good).sum() / max((~first & good).sum(), 1)))
        if above.any():
            got.append(float(good[above].mean()))
    return got, kept


def halves(results: str, ground_truth: str, splits: int, targets: Sequence[str]) -> None:
    """Chosen on one half of the images, judged by the other."""
    evaluation = Evaluation(ground_truth, results)
    matches = evaluation.matches
    people = int(evaluation.truth.wanted.sum())
    table = PrecisionTable.count(matches.score, matches.oks, matches.image, people)
    for text in targets:
        try:
            print(f"{text}, all images: {table.choose(PrecisionTarget.parse(text))}")
        except InputError as error:
            print(f"{text}, all images: refused ({error})")
    poses = SimulatedPoses(matches.score, matches.score, matches.oks, matches.image)
    images = np.unique(poses.image)
    firsts = [
        np.isin(poses.image, np.random.default_rng(seed).permutation(images)[: len(images) // 2])
        for seed in range(splits)
    ]
    print("granted; precision got (how often below the target); share of the correct poses kept")
    print(f"| target | {' | '.join(RULES)} |\n|{'---|' * (len(RULES) + 1)}")
    for text in targets:
        target = PrecisionTarget.parse(text)
        cells = []
        for rule in RULES.values():
            got, kept = judged_by_the_other(
                poses, lambda half, rule=rule, target=target: rule(half, target), target.oks, firsts
            )
            share = f"{np.mean(got):.2f} ({np.mean(np.array(got) < target.precision):.2f} below)" if got else "-"
            cells.append(f"{len(got) / splits:.2f}; {share}; {np.mean(kept):.2f}")
        print(f"| {text} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Simulate, or split the results; print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--images", type=int, nargs="+", default=[39, 154, 400])
    parser.add_argument("--targets", nargs="+", default=TARGETS, help="with results")
    parser.add_argument("--rules", nargs="+", choices=tuple(RULES), default=tuple(RULES), help="with results")
    parser.add_argument("--results")
    parser.add_argument("--ground-truth")
    options = parser.parse_args()
    if options.results:
        for rule in set(RULES) - set(options.rules):
            del RULES[rule]
        halves(options.results, options.ground_truth, options.sets, options.targets)
        return
    print(f"wrong / power, {options.sets} sets")
    print(f"| images | truth | alike | target | {' | '.join(RULES)} |\n|{'---|' * (len(RULES) + 4)}")
    for images in options.images:
        for truth in TRUTHS:
            for alike in (0.0, 0.3, 0.7):
                simulation(images, truth, alike, options.sets)


if __name__ == "__main__":
    main()
