"""The zip for the COCO evaluation server."""

import contextlib
import copy
import io
import json
import zipfile

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.submission import (
    IMAGES,
    Subset,
    read_image_info,
    submission_name,
    validate_submission,
    write_submission,
)
from calipose.skeleton import COCO_17

STEM = "person_keypoints_test-dev2017_mine_results"


def entry(image_id=1, score=0.5, x=10.0, **changes):
    points = np.column_stack([x + np.arange(17) / 3, 20 + np.arange(17) * 2, np.full(17, 2 / 3)])
    return {"image_id": image_id, "category_id": 1, "keypoints": points.ravel().tolist(), "score": score} | changes


@pytest.fixture
def info(tmp_path):
    """An image-info file of three images, as COCO's, which has no annotations."""
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({"images": [{"id": i, "file_name": f"{i}.jpg"} for i in (7, 1, 3)], "licenses": []}))
    return path


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        return name, json.loads(archive.read(name))


def test_the_zip_holds_what_the_server_wants(tmp_path, info):
    results = [entry(3, 1 / 3), entry(7, 0.2), entry(3, 0.9, x=200.123456)]
    done = write_submission(tmp_path / "new" / "folder", results, info, "mine")
    assert done.path == tmp_path / "new" / "folder" / f"{STEM}.zip"
    name, entries = read_zip(done.path)
    assert name == f"{STEM}.json"
    assert [(e["image_id"], e["category_id"], e["score"]) for e in entries] == [(3, 1, 0.9), (3, 1, 1 / 3), (7, 1, 0.2)]
    assert {len(e["keypoints"]) for e in entries} == {51}
    assert entries[0]["keypoints"][:3] == [200.12, 20, 0.667]
    assert (done.poses, done.images, done.images_with_poses, done.passed_over) == (3, 3, 2, 0)
    assert done.zip_bytes == done.path.stat().st_size
    assert validate_submission(done.path, (1, 3, 7)) == done
    assert [path.name for path in done.path.parent.iterdir()] == [done.path.name]  # nothing half-made is left


def test_files_are_as_good_as_content_and_val_is_named(tmp_path, info):
    (tmp_path / "results.json").write_text(json.dumps([entry()]))
    done = write_submission(tmp_path, tmp_path / "results.json", info, "a-1.b_c", Subset.VAL)
    assert done.path.name == "person_keypoints_val2017_a-1.b_c_results.zip"
    assert (done.subset, done.name) == (Subset.VAL, "a-1.b_c")


def test_the_best_20_stay_in_their_order(tmp_path, info):
    scores = [0.5] * 12 + [0.7] * 12 + [0.5000001]
    results = [entry(1, score, x=100.0 * i) for i, score in enumerate(scores)]
    done = write_submission(tmp_path, results, info, "mine")
    _, entries = read_zip(done.path)
    assert [round(e["keypoints"][0] / 100) for e in entries] == [*range(12, 24), 24, *range(7)]
    assert done.passed_over == 5


def test_ap_stays_what_it_was(tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    names = list(COCO_17.keypoints)
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person", "keypoints": names}]}
    results = []
    for image_id in range(1, 21):
        truth["images"].append({"id": image_id})
        points = rng.uniform(0, 100, (17, 2))
        labelled = np.column_stack([points, np.full(17, 2)]).ravel().tolist()
        common = {"image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
        truth["annotations"].append(common | {"id": image_id, "area": 5000.0, "bbox": [0, 0, 100, 100]})
        truth["annotations"][-1]["keypoints"] = labelled
        for _ in range(24):
            moved = np.column_stack([points + rng.normal(0, 6, (17, 2)), np.ones(17)]).ravel().tolist()
            results.append(entry(image_id, float(rng.uniform()), keypoints=moved))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    done = write_submission(tmp_path, results, tmp_path / "truth.json", "mine")
    _, entries = read_zip(done.path)
    before = evaluate_results(truth, results).ap
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = copy.deepcopy(truth)
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(entries), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0.1 < before < 0.9
    assert evaluation.stats[0] == pytest.approx(before, abs=2e-3)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([entry(1), entry(3), entry(7)], ["the image file lists 3 images, test-dev2017 has 20288"]),
        ([entry(1)], ["the image file lists", "images without a pose: 2"]),
        ([], ["the image file lists", "images without a pose: 3"]),
        ([entry(1), entry(3), entry(7), entry(7, 0.4)], ["the image file lists", "as another one of their image: 1"]),
        ([entry(i, x=j) for i in (1, 3, 7) for j in range(21)], ["the image file lists", "left out: 3"]),
    ],
)
def test_remarks(results, words, tmp_path, info):
    remarks = write_submission(tmp_path, results, info, "mine").remarks()
    assert len(remarks) == len(words)
    for remark, word in zip(remarks, words, strict=True):
        assert word in remark


def test_a_whole_set_needs_no_remark(tmp_path, info, monkeypatch):
    monkeypatch.setitem(IMAGES, Subset.TEST_DEV, 3)
    assert write_submission(tmp_path, [entry(1), entry(3), entry(7)], info, "mine").remarks() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (entry(2), ["entry 1", "image_id 2"]),
        (entry(category_id=2), ["entry 1", "category_id is 2"]),
        (entry(keypoints=[0.0] * 50), ["entry 1", "50 numbers"]),
        (entry(keypoints=[float("inf")] * 51), ["entry 1", "finite"]),
        (entry(score=float("nan")), ["entry 1", "finite"]),
        (entry(image_id="one"), ["image_id", "entry 1"]),
        (entry(keypoints=[float("nan"), *[1.0] * 50]), ["image_id", "finite"]),
    ],
)
def test_a_wrong_entry_is_named_and_nothing_written(wrong, words, tmp_path, info):
    with pytest.raises(InputError) as caught:
        write_submission(tmp_path / "out", [entry(), wrong], info, "mine")
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "two words", "a/b", "../a", "-a", "ü", "_a"])
def test_names_that_are_none(name):
    with pytest.raises(InputError, match="letters, digits"):
        submission_name(Subset.VAL, name)


@pytest.mark.parametrize(
    "text", [None, "{", "[]", '{"images": []}', '{"images": [{"id": 1}, {"id": 1}]}', '{"images": [{"id": "1"}]}']
)
def test_a_wrong_image_file_is_named(text, tmp_path):
    path = tmp_path / "info.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"info\.json"):
        read_image_info(path)


def test_a_place_that_takes_no_file(tmp_path, info):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file is where a folder should be"):
        write_submission(tmp_path / "file", [], info, "mine")


@pytest.mark.parametrize(
    ("files", "stem", "words"),
    [
        ({}, STEM, "holds nothing"),
        ({f"{STEM}.json": "[]", "more.json": "[]"}, STEM, "must hold"),
        ({f"folder/{STEM}.json": "[]"}, STEM, "must hold"),
        ({"results.json": "[]"}, STEM, "must hold"),
        ({"results.json": "[]"}, "results", "the server wants person_keypoints"),
        ({f"{STEM}.json": "["}, STEM, "truncated"),
        ({f"{STEM}.json": "{}"}, STEM, "array"),
        ({f"{STEM}.json": json.dumps([entry(image_id=1.5)])}, STEM, "image_id"),
        ({f"{STEM}.json": json.dumps([entry(category_id=2)])}, STEM, "category_id"),
        ({f"{STEM}.json": json.dumps([entry(keypoints=[0] * 17)])}, STEM, "17 numbers"),
        ({f"{STEM}.json": json.dumps([entry(score=float("nan"))])}, STEM, "json"),
        ({f"{STEM}.json": json.dumps([entry(5)])}, STEM, "image_id 5"),
        (None, STEM, "not a zip file"),
    ],
)
def test_a_wrong_zip_is_named(files, stem, words, tmp_path):
    path = tmp_path / f"{stem}.zip"
    if files is None:
        path.write_text("no zip")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    with pytest.raises(InputError) as caught:
        validate_submission(path, (1, 3, 7))
    assert path.name in str(caught.value)
    assert words in str(caught.value)
