"""`calipose report`: what it takes, and what it says to bad input."""

import importlib
import json
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from calipose.calibration.maps import Calibration
from calipose.cli.console import Commands
from calipose.config.settings import PredictSettings
from calipose.skeleton import COCO_17
from standing_people import write_people

pytest.importorskip("matplotlib")

command = importlib.import_module("calipose.cli.report")
judging = importlib.import_module("calipose.cli.judging")
app = typer.Typer(cls=Commands)
app.command("report")(command.report_command)
app.command()(lambda: None)  # a second one, so that the first needs its name


@pytest.fixture
def data(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(write_people(tmp_path / "data")))
    return tmp_path / "data"


def call(*arguments):
    done = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_results_of_any_model(data, tmp_path):
    out = tmp_path / "out"
    code, said = call(tmp_path / "results.json", "--data", data, "--out", out, "--name", "mine", "--bootstrap", 3)
    assert code == 0
    assert said.startswith("warning: calibrated by poses in 14 images only")
    assert said.endswith(f"report: {out / 'report.html'}")
    page = (out / "report.html").read_text()
    assert "Calipose report: mine" in page
    assert "results.json" in page
    assert 'id="training"' not in page


@pytest.mark.parametrize("source", ["run", "run/best.safetensors"])
def test_a_run(data, tmp_path, monkeypatch, source):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.jsonl").write_text('{"step": 1, "epoch": 1, "total": 2.0}\n')
    predictor = SimpleNamespace(
        skeleton=COCO_17, settings=PredictSettings(short_side=640), refiner=None, calibration=Calibration()
    )
    monkeypatch.setattr(judging, "open_predictor", lambda *_, **_options: predictor)
    monkeypatch.setattr(
        judging, "predict_data", lambda *_, **_options: json.loads((tmp_path / "results.json").read_text())
    )
    given = {}
    monkeypatch.setattr(
        command,
        "write_report",
        lambda _, evaluation, *__, **named: given.update(named, evaluation=evaluation) or "page",
    )
    code, said = call(tmp_path / source, "--data", data, "--flip", "--bootstrap", 7)
    assert code == 0, said
    assert said.endswith("report: page")
    assert given["history"] == tmp_path / "run" / "history.jsonl"
    assert given["evaluation"].setting["short side"] == "640 px"
    assert (given["name"], given["evaluation"].bootstrap) == ((tmp_path / source).name, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("results.json", "--flip"), "this is a results file, so no model runs; leave out --"),
        (("results.json", "--short-side", 320), "this is a results file, so no model runs; leave out --"),
        (("absent.json",), "absent.json"),
        (("default", "--skeleton", "s.toml"), "knows its skeleton; leave out --skeleton"),
        (("results.json", "--skeleton", "s.toml"), "not 'joint 0'"),
    ],
)
def test_bad_arguments(data, tmp_path, arguments, message):
    names = ", ".join(f'"joint {i}"' for i in range(17))
    skeleton = f'name = "other"\nkeypoints = [{names}]\nflip_pairs = []\nlimbs = []\nsigmas = {[0.1] * 17}\n'
    (tmp_path / "s.toml").write_text(skeleton)
    places = [tmp_path / a if str(a).endswith(("json", "toml")) else a for a in arguments]
    code, said = call(*places, "--data", data, "--out", tmp_path / "out")
    assert code == 1
    assert message in said, said
    assert not (tmp_path / "out").exists()


def test_files_of_other_tools(data, tmp_path):
    """A keypoint without a place, folders in file names, results of more images than are labelled."""
    truth = json.loads((data / "annotations.json").read_text())
    for image in truth["images"]:
        image["file_name"] = f"/elsewhere/val2017/{image['file_name']}"
    truth["images"] = truth["images"][:12]
    truth["annotations"] = truth["annotations"][:12]
    (data / "annotations.json").write_text(json.dumps(truth))
    results = json.loads((tmp_path / "results.json").read_text())
    for entry in results:
        entry["keypoints"][:3] = [float("nan")] * 3
    (tmp_path / "results.json").write_text(json.dumps(results))
    given = (tmp_path / "results.json", "--data", data, "--out", tmp_path / "out", "--bootstrap", 0)
    code, said = call(*given)
    assert code == 1
    assert "--only-labelled" in said
    code, said = call(*given, "--only-labelled")
    assert code == 0, said
    assert "file names such as '/elsewhere/val2017/1.jpg' were found in" in said
    assert "were left out (4)" in said
    assert "24 of 24 poses have keypoints that were not detected" in said
    assert (tmp_path / "out" / "report.html").is_file()
