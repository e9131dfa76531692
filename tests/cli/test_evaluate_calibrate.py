"""`calipose evaluate` and `calipose calibrate`, for results files and for checkpoints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from calipose.cli import app
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.evaluation.ap import evaluate_results
from calipose.inference.packaged import packaged
from calipose.inference.predictor import Predictor
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from calipose.skeleton import COCO_17


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def coco(images: int = 60, seed: int = 0) -> tuple[dict, list[dict]]:
    """One person an image, found better or worse, and a pose of nobody; scores say twice the OKS they should."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for i in range(images):
        points = rng.uniform(0, 100, (17, 2)) + 100
        triples = np.column_stack([points, np.full(17, 2)])
        annotations.append(
            {"id": i + 1, "image_id": i, "category_id": 1, "area": 6000.0, "bbox": [100, 100, 100, 100], "iscrowd": 0,
             "num_keypoints": 17, "keypoints": triples.ravel().tolist()}
        )  # fmt: skip
        noise = rng.uniform(1, 12)
        for shift, score in ((0, 1 - noise / 24), (900, rng.uniform(0.05, 0.5))):
            found = np.column_stack([points + shift + rng.normal(0, noise, (17, 2)), rng.uniform(0.2, 1, 17)])
            results.append({"image_id": i, "category_id": 1, "keypoints": found.ravel().tolist(), "score": score})
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(images)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    truth, results = coco()
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "truth.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_evaluate_results(files: Path) -> None:
    done = run("evaluate", "results.json", "--ground-truth", "truth.json", "--bootstrap", 20, "--figures", "f.json")
    assert done.exit_code == 0, done.output
    for words in ("AP50", "AR", "images, people, poses", "60, 60, 120", "ECE", "by chance: mean, bound", "--details"):
        assert words in done.output
    assert "size medium" not in done.output
    assert len(done.output.splitlines()) < 30  # one screen
    assert max(len(line) for line in done.output.splitlines() if line[0] in "┃│") <= 80
    figures = json.loads((files / "f.json").read_text())
    assert figures["ap"]["ap"] == evaluate_results("truth.json", "results.json").ap
    assert figures["calibrated"]["score"]["ece"] < figures["scores"]["score"]["ece"]


def test_evaluate_in_detail(files: Path) -> None:
    done = run("evaluate", "results.json", "--ground-truth", "truth.json", "--bootstrap", 20, "--details")
    assert done.exit_code == 0, done.output
    for words in ("APM", "ECE", "size medium", "crowding alone", "labelled keypoints", "inside their regions"):
        assert words in done.output


def test_calibrate_results(files: Path) -> None:
    done = run("calibrate", "results.json", "--ground-truth", "truth.json", "--out", "better.json", "--maps", "m.json")
    assert done.exit_code == 0, done.output
    assert "better.json" in done.output
    before, after = (evaluate_results("truth.json", name) for name in ("results.json", "better.json"))
    assert after.ap == before.ap
    scores = np.array([entry["score"] for entry in json.loads(Path("better.json").read_text())])
    given = np.array([entry["score"] for entry in json.loads(Path("results.json").read_text())])
    assert (np.argsort(scores, kind="stable") == np.argsort(given, kind="stable")).all()
    assert np.abs(scores - given).max() > 0.05
    again = run("calibrate", "results.json", "--use", "m.json", "--out", "again.json")
    assert again.exit_code == 0, again.output
    assert Path("again.json").read_text() == Path("better.json").read_text()
    crossed = run("calibrate", "results.json", "--ground-truth", "truth.json", "--cross-fit", "--out", "crossed.json")
    assert crossed.exit_code == 0
    assert Path("crossed.json").read_text() != Path("better.json").read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: [e | {"image_id": 999} for e in r], "entry 0: image_id 999 is not among the images"),
        (lambda r: [e | {"score": float("nan")} for e in r], "entry 0: 'score' or 'keypoints' is not finite"),
        (lambda r: [e | {"keypoints": e["keypoints"][:42]} for e in r], "42 numbers in 'keypoints'"),
        (lambda r: [e | {"score": 0.5} for e in r], "all 120 poses have the score 0.5"),
        (lambda r: [], "poses in 0 images"),
        (lambda r: [e | {"category_id": 3} for e in r], "category_id is 3"),
        (lambda r: {"annotations": r}, "results.json"),
        (lambda r: [{"image_id": 0}], "missing required field"),
    ],
)
def test_bad_results_are_refused_and_nothing_is_written(files: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    Path("results.json").write_text(json.dumps(change(json.loads(Path("results.json").read_text()))))
    done = run("calibrate", "results.json", "--ground-truth", "truth.json", "--out", "better.json")
    assert done.exit_code == 1
    assert words in done.output
    assert not Path("better.json").exists()


def test_empty_and_constant_results_are_evaluated_with_a_warning(files: Path) -> None:
    results = json.loads(Path("results.json").read_text())
    for entries, words in (([], "poses in 0 images"), ([e | {"score": 1} for e in results], "have the score 1")):
        Path("results.json").write_text(json.dumps(entries))
        done = run("evaluate", "results.json", "--ground-truth", "truth.json", "--bootstrap", 0)
        assert done.exit_code == 0, done.output
        assert f"warning: not calibrated: calibration: {'poses' if not entries else 'all'}" in done.output
        assert words in done.output


def test_rounded_scores_are_warned_of(files: Path) -> None:
    results = json.loads(Path("results.json").read_text())
    Path("results.json").write_text(json.dumps([e | {"score": round(e["score"], 1)} for e in results]))
    done = run("evaluate", "results.json", "--ground-truth", "truth.json", "--bootstrap", 0)
    assert "as if scores were rounded" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "results.json"], "judged by annotations; add --ground-truth"),
        (["evaluate", "results.json", "--ground-truth", "gone.json"], "no such annotation file"),
        (["evaluate", "gone.json", "--ground-truth", "truth.json"], "No such file"),
        (["evaluate", "results.json", "--ground-truth", "truth.json", "--flip"], "leave out --flip"),
        (["evaluate", "default", "--ground-truth", "truth.json"], "the images of --data"),
        (["evaluate", "default", "--data", "truth.json", "--scales", "1,x"], "no such image folder"),
        (["calibrate", "default"], "the images of --data"),
        (["calibrate", "accurate", "--data", "x", "--out", "o.onnx"], "--out NAME.model.json"),
        (["calibrate", "fast", "--data", "x", "--out", "f.model.json", "--maps", "m.json"], "leave out --maps"),
        (["calibrate", "onepass", "--data", "x"], "--out NAME.onnx"),
        (["export", "fast", "q.onnx", "--int8", "--data", "x"], "onepass is the first of both"),
        (
            ["calibrate", "onepass", "--data", "x", "--radii", "0.9"],
            "'calipose predict --regions' draws them; leave out",
        ),
        (["calibrate", "accurate", "--data", "x", "--radii", "0.9"], "has the regions of every coverage"),
        (["calibrate", "onepass", "--data", "x", "--out", "o.onnx", "--flip"], "does not flip; leave out --flip"),
        (["calibrate", "results.json", "--use", "truth.json", "--out", "o.json"], "no maps that"),
        (["calibrate", "results.json", "--use", "gone.json", "--out", "o.json"], "wrote: No such file"),
        (["evaluate", "truth.json", "--ground-truth", "truth.json"], "holds annotations, and no results"),
        (["evaluate", "results.json", "--ground-truth", "results.json"], "a results file, and no annotations"),
        (["evaluate", "gone", "--data", "truth.json=."], "gone: no such checkpoint; a model is a file, a run folder"),
        (["evaluate", ".", "--data", "truth.json=."], "this folder holds no model"),
        (["evaluate", "fast", "--data", ".=truth.json"], "the annotations come first; write truth.json=."),
        (["evaluate", "truth.txt", "--data", "truth.json=."], "truth.txt: not a model; models are .safetensors"),
        (["check", "results.json", "--data", "truth.json=."], "'calipose evaluate' takes it"),
        (["compare", "fast", "accurate", "--ground-truth", "truth.json"], "calipose report fast accurate"),
        (["calibrate", "results.json", "--use", "truth.json"], "--out"),
        (["calibrate", "results.json", "--ground-truth", "truth.json", "--short-side", "64"], "leave out --short-side"),
        (["calibrate", "model.onnx", "--data", "x"], "model.onnx: no such file"),
        (["calibrate", "rtmo.onnx", "--data", "x", "--out", "o.onnx"], "written beside it; leave out --out"),
    ],
)
def test_wrong_calls(files: Path, words: list[str], message: str) -> None:
    done = run(*words)
    assert done.exit_code == 1
    assert message in done.output


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_synthetic_data(folder / "people", 16, EASY, (96, 96), seed=5)
    return folder / "people"


@pytest.fixture(scope="module")
def saved(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "tiny.safetensors"
    save_checkpoint(path, tiny_checkpoint)
    return path


def test_a_checkpoint_is_calibrated_exported_and_keeps_its_wish(
    saved: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("calibrate", saved, "--data", drawn, "--out", "c.safetensors", "--bootstrap", 0)
    assert done.exit_code == 0, done.output
    assert "images only" in done.output
    made = load_checkpoint("c.safetensors")
    setting = made.calibration.score.setting
    assert setting == made.recipe.predict.setting
    assert made.calibration.score.data == drawn.name
    image = next((drawn / "images").iterdir())
    raw, poses = (Predictor(path).predict(image) for path in (saved, "c.safetensors"))
    assert raw.p_oks50 is None
    assert poses.p_oks75 is not None
    assert poses.raw_scores is not None
    np.testing.assert_allclose(poses.scores, made.calibration.score(poses.raw_scores))
    wished = run("predict", image, "--model", "c.safetensors", "--precision", "0.95@0.75", "--out", "o")
    assert wished.exit_code == 1
    assert "cannot support it" in wished.output
    assert not Path("o").exists()
    both = run("predict", image, "--precision", "0.9@0.5", "--min-score", 0.2)
    assert both.exit_code == 2
    other = run("predict", image, "--model", "c.safetensors", "--short-side", 64, "--out", "o")
    assert "with short side 64 they may be off" in other.output


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_synthetic_data(folder / "people", 24, EASY, (128, 128), seed=5)
    return folder / "people"


def test_the_packaged_file_gets_a_calibrated_copy(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("calibrate", "onepass", "--data", many, "--out", "mine.onnx", "--bootstrap", 0)
    assert done.exit_code == 0, done.output
    assert "mine.onnx with mine.calipose.json beside it" in done.output
    before, after = Predictor("onepass"), Predictor("mine.onnx")
    assert after.calibration.score.data == many.name
    assert Path("mine.onnx").read_bytes() == packaged("onepass").read_bytes()
    image = next((many / "images").iterdir())
    np.testing.assert_array_equal(after.predict(image).raw_scores, before.predict(image).raw_scores)


def test_an_exported_file_is_calibrated_beside_itself(
    tiny_onnx: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(shutil.copy(tiny_onnx, "own.onnx"))
    content = file.read_bytes()
    done = run("calibrate", file, "--data", drawn, "--bootstrap", 0)
    assert done.exit_code == 0, done.output
    assert file.read_bytes() == content
    assert Predictor(file).calibration.score.data == drawn.name


def test_the_grid(saved: Path, tiny_onnx: Path, drawn: Path) -> None:
    done = run("evaluate", saved, "--data", drawn, "--grid", "--scales", "1,2")
    assert done.exit_code == 0, done.output
    assert done.output.count(" yes ") == 2
    assert done.output.count("1, 2") == 2
    onnx = run("evaluate", tiny_onnx, "--data", drawn, "--grid", "--scales", "1,2")
    assert onnx.exit_code == 0, onnx.output
    assert "flip needs the checkpoint" in onnx.output
    assert " yes " not in onnx.output


def foreign_files(folder: Path) -> None:
    """The ground truth labels half of the images, as another tool writes it: no area, other case, triples."""
    truth, results = coco()
    truth["images"] = truth["images"][:30]
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] < 30]
    for entry in truth["annotations"]:
        del entry["area"]
        entry["keypoints"] = np.reshape(entry["keypoints"], (-1, 3)).tolist()
    truth["categories"][0]["keypoints"] = [name.replace("_", " ").title() for name in COCO_17.keypoints]
    results[0]["keypoints"][:3] = [float("nan")] * 3
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))


def test_files_of_other_tools_are_read_with_warnings(files: Path) -> None:
    foreign_files(files)
    words = ("evaluate", "results.json", "--ground-truth", "truth.json", "--bootstrap", 0)
    refused = run(*words)
    assert refused.exit_code == 1
    assert "as in 60 of 120 entries" in refused.output
    assert "--only-labelled" in refused.output
    done = run(*words, "--only-labelled")
    assert done.exit_code == 0, done.output
    for said in (
        "warning: ground truth truth.json: entries whose 'keypoints' are lists of three",
        "warning: ground truth truth.json: annotations without 'area' (or 0) got 0.53 x the area of their box (30)",
        "warning: ground truth truth.json: keypoints whose names differ",
        "warning: results results.json: poses of images that are not labelled were left out (60)",
        "warning: 1 of 60 poses have keypoints that were not detected (NaN) (1 keypoints)",
    ):
        assert said in done.output
    calibrated = ("calibrate", "results.json", "--ground-truth", "truth.json", "--out", "better.json")
    done = run(*calibrated, "--only-labelled", "--bootstrap", 0)
    assert done.exit_code == 0, done.output
    assert len(json.loads((files / "better.json").read_text())) == 120  # all, also those of unlabelled images


def test_only_labelled_is_for_results(files: Path) -> None:
    done = run("evaluate", "onepass", "--data", "truth.json=.", "--only-labelled")
    assert done.exit_code == 1
    assert "leave out --only-labelled" in " ".join(done.output.split())
    done = run("calibrate", "results.json", "--use", "maps.json", "--only-labelled", "--out", "better.json")
    assert "leave out --only-labelled" in " ".join(done.output.split())


def test_places_that_take_no_file_are_named_before_the_work(tmp_path: Path) -> None:
    truth, results = coco(3)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "folder").mkdir()
    about = [tmp_path / "results.json", "--ground-truth", tmp_path / "truth.json"]
    for file, message in (
        (
            tmp_path / "truth.json" / "figures.json",
            "truth.json cannot be written: File exists; a file is where a folder",
        ),
        (tmp_path / "folder", "folder: this is a folder; name a file"),
    ):
        for command in (("evaluate", *about, "--figures", file), ("calibrate", *about, "--maps", file)):
            done = run(*command)
            assert done.exit_code == 1
            assert message in done.output
            assert len(done.output.splitlines()) == 1


def test_regions_of_any_results(files: Path) -> None:
    """Fitted with the maps, kept with them, and written where asked for; the radii hold on other images."""
    truth = ("--ground-truth", "truth.json", "--bootstrap", 0)
    done = run("calibrate", "results.json", *truth, "--maps", "maps.json", "--out", "own.json", "--radii", 0.9)
    assert done.exit_code == 0, done.output
    assert "regions up to coverage 0.98" in done.output  # 60 images
    new_truth, new = coco(seed=1)
    Path("new.json").write_text(json.dumps(new))
    used = run("calibrate", "new.json", "--use", "maps.json", "--out", "better.json", "--radii", 0.8)
    assert used.exit_code == 0, used.output
    entries = json.loads(Path("better.json").read_text())
    inside = []
    for person, entry in zip(new_truth["annotations"], entries[::2], strict=True):  # every second is of nobody
        gap = np.reshape(entry["keypoints"], (17, 3))[:, :2] - np.reshape(person["keypoints"], (17, 3))[:, :2]
        inside.append(np.hypot(*gap.T) <= entry["keypoint_radii"])
        assert entry["coverage"] == 0.8
    assert 0.75 < np.mean(inside) < 0.9
    Path("new_truth.json").write_text(json.dumps(new_truth))
    judged = run("evaluate", "better.json", "--ground-truth", "new_truth.json", "--bootstrap", 0, "--figures", "f.json")
    assert "in regions asked for 0.8" in judged.output
    assert (
        "of the results"
        in run("evaluate", "better.json", *truth[:1], "new_truth.json", "--bootstrap", 0, "--details").output
    )
    first, *rest = json.loads(Path("f.json").read_text())["regions"]["coverage"]
    assert first["asked"] == 0.8
    assert abs(first["got"] - np.mean(inside)) < 0.02  # of matched poses only
    assert {row["asked"] for row in rest} == {0.8}
    assert "keypoint_radii" not in run("calibrate", "new.json", "--use", "maps.json", "--out", "b.json").output
    assert "keypoint_radii" not in Path("b.json").read_text()
    for words, message in ((["--cross-fit"], "leave out --cross-fit"), (["--radii", 0.99], "support up to 0.98")):
        refused = run("calibrate", "results.json", *truth, "--out", "c.json", "--radii", 0.9, *words)
        assert (refused.exit_code, message in refused.output) == (1, True), refused.output
        assert not Path("c.json").exists()


def test_results_without_keypoint_scores_have_regions(files: Path) -> None:
    results = json.loads(Path("results.json").read_text())
    for entry in results:
        entry["keypoints"][2::3] = [1.0] * 17
    Path("results.json").write_text(json.dumps(results))
    done = run("calibrate", "results.json", "--ground-truth", "truth.json", "--out", "o.json", "--radii", 0.9)
    assert done.exit_code == 0, done.output
    radii = np.array([entry["keypoint_radii"] for entry in json.loads(Path("o.json").read_text())])
    np.testing.assert_allclose(radii[:, 5], radii[:, 6])  # left and right are of one kind
    assert np.ptp(radii[:, 5] / radii[:, 7]) < 1e-9  # constant by keypoint, times the size
