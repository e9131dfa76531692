"""What the documents show works: their Python runs, their commands and options exist, their tables name real keys."""

import ast
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

import calipose.inference.opening
from calipose.calibration.maps import Calibration
from calipose.calibration.regions import RegionGroup, RegionMap
from calipose.cli import app
from calipose.config.stored import StoredModel, write_stored
from calipose.data.synthetic.scene import EASY, HARD, synthesize_scene, write_synthetic_data
from calipose.draw import save_image
from calipose.formats.table import FORMATS as STREAMS
from calipose.inference.foreign.table import FORMS
from calipose.inference.predictor import Predictor
from documents import noisy_results

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md", "docs/evaluation.md", "docs/finetune.md", "docs/formats.md", "docs/label-studio.md", "docs/limits.md",
    "docs/onnx.md", "docs/other-models.md", "docs/predict.md", "docs/regions.md", "docs/report.md", "docs/scale.md",
    "docs/scores.md", "docs/second-look.md", "docs/serve.md", "docs/start.md", "examples/browser/README.md",
]  # fmt: skip


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def snippets(name: str) -> list[str]:
    """The Python in a document."""
    found = re.findall(r"^```python\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE)
    assert found
    return found


def image(seed: int, width: int, height: int) -> np.ndarray:
    return synthesize_scene(np.random.default_rng(seed), (width, height), HARD).image


@pytest.fixture
def place(tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the files that the documents name; every model is the tiny one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(tiny_onnx)
    (tmp_path / "holiday").mkdir()
    for i in range(2):
        save_image(tmp_path / "holiday" / f"{i}.jpg", image(i, 160, 120))
    (tmp_path / "holiday" / "bad.jpg").write_text("no image")
    save_image(tmp_path / "photo.jpg", image(2, 160, 120))
    monkeypatch.setattr(calipose.inference.opening, "packaged", lambda name: tiny_onnx)
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda *_: Predictor.from_onnx(tiny_onnx))
    return tmp_path


@pytest.fixture
def dance(place: Path) -> Path:
    pytest.importorskip("av")
    from calipose.io.video_writer import VideoWriter

    with VideoWriter(place / "dance.mp4", 25.0, (96, 64)) as video:
        for _ in range(4):
            video.write(image(3, 96, 64))
    return place


@pytest.mark.parametrize(
    ("width", "height", "orientation"),
    [
        (80, 64, 1),  # enlarged
        (96, 130, 1),
        (150, 110, 1),
        (192, 400, 1),  # to exactly a half
        (331, 401, 6),  # to a third, and turned
        (900, 120, 3),  # longer than max_aspect
    ],
)
def test_the_onnx_example_finds_the_predictors_poses(place: Path, width: int, height: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image(4, width, height)).save("photo.jpg", exif=exif, quality=95)
    (code,) = snippets("docs/onnx.md")
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [name.name for node in imports for name in node.names] == ["json", "cv2", "numpy", "onnxruntime"]
    names: dict[str, Any] = {}
    exec(code, names)
    want = Predictor("model.onnx").predict("photo.jpg")
    assert len(want) > 2
    assert names["keypoints"].shape == want.keypoints_img.shape
    assert np.abs(names["keypoints"] - want.keypoints_img).max() < 0.05
    np.testing.assert_allclose(names["scores"], want.scores, atol=1e-4)


def test_the_readmes_python_runs(place: Path) -> None:
    names: dict[str, Any] = {}
    for code in [*snippets("README.md"), *snippets("docs/start.md")]:
        exec(code, names)


def test_the_python_of_predicting_runs(dance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("supervision") is None:  # large; tests/formats/test_one_image.py has its test
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=dict))  # type: ignore[arg-type]
    if importlib.util.find_spec("pandas") is None:
        pytest.skip("pandas is not installed")
    call("photo.jpg")
    names: dict[str, Any] = {}
    for code in snippets("docs/predict.md"):
        exec(code, names)
    assert list(names["found"]) == ["photo.jpg"]
    assert len(names["table"]) == 17 * len(names["poses"]) > 0
    assert cv2.imread("drawing.jpg").shape == (120, 160, 3)
    assert Path("drawing.mp4").stat().st_size > 500


def test_the_python_of_regions_runs(place: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = place / "calibrated.onnx"
    shutil.copyfile(tiny_onnx, model)
    group = RegionGroup(quantiles=tuple(np.linspace(1, 2, 41).tolist()), images=10, keypoints=170)
    regions = RegionMap(group=group, by_score=False, labelled=(10,) * 17, kind_factors=(1.0,) * 17)
    write_stored(model, StoredModel(calibration=Calibration(regions=regions)))
    monkeypatch.setattr(calipose.inference.opening, "packaged", lambda name: model)
    codes = snippets("docs/regions.md")
    if importlib.util.find_spec("supervision") is None:
        codes = [code for code in codes if "supervision" not in code]
    names: dict[str, Any] = {}
    for code in codes:
        exec(code, names)
    assert names["radii"].shape == (len(names["poses"]), 17)
    assert len(names["poses"]) > 0
    assert json.loads(Path("poses.json").read_text())["coverage"] == 0.9
    assert names["angles"].low_deg.shape == (len(names["poses"]), 9)


def test_the_python_of_evaluation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    write_synthetic_data(tmp_path, 12, EASY, (96, 96), seed=3)
    rng = np.random.default_rng(0)
    annotations = json.loads((tmp_path / "annotations.json").read_text())["annotations"]
    for name, noise in (("results", 1.0), ("new", 0.5)):
        (tmp_path / f"{name}.json").write_text(json.dumps(noisy_results(annotations, noise, rng)))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in snippets("docs/evaluation.md"):
        exec(code, names)
    assert names["evaluation"].ap.poses == len(annotations)
    assert Path("better.json").stat().st_size > 100
    assert Path("report/report.html").is_file()


def call(*arguments: object) -> str:
    """Standard output of `calipose predict`."""
    done = CliRunner().invoke(app, ["predict", "--model", "model.onnx", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_tables_of_predicting_name_every_key(dance: Path) -> None:
    section = page("docs/predict.md").partition("## JSON lines")[2].partition("\n## ")[0]
    cells = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    named = {key for first, _ in cells for key in re.findall(r"`(\w+)`", first)}
    call(
        "photo.jpg",
        "dance.mp4",
        "--min-score",
        0,
        "--save",
        "csv",
        "--save",
        "csv-wide",
        "--save",
        "coco",
        "--save",
        "cvat",
    )
    call("photo.jpg", "--min-score", 0, "--save", "label-studio")
    out = dance / "calipose-out"
    entries = [json.loads((out / name).read_text().splitlines()[0]) for name in ("poses.jsonl", "dance.poses.jsonl")]
    keys = {key for entry in entries for key in entry} | {key for entry in entries for key in entry["poses"][0]}
    assert named == keys | {"p_oks50", "p_oks75"}  # of a calibrated model
    assert set(entries[1]) - set(entries[0]) == {"index", "seconds"}
    assert entries[0]["poses"][0]["keypoints"]["nose"].keys() == {"x", "y"}
    files = (
        page("docs/predict.md").partition("## What comes out")[2].partition("\n## ")[0].partition("With `--out -`")[0]
    )
    assert {file.name for file in out.iterdir()} - {"photo.jpg", "dance.mp4"} == set(
        re.findall(r"`([\w.]+\.(?:jsonl|csv|json|xml))`", files)
    )


def test_the_metadata_table_names_every_key(tiny_onnx: Path) -> None:
    section = page("docs/onnx.md").partition("## Metadata")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    header = Predictor.from_onnx(tiny_onnx).backend.header  # type: ignore[attr-defined]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row[1])} == set(header)
    told = {row[1].strip(" `"): set(re.findall(r"`(\w+)`", "|".join(row[2:]))) for row in rows}
    for key in ("skeleton", "predict", "calibration"):
        assert told[key] == set(header[key]), key


def test_the_output_table_is_the_files(tiny_onnx: Path) -> None:
    import onnxruntime

    section = page("docs/onnx.md").partition("## Input and outputs")[2].partition("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:4]] for line in section.splitlines() if line[:3] == "| `"]
    told = {name: (shape, kind) for name, shape, kind in rows[1:]}
    session = onnxruntime.InferenceSession(str(tiny_onnx), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    assert [*outputs, "keypoint_scores", "raw_keypoint_scores"] == list(told)
    sizes = {"b": 2, "n": 30, "k": 17}
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    for name, value in zip(outputs, session.run(outputs, {"images": images}), strict=True):
        shape, kind = told[name]
        want = [sizes.get(side) or int(side) for side in shape.strip("()").split(", ")]
        assert (list(value.shape), value.dtype.name) == (want, kind), name


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_options_exist(name: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"(?:^    |`)calipose ([a-z-]+)([^`|\n]*)", page(name), re.MULTILINE)
    if name == "docs/predict.md":  # speaks of one command
        shown += [("predict", option) for option in re.findall(r"`(--[^`]*)`", page(name))]
    assert shown
    for command, rest in shown:
        assert command in commands
        options = {option for given in commands[command].params for option in (*given.opts, *given.secondary_opts)}
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)) <= {*options, "--help"}, f"{command}{rest}"


def test_the_docs_list_every_form_of_other_models() -> None:
    rows = [line for line in page("docs/other-models.md").splitlines() if line.startswith("| `")]
    assert rows == [f"| `{form.name}` | {form.description} | {form.prepared} |" for form in FORMS.values()]


def test_the_docs_list_what_every_format_holds() -> None:
    """docs/formats.md: a row for each format, and what it says of videos."""
    rows = [line.split("|")[1:-1] for line in page("docs/formats.md").splitlines() if line.startswith("| `")]
    said = {name: row[5].strip() for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    for name, row in STREAMS.items():
        assert said[name] == ("only" if not row.takes_images else "yes" if row.takes_videos else "no"), name
