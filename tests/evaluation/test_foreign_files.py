"""Ground truth and results as other tools write them give the same figures, and what was assumed is said."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import calipose
from calipose.errors import InputError
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import read_ground_truth
from standing_people import STANDING, annotation, result, truth_of

NAN = float("nan")


def content(images=30, seed=0):
    """A person an image, with the area that is assumed without one; a pose near each, and one of nobody."""
    rng = np.random.default_rng(seed)
    people = [annotation(i, i, STANDING + i) for i in range(1, images + 1)]
    for person in people:
        person["area"] = 0.53 * person["bbox"][2] * person["bbox"][3]
    poses = []
    for i in range(1, images + 1):
        poses.append(result(i, STANDING + i + rng.normal(0, 3, (17, 2)), float(rng.random()), rng.random(17)))
        poses.append(result(i, STANDING + 400, float(rng.random()), rng.random(17)))
    return truth_of(people, images), poses


def text_ids(truth, poses):
    for image in truth["images"]:
        image["id"] = str(image["id"])
    for entry in truth["annotations"]:
        entry["image_id"] = str(entry["image_id"])


def of_all(part, change):
    def apply(truth, poses):
        for entry in poses if part == "results" else truth[part]:
            change(entry)

    return apply


def as_triples(entry):
    entry["keypoints"] = np.reshape(entry["keypoints"], (-1, 3)).tolist()


HABITS = {
    "no area": (of_all("annotations", lambda e: e.pop("area")), "got 0.53 x the area of their box (30)"),
    "area 0": (of_all("annotations", lambda e: e.update(area=0)), "got 0.53 x the area of their box (30)"),
    "ids as text": (text_ids, "ground truth: ids written as text or with decimals were read as whole numbers (60)"),
    "triples": (of_all("annotations", as_triples), "ground truth: entries whose 'keypoints' are lists of three"),
    "names": (
        of_all("categories", lambda e: e.update(keypoints=[name.replace("_", " ").title() for name in e["keypoints"]])),
        "names differ",
    ),
    "no names": (of_all("categories", lambda e: e.pop("keypoints")), "the skeleton's order was assumed"),
    "image ids of results as text": (
        of_all("results", lambda e: e.update(image_id=f"{e['image_id']:06d}")),
        "results: image ids written as text were read as numbers (60)",
    ),
    "category ids of results as text": (
        of_all("results", lambda e: e.update(category_id="1")),
        "results: ids written as text or with decimals were read as whole numbers (60)",
    ),
    "triples of results": (of_all("results", as_triples), "results: entries whose 'keypoints' are lists of three"),
}


@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_is_read_and_said(tmp_path, habit, as_files):
    change, said = HABITS[habit]
    expected = Evaluation(*content())
    assert expected.assumptions == []
    truth, poses = content()
    change(truth, poses)
    given = copy.deepcopy((truth, poses))
    sources = truth, poses
    if as_files:
        sources = tmp_path / "truth.json", tmp_path / "results.json"
        for path, entries in zip(sources, (truth, poses), strict=True):
            path.write_text(json.dumps(entries))
    evaluation = Evaluation(*sources)
    (remark,) = evaluation.assumptions
    assert said.split(": ")[-1] in remark
    assert remark in evaluation.warnings
    assert remark in evaluation.to_dict()["warnings"]
    assert evaluation.ap == expected.ap
    np.testing.assert_array_equal(evaluation.matches.oks, expected.matches.oks)
    assert (truth, poses) == given
    calibrated = evaluation.calibrated_entries(evaluation.fit_calibration())
    assert Evaluation(truth, calibrated).scores["best"].mean_score == pytest.approx(
        evaluation.matches.oks.mean(), abs=0.1
    )


def test_image_ids_that_name_a_file():
    """Ultralytics names an image by its file where that is no number."""
    truth, poses = content()
    for image in truth["images"]:
        image["file_name"] = f"images/photo {image['id']}.jpg"
    expected = Evaluation(truth, poses).ap
    for form in ("photo {}", "photo {}.jpg", "images/photo {}.jpg"):
        named = [pose | {"image_id": form.format(pose["image_id"])} for pose in poses]
        evaluation = Evaluation(truth, named)
        assert evaluation.ap == expected
        assert "read as the image with this 'file_name' (60)" in evaluation.assumptions[0]
    with pytest.raises(InputError, match="'photo 99' is not among the images"):
        Evaluation(truth, [poses[0] | {"image_id": "photo 99"}])


def test_unlabelled_keypoints_without_a_place():
    truth, poses = content()
    truth["annotations"][0]["keypoints"][:3] = [0, 0, 0]
    expected = Evaluation(truth, poses).ap
    for nothing in (NAN, None):
        truth["annotations"][0]["keypoints"][:3] = [nothing, nothing, 0]
        evaluation = Evaluation(truth, poses)
        assert evaluation.ap == expected
        assert "read as not labelled (1)" in evaluation.assumptions[0]


def test_keypoints_that_were_not_detected(tmp_path):
    """NaN has similarity 0 and no place in the pose's size; pycocotools says the same of a keypoint far off."""
    truth, poses = content()
    rng = np.random.default_rng(1)
    for pose in poses[::3]:
        for j in rng.choice(17, 4, replace=False):
            pose["keypoints"][3 * j : 3 * j + 3] = [NAN, NAN, NAN]
    (tmp_path / "results.json").write_text(json.dumps(poses))
    evaluation = Evaluation(truth, tmp_path / "results.json", bootstrap=3)
    nulls = [pose | {"keypoints": [None if np.isnan(v) else v for v in pose["keypoints"]]} for pose in poses]
    assert Evaluation(truth, nulls).ap.ap == evaluation.ap.ap

    with contextlib.redirect_stdout(io.StringIO()):
        oracle, found = COCO(), COCO()
        oracle.dataset = copy.deepcopy(truth)
        far = [pose | {"keypoints": [1e9 if np.isnan(v) else v for v in pose["keypoints"]]} for pose in poses]
        oracle.createIndex()
        found = oracle.loadRes(far)
        for entry, pose in zip(found.dataset["annotations"], poses, strict=True):
            points = np.reshape(pose["keypoints"], (-1, 3))[:, :2]
            entry["area"] = float((np.nanmax(points, 0) - np.nanmin(points, 0)).prod())
        evaluator = COCOeval(oracle, found, "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    ours = evaluation.ap
    expected = [evaluator.stats[i] for i in (0, 1, 2, 5)]
    np.testing.assert_allclose([ours.ap, ours.ap50, ours.ap75, ours.ar], expected, atol=1e-9)
    assert evaluation.ap.poses == 60
    assert evaluation.table.average_precision(np.ones(30, np.int64)) == pytest.approx(ours.ap)
    assert evaluation.ap.interval is not None

    matched = evaluation.matches.person >= 0
    assert np.isfinite(evaluation.matches.similarity[matched]).all()  # 0, not unknown
    lost = np.isnan(evaluation.keypoints_img).any(-1)
    assert lost.sum() == 80
    assert (evaluation.matches.similarity[matched & lost.any(1)][lost[matched & lost.any(1)]] == 0).all()
    assert (evaluation.error_kinds[matched][lost[matched]] == 4).all()  # a miss
    assert np.isfinite([repair.ap for repair in evaluation.repairs]).all()
    (warning,) = [words for words in evaluation.cautions if "NaN" in words]
    assert warning.startswith("20 of 60 poses have keypoints that were not detected (NaN) (80 keypoints)")
    better = evaluation.calibrated_entries(evaluation.fit_calibration())
    assert np.isnan(better[0]["keypoints"]).sum() == 12
    assert Evaluation(truth, better).ap.poses == 60


def test_a_score_that_is_nan_is_none():
    truth, poses = content()
    poses[0]["keypoints"][2] = NAN
    evaluation = Evaluation(truth, poses)
    assert "keypoints without a score (NaN) got the score 0 (1)" in evaluation.assumptions[0]
    assert np.isfinite(evaluation.found[0].keypoints_img).all()


def test_results_of_more_images_than_are_labelled():
    truth, poses = content()
    few = truth | {
        "images": truth["images"][:20],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] <= 20],
    }
    with pytest.raises(InputError, match=r"as in 20 of 60 entries.*--only-labelled"):
        Evaluation(few, poses)
    mixed = poses[::-1]  # what is left out stands between what is kept
    evaluation = calipose.evaluate(few, mixed, only_labelled=True)
    expected = Evaluation(few, [pose for pose in mixed if pose["image_id"] <= 20])
    assert evaluation.ap == expected.ap
    assert "poses of images that are not labelled were left out (20)" in evaluation.warnings[0]
    assert evaluation.to_dict()["scores"] == expected.to_dict()["scores"]
    assert [repair.ap for repair in evaluation.repairs] == [repair.ap for repair in expected.repairs]
    better = evaluation.calibrated_entries()  # all are calibrated, those of unlabelled images too
    assert len(better) == 60
    assert all(new["score"] != old["score"] for new, old in zip(better, mixed, strict=True))
    assert calipose.compare(evaluation, expected, 5).difference.difference == 0


def test_folders_in_file_names(tmp_path):
    truth, _ = content(images=2)
    for image in truth["images"]:
        image["file_name"] = f"val2017/{image['file_name']}"
    read = read_ground_truth(truth)
    assert read.in_folder(tmp_path) is read  # what is not there keeps its name, and is named when it is read
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    found = read.in_folder(tmp_path)
    assert dict(found.files) == {1: "1.jpg", 2: "2.jpg"}
    assert "'val2017/1.jpg'" in found.assumptions[0]
    assert found.in_folder(tmp_path) is found


NUMPY = {
    "scalars": lambda numbers: [np.float32(number) for number in numbers],
    "arrays": np.array,
    "rows": lambda numbers: np.reshape(numbers, (-1, 3)),
    "tuples": tuple,
}


@pytest.mark.parametrize("form", NUMPY)
def test_content_as_python_users_have_it(form):
    """Numbers of numpy, arrays and tuples, where the files hold plain lists and numbers."""
    truth, poses = content()
    expected = Evaluation(truth, poses)
    for person in truth["annotations"]:
        person |= {"bbox": np.array(person["bbox"]), "area": np.float64(person["area"]), "iscrowd": np.bool_(False)}
        person |= {field: np.int64(person[field]) for field in ("id", "image_id", "category_id", "num_keypoints")}
        person["keypoints"] = NUMPY[form](person["keypoints"])
    for pose in poses:
        pose |= {"score": np.float64(pose["score"]), "image_id": np.int32(pose["image_id"])}
        pose["keypoints"] = NUMPY[form](pose["keypoints"])
    given = copy.deepcopy(poses)
    evaluation = Evaluation(truth, poses)
    assert evaluation.ap.ap == pytest.approx(expected.ap.ap)
    assert evaluation.scores["score"]["ece"] == pytest.approx(expected.scores["score"]["ece"])
    assert json.loads(json.dumps(evaluation.entries))[0]["score"] == expected.entries[0]["score"]
    assert len(evaluation.calibrated_entries()) == len(poses)
    assert type(poses[0]["score"]) is type(given[0]["score"])  # what was given stays as it was


def test_what_is_no_number_is_named_still():
    truth, poses = content()
    truth["annotations"][0]["area"] = np.array(["wide"])
    with pytest.raises(InputError, match=r"Expected `float \| null`.*annotations\[0\].area"):
        Evaluation(truth, poses)
