"""`Evaluation`: what Python users, commands and the report take their figures from."""

import json

import numpy as np
import pytest

import calipose
from calipose.cli.compare import _figures
from calipose.cli.evaluation_tables import evaluation_table
from calipose.errors import InputError
from calipose.evaluation import evaluation as evaluation_module
from calipose.evaluation import metrics
from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.matching import match_poses
from calipose.evaluation.scores import score_figures
from square_people import FOUR, person, pose, truth_of


def data(images=30, seed=0):
    """One person and two poses an image."""
    rng = np.random.default_rng(seed)
    people = [person(0, image_id=i) for i in range(images)]
    poses = [
        pose(x, float(rng.random()), i) for i in range(images) for x in (float(rng.normal(0, 6)), 500 + rng.random())
    ]
    return truth_of(*people, images=range(images)), poses


def test_figures_are_those_of_the_parts():
    truth, poses = data()
    evaluation = calipose.evaluate(truth, poses, FOUR, bootstrap=5, setting={"flip": "no"})
    assert evaluation.ap.to_dict() == evaluate_results(truth, poses, FOUR, 5, setting={"flip": "no"}).to_dict()
    matches = match_poses(truth, poses, FOUR)
    for name in ("score", "oks", "person", "entry"):
        np.testing.assert_array_equal(getattr(evaluation.matches, name), getattr(matches, name))
    assert evaluation.scores["best"] == score_figures(matches, 5)
    assert json.loads(json.dumps(evaluation.to_dict()))["scores"]["best"]["ece"] == evaluation.scores["best"]["ece"]


def test_matched_once(monkeypatch):
    calls = []
    matrices = evaluation_module.oks_matrices
    monkeypatch.setattr(evaluation_module, "oks_matrices", lambda *given: calls.append(1) or matrices(*given))
    evaluation = Evaluation(*data(), FOUR)
    evaluation.to_dict()
    assert evaluation.repairs[0].ap == pytest.approx(evaluation.ap.ap)
    assert calls == [1]


def test_a_ground_truth_is_read_once_for_many_results():
    truth, poses = data()
    first = calipose.evaluate(truth, poses, FOUR)
    second = calipose.evaluate(first.truth, poses[::2], FOUR)
    assert second.truth is first.truth
    assert calipose.compare(first, second, bootstrap=5).difference.ap_b == pytest.approx(first.ap.ap)
    with pytest.raises(InputError, match="4 keypoints, skeleton 'coco-17' has 17"):
        calipose.evaluate(first.truth, poses)


def test_what_cannot_be_compared():
    truth, poses = data()
    others, _ = data(images=29)
    with pytest.raises(InputError, match="different ground truths"):
        calipose.compare(calipose.evaluate(truth, poses, FOUR), calipose.evaluate(others, [], FOUR))


def test_calibrated_entries():
    truth, poses = data()
    evaluation = calipose.evaluate(truth, poses, FOUR)
    calibration = calipose.fit_calibration(truth, poses, FOUR, data="squares")
    assert calibration == evaluation.fit_calibration(data="squares")
    better = evaluation.calibrated_entries(calibration)
    np.testing.assert_allclose([entry["score"] for entry in better], calibration.score([e["score"] for e in poses]))
    crossed = Evaluation(truth, evaluation.calibrated_entries(), FOUR)
    assert crossed.scores["best"].mean_score == pytest.approx(evaluation.calibrated["best"].mean_score)
    with pytest.raises(InputError, match="poses in 0 images"):
        Evaluation(truth, [], FOUR).calibrated_entries()


def text_of(table):
    return [list(column.cells) for column in table.columns]


def test_a_metric_is_one_row(monkeypatch, tmp_path):
    """It appears in the figures as JSON, in the tables of evaluate and compare, and in the report."""
    bias = metrics.Metric(
        "Bias", "lower", lambda score, oks: float((score - oks).sum() / max(len(oks), 1)), "score minus OKS"
    )
    monkeypatch.setitem(metrics.METRICS, "bias", bias)

    truth, poses = data()
    evaluation = Evaluation(truth, poses, FOUR, bootstrap=3)
    figures = evaluation.scores["score"]
    assert figures["bias"] == pytest.approx(figures.mean_score - figures.mean_oks)
    assert {"bias"} <= set(evaluation.to_dict()["scores"]["score"]) & set(figures.intervals)
    names, given, _ = text_of(evaluation_table(evaluation))
    assert given[names.index("  Bias")].startswith(f"{figures['bias']:.3f} (")
    assert "Bias, lower is better" in text_of(_figures(calipose.compare(evaluation, evaluation, 5)))[0]
    report = pytest.importorskip("calipose.report")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(report, "gallery", lambda *_: ({}, []))
    monkeypatch.setattr(report, "score_charts", lambda *_: {})
    monkeypatch.setattr(report, "error_charts", lambda *_: [])
    named = truth | {"images": [image | {"file_name": "x.png"} for image in truth["images"]]}
    page = report.write_report(tmp_path, Evaluation(named, poses, FOUR), tmp_path).read_text(encoding="utf-8")
    assert "<th scope=row>Bias</th>" in page
    assert "<b>Bias</b> is score minus OKS; lower is better." in page
