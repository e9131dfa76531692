"""Average precision against pycocotools, and its intervals."""

import copy
import json
import time

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.evaluation.ap import (
    MatchTable,
    evaluate_results,
    paired_difference,
)
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.results import read_results
from calipose.skeleton import COCO_17, Skeleton

FIVE = Skeleton("five", tuple("abcde"), (), ((0, 1),), (0.03, 0.05, 0.07, 0.09, 0.11))
FIGURES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar")


def random_problem(seed, skeleton=COCO_17, num_images=25):
    """People of all sizes, crowds, unlabelled people, empty images; poses near them, off them, too many."""
    rng = np.random.default_rng(seed)
    k = len(skeleton)
    images, annotations, results = [], [], []
    for image_id in (rng.permutation(num_images) * 7).tolist():  # ids not in order, 0 among them
        images.append({"id": image_id})
        people = int(rng.choice([0, 1, 2, 5, 9]))
        for _ in range(people):
            side = float(np.exp(rng.uniform(np.log(10), np.log(300))))
            corner = rng.uniform(0, 400, 2)
            points = corner + rng.uniform(0, side, (k, 2))
            v = rng.choice([0, 1, 2], k, p=[0.3, 0.2, 0.5])
            kind = rng.choice(["normal", "unlabelled", "crowd", "labelled crowd"], p=[0.7, 0.15, 0.1, 0.05])
            if kind in ("unlabelled", "crowd"):
                v[:] = 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": np.column_stack([points * (v > 0)[:, None], v]).ravel().tolist(),
                    "num_keypoints": int((v > 0).sum()),
                    "area": side * side * float(rng.uniform(0.3, 0.7)),
                    "bbox": [*corner.tolist(), side, side],
                    "iscrowd": int("crowd" in kind),
                }
            )
            for _ in range(rng.integers(0, 4)):
                noisy = points + rng.normal(0, side * rng.choice([0.01, 0.04, 0.15]), (k, 2))
                results.append((image_id, noisy))
        for _ in range(rng.choice([0, 1, 3, 25], p=[0.4, 0.3, 0.2, 0.1])):
            results.append((image_id, rng.uniform(-50, 450, 2) + rng.uniform(0, 80, (k, 2))))
    entries = [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": np.column_stack([points, np.ones(k)]).ravel().tolist(),
            "score": float(np.round(rng.uniform(), 1)),  # many ties
        }
        for image_id, points in results
    ]
    category = {"id": 1, "name": "thing", "keypoints": list(skeleton.keypoints)}
    return {"images": images, "annotations": annotations, "categories": [category]}, entries


def pycocotools_figures(truth, results, skeleton):
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    ground_truth = coco.COCO()
    ground_truth.dataset = copy.deepcopy(truth)
    ground_truth.createIndex()
    evaluation = cocoeval.COCOeval(ground_truth, ground_truth.loadRes(copy.deepcopy(results)), "keypoints")
    evaluation.params.kpt_oks_sigmas = skeleton.sigmas_array
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("skeleton", [COCO_17, FIVE], ids=lambda s: s.name)
@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed, skeleton, capsys):
    truth, results = random_problem(seed, skeleton)
    expected = pycocotools_figures(truth, results, skeleton)
    capsys.readouterr()
    before = copy.deepcopy((truth, results))
    ours = evaluate_results(truth, results, skeleton)
    assert capsys.readouterr().out == ""
    assert (truth, results) == before
    np.testing.assert_allclose([getattr(ours, f) for f in FIGURES], expected[:6], atol=1e-9)
    assert 0.05 < ours.ap < 0.95
    assert (ours.images, ours.poses) == (25, len(results))


def test_a_resample_equals_copied_images():
    truth, results = random_problem(5, num_images=12)
    copies = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12))
    arrays = read_ground_truth(truth)
    table = MatchTable.match(arrays, read_results(results, arrays))
    again = {"images": [], "annotations": [], "categories": truth["categories"]}
    found = []
    for image_id, times in zip(arrays.image_ids, copies, strict=True):
        for n in range(times):
            new = {"image_id": image_id * 100 + n}
            again["images"].append({"id": new["image_id"]})
            again["annotations"] += [a | new for a in truth["annotations"] if a["image_id"] == image_id]
            found += [r | new for r in results if r["image_id"] == image_id]
    assert table.average_precision(copies) == pytest.approx(evaluate_results(again, found).ap, abs=1e-9)


def test_files_and_setting(tmp_path):
    truth, results = random_problem(1)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    setting = {"flip": True, "scales": [1.0], "short side": 512}
    ours = evaluate_results(tmp_path / "truth.json", tmp_path / "results.json", setting=setting)
    assert ours.to_dict() == evaluate_results(truth, results).to_dict() | {"setting": setting}
    json.dumps(ours.to_dict(), allow_nan=False)
    text = str(ours)
    for wanted in (f"{ours.ap:.3f}", "images", "25", "flip", "True", "512"):
        assert wanted in text


def test_table_is_printed_by_rich():
    from rich.console import Console

    console = Console(width=60)
    with console.capture() as captured:
        console.print(evaluate_results(*random_problem(1), setting={"flip": False}))
    assert "flip" in captured.get()


def test_no_results_are_ap_0_over_all_images():
    truth, _ = random_problem(0)
    ours = evaluate_results(truth, [], bootstrap=20)
    assert (ours.ap, ours.ar, ours.interval, ours.images, ours.poses) == (0, 0, (0, 0), 25, 0)


def test_nobody_to_find_is_nan_not_minus_1():
    truth = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}
    pose = {"image_id": 1, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}
    for results in ([], [pose]):
        ours = evaluate_results(truth, results, bootstrap=5)
        assert np.isnan([ours.ap, ours.ap_large, *ours.interval]).all()
        assert ours.to_dict()["ap"] is None
        assert (ours.images, ours.people) == (1, 0)


def test_an_absurd_pose_does_not_crash():
    truth, results = random_problem(0)
    far = {"image_id": 0, "category_id": 1, "keypoints": [1e200, -1e200, 1] * 17, "score": 1.0}
    far["keypoints"][0] = -1e200
    with np.errstate(all="raise", under="ignore"):
        ours = evaluate_results(truth, [*results, far], bootstrap=1)
    arrays = read_ground_truth(truth)
    table = MatchTable.match(arrays, read_results([*results, far], arrays))
    assert table.average_precision(np.ones(25, np.int64)) == pytest.approx(ours.ap, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 3}, ["entry 1", "image_id 3", "remove"]),
        ({"category_id": 2}, ["entry 1", "category_id", "1"]),
        ({"keypoints": [0.0] * 50}, ["entry 1", "50 numbers", "17"]),
        ({"keypoints": [float("nan")] * 51}, ["entry 1", "finite"]),
        ({"keypoints": [float("inf"), *[0.0] * 50]}, ["entry 1", "finite"]),
        ({"score": float("inf")}, ["entry 1", "finite"]),
        ({"score": "0.5"}, ["score", "[1]"]),
        ({"image_id": "seven"}, ["entry 1", "image_id 'seven'"]),
        ({"image_id": 7.5}, ["image_id", "[1]"]),
    ],
)
@pytest.mark.parametrize("as_file", [False, True])
def test_a_wrong_result_is_named(change, words, as_file, tmp_path):
    truth, results = random_problem(0)
    results[1] = results[1] | change
    source = results
    if as_file:
        source = tmp_path / "found.json"
        source.write_text(json.dumps(results))
        words = [*words, "found.json"]
    with pytest.raises(InputError) as caught:
        evaluate_results(truth, source)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 3}, ["annotations[1]", "image_id 3"]),
        ({"keypoints": [1.0] * 50}, ["annotations[1]", "50 numbers"]),
        ({"keypoints": [float("nan")] * 51}, ["annotations[1]", "finite"]),
        ({"area": -1.0}, ["annotations[1]", "area"]),
        ({"area": None, "bbox": [1.0, 1.0, 0.0, 5.0]}, ["annotations[1]", "area"]),
        ({"keypoints": [], "bbox": None}, ["annotations[1]", "bbox"]),
        ({"keypoints": [], "bbox": []}, ["annotations[1]", "bbox"]),
        ({"bbox": [1.0, 2.0]}, ["annotations[1]", "2 numbers in 'bbox'"]),
    ],
)
def test_a_wrong_annotation_is_named(change, words):
    truth, results = random_problem(0)
    truth["annotations"][1] = truth["annotations"][1] | change
    with pytest.raises(InputError) as caught:
        evaluate_results(truth, results)
    for word in words:
        assert word in str(caught.value)


def test_a_wrong_ground_truth_is_named(tmp_path):
    truth, results = random_problem(0)
    names = list(COCO_17.keypoints)
    cases = {
        "keypoint 1 is 'right_eye', not 'left_eye'": truth
        | {"categories": [{"id": 1, "keypoints": [names[0], names[2], names[1], *names[3:]]}]},
        "2 categories may be": truth | {"categories": [{"id": i, "keypoints": names} for i in (1, 2)]},
        "0 categories may be": truth | {"categories": []},
        "twice": truth | {"images": [*truth["images"], truth["images"][0]]},
        "1 keypoints, skeleton 'coco-17' has 17": truth | {"categories": [{"id": 1, "keypoints": ["a"]}]},
        "categories`": {"images": [], "annotations": []},
    }
    for word, wrong in cases.items():
        with pytest.raises(InputError, match=word):
            evaluate_results(wrong, results)
    for name, text in (("absent.json", None), ("broken.json", "{")):
        if text:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=name):
            evaluate_results(tmp_path / name, results)


@pytest.mark.parametrize(
    "entry",
    [
        {"iscrowd": 1, "bbox": [0.0, 0.0, 20.0, 10.0]},
        {"iscrowd": True, "bbox": [0.0, 0.0, 20.0, 10.0], "keypoints": None, "area": None},
        {"num_keypoints": 0, "iscrowd": None, "bbox": [0.0, 0.0, 20.0, 10.0], "keypoints": []},
    ],
)
def test_who_has_no_labelled_keypoints_needs_no_area(entry):
    labelled = {"image_id": 1, "category_id": 1, "keypoints": [5.0, 5.0, 2] * 17, "area": 40.0}
    entries = [labelled | {"bbox": [], "iscrowd": None}, {"image_id": 1, "category_id": 1} | entry]
    (people,) = read_ground_truth({"images": [{"id": 1}], "annotations": entries, "categories": [{"id": 1}]}).people
    assert people.area.tolist() == [40, 200]
    assert people.ignored.tolist() == [False, True]


def test_other_categories_of_the_ground_truth_are_left_out():
    truth, results = random_problem(2)
    dog = {"image_id": 0, "category_id": 9, "area": 5.0}
    more = truth | {
        "annotations": [dog, *truth["annotations"]],
        "categories": [{"id": 9, "name": "dog", "keypoints": []}, *truth["categories"]],
    }
    assert evaluate_results(more, results) == evaluate_results(truth, results)


def test_interval_is_repeatable_and_holds_the_figure():
    truth, results = random_problem(3)
    first, second = (evaluate_results(truth, results, bootstrap=100, seed=1) for _ in range(2))
    assert first == second
    low, high = first.interval
    assert low < first.ap < high
    assert evaluate_results(truth, results, bootstrap=100, seed=2).interval != first.interval


def test_paired_interval_is_narrower_than_the_single_ones():
    truth, results = random_problem(3, num_images=60)
    rng = np.random.default_rng(0)
    worse = []
    for r in results:
        moved = (np.reshape(r["keypoints"], (17, 3)) + rng.normal(0, [2, 2, 0], (17, 3))).ravel()
        worse.append(r | {"keypoints": moved.tolist()})
    single = evaluate_results(truth, results, bootstrap=200)
    paired = paired_difference(truth, results, worse, bootstrap=200)
    assert paired.ap_a == pytest.approx(single.ap, abs=1e-9)
    assert paired.ap_b == pytest.approx(evaluate_results(truth, worse).ap, abs=1e-9)
    assert paired.difference == paired.ap_a - paired.ap_b > 0
    low, high = paired.interval
    assert low < paired.difference < high
    assert high - low < 0.8 * (single.interval[1] - single.interval[0])
    same = paired_difference(truth, results, results, bootstrap=20)
    assert (same.difference, same.interval) == (0, (0, 0))


def test_bootstrap_is_quick():
    truth, results = random_problem(0, num_images=154)
    start = time.perf_counter()
    evaluate_results(truth, results, bootstrap=200)
    assert time.perf_counter() - start < 10  # about 1 s here; the bound is for loaded machines
