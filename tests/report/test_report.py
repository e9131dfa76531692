"""The report: every section is there, its numbers are the library's, and a browser shows it without a network."""

import csv
import json
import re
from dataclasses import replace
from html import unescape

import cv2
import numpy as np
import pytest

from calipose.errors import ImageError, InputError
from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.coverage import ALL, Coverage
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.fitting import cross_fit
from calipose.evaluation.matching import match_poses
from calipose.evaluation.metrics import reliability, risk_coverage
from calipose.evaluation.scores import populations, score_figures
from calipose.geometry import oks
from calipose.report import PAGE, write_comparison_report, write_report
from calipose.report.bars import read_history, training_charts
from calipose.report.chart import Chart
from calipose.report.coverage import coverage_chart
from calipose.report.drawing import PANEL, draw_missed, draw_tile, draw_whole
from calipose.report.figures import SCATTERED, score_against_oks
from calipose.report.gallery import choose_tiles
from calipose.report.tables import DASH
from calipose.skeleton import COCO_17
from chromium import CHROMIUM, Browser
from standing_people import STANDING, annotation, moved, result, truth_of, write_people

pytest.importorskip("matplotlib")

SECTIONS = ("precision", "scores", "reliability", "background", "curves", "keypoints", "regions", "parts", "errors",
            "training", "gallery")  # fmt: skip
CHARTS = {
    "reliability_poses_given", "reliability_poses_calibrated", "score_against_oks", "score_histogram", "risk_coverage",
    "precision_recall", "reliability_keypoints_given", "reliability_keypoints_calibrated", "pose_and_keypoint_scores",
    "regions_size", "regions_visibility", "regions_crowding", "error_kinds", "error_costs", "training_loss",
    "training_validation",
}  # fmt: skip
HISTORY = [
    {"step": 20, "epoch": 0.5, "total": 8.0, "score": 5.0, "offset": 3.0, "quality": 0.0},
    {"step": 40, "epoch": 1.0, "total": 4.0, "score": 2.5, "offset": 1.5, "quality": 0.0},
    {"step": 40, "epoch": 1, "val_ap": 0.25, "val_ap50": 0.5, "val_ar": 0.3, "val_spearman": None},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, results, and their report."""
    folder = tmp_path_factory.mktemp("report")
    results = write_people(folder)
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in HISTORY))
    evaluation = Evaluation(folder / "annotations.json", results, bootstrap=20, setting={"flip": "no"})
    write_report(folder / "out", evaluation, folder / "images", name="drawn <people>",
                 history=folder / "history.jsonl")  # fmt: skip
    return folder, results


def text_of(page):
    """What a page shows, without its markup."""
    page = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def rows(folder, name):
    with (folder / "out" / "figures" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(entries, name):
    return np.array([float(entry[name]) for entry in entries])


def test_everything_is_there(made):
    folder, _ = made
    page = (folder / "out" / PAGE).read_text(encoding="utf-8")
    for section in SECTIONS:
        assert f'<h2 id="{section}">' in page
        assert f'href="#{section}"' in page
    assert set(re.findall(r'<figure id="chart-(\w+)">', page)) == CHARTS
    assert page.count("How to read it.") == len(CHARTS)
    assert "drawn &lt;people&gt;" in page
    files = {file.name for file in (folder / "out" / "figures").iterdir()}
    assert files == {f"{name}.{suffix}" for name in CHARTS for suffix in ("png", "csv")}
    assert cv2.imread(str(folder / "out" / "figures" / "error_kinds.png")).shape[1] > 800
    assert 5 < page.count('<figure class="tile">') <= 90
    assert set(re.findall(r'popovertarget="([\w-]+)"', page)) <= set(re.findall(r'popover id="([\w-]+)"', page))
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([\w-]+)', page)) <= set(ids)


def test_the_page_needs_nothing_else(made):
    page = (made[0] / "out" / PAGE).read_text(encoding="utf-8")
    assert "<script" not in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"url\((?!#)", page)
    assert not re.search(r"#[0-9a-f]{6}\b", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))  # colours: themes


def test_the_numbers_are_the_librarys(made):
    folder, results = made
    text = text_of((folder / "out" / PAGE).read_text(encoding="utf-8"))
    data = folder / "annotations.json"
    figures = evaluate_results(data, results, bootstrap=20)
    matches = match_poses(data, results)
    mask = populations(matches)["score"]
    before, after = (score_figures(poses[mask], 20) for poses in (matches, cross_fit(matches)))

    def interval(ends):
        return f"{ends[0]:.3f}{DASH}{ends[1]:.3f}"

    assert f"AP {figures.ap:.3f} {interval(figures.interval)} AP50 {figures.ap50:.3f}" in text
    for key, name in (("ece", "ECE"), ("brier", "Brier"), ("spearman", "Spearman"), ("aurc", "Risk-coverage area")):
        shown = [f"{figures[key]:.3f} {interval(figures.intervals[key])}" for figures in (before, after)]
        assert f"{name} {' '.join(shown)}" in text
    assert f"{before.poses} poses in {before.images} images" in text
    assert "images 14 people 14 poses 28 flip no" in text


def test_the_charts_data_are_the_librarys(made):
    folder, results = made
    matches = match_poses(folder / "annotations.json", results)
    shown = matches[populations(matches)["score"]]
    bins = reliability(shown.score, shown.oks)
    drawn = rows(folder, "reliability_poses_given")
    np.testing.assert_allclose(column(drawn, "mean_oks"), bins.mean_oks)
    np.testing.assert_allclose(column(drawn, "poses"), bins.poses)
    coverage, risk = risk_coverage(shown.score, shown.oks)
    drawn = rows(folder, "risk_coverage")
    np.testing.assert_allclose(column(drawn, "coverage"), coverage)
    np.testing.assert_allclose(column(drawn, "risk"), risk)
    histogram = rows(folder, "score_histogram")
    assert column(histogram, "matched").sum() == (matches.person >= 0).sum()
    assert column(histogram, "duplicate").sum() == (matches.duplicate_of >= 0).sum()
    assert column(histogram, "background").sum() == ((matches.person < 0) & (matches.duplicate_of < 0)).sum()
    recall = max(column([row for row in rows(folder, "precision_recall") if row["oks"] == "0.5"], "recall"))
    assert recall == pytest.approx((matches.oks >= 0.5).sum() / 14)
    for row in rows(folder, "score_against_oks"):
        at = np.flatnonzero(matches.entry == int(row["entry"]))[0]
        assert (float(row["score"]), float(row["oks"])) == (matches.score[at], matches.oks[at])


def test_the_scatter_takes_five_an_image(made):
    folder, _ = made
    many = [result(i, moved(20 * j), 0.9 - 0.1 * j) for i in (1, 2) for j in range(8)]
    drawn = score_against_oks(Evaluation(folder / "annotations.json", many))
    assert sorted(row[0] for row in drawn.rows) == ["1.jpg"] * SCATTERED + ["2.jpg"] * SCATTERED


def test_the_gallery_is_sorted_by_surprise(made):
    folder, results = made
    evaluation = Evaluation(folder / "annotations.json", results)
    tiles = choose_tiles(evaluation)
    surprise = evaluation.cross_fitted.score - evaluation.matches.oks
    over, under = ([surprise[tile.row] for tile in tiles[name]] for name in ("over", "under"))
    assert over == sorted(over, reverse=True)
    assert under == sorted(under)
    assert min(over) > 0 > max(under)
    every = [tile.row for section in ("duplicates", "over", "under", "suspected") for tile in tiles[section]]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("annotated", "pose", "keypoint_scores", "expected"),
    [
        ([], STANDING, 0.5, "no person annotated"),
        ([moved(5)], STANDING, 0.5, ""),
        ([STANDING], STANDING[COCO_17.flip_index], 0.5, "left and right? OKS 1.00 exchanged"),
        ([STANDING + [150, 0] * (np.arange(17) == 9)[:, None]], STANDING, np.linspace(0.6, 0.9, 17), "left wrist?"),
        ([STANDING + [150, 0] * (np.arange(17) == 9)[:, None]], STANDING, np.linspace(0.1, 0.2, 17), ""),
    ],
)
def test_suspected_annotations(tmp_path, annotated, pose, keypoint_scores, expected):
    people = [annotation(n, 1, points) for n, points in enumerate(annotated, 1)]
    (tmp_path / "a.json").write_text(json.dumps(truth_of(people, 1)))
    evaluation = Evaluation(tmp_path / "a.json", [result(1, pose, 0.9, keypoint_scores)])
    assert evaluation.cross_fitted is None
    assert "10 are needed" in evaluation.not_calibrated
    suspected = choose_tiles(evaluation)["suspected"]
    assert [tile.reason for tile in suspected] == ([expected] if expected else [])


def test_a_tile_shows_annotation_and_pose(made):
    folder, results = made
    evaluation = Evaluation(folder / "annotations.json", results)
    nobody = int(np.flatnonzero(evaluation.matches.person < 0)[0])
    left, right = np.split(draw_tile(evaluation, nobody, np.full((140, 240, 3), 100, np.uint8)), 2, axis=1)
    assert left.shape == right.shape == (200, 200, 3)
    coloured = [(np.ptp(panel.astype(int), axis=2) > 60).sum() for panel in (left, right)]
    assert coloured[1] > 300 > coloured[0]


@pytest.mark.parametrize(
    ("results", "absent", "said"),
    [
        ([], {"reliability", "background", "curves", "keypoints", "regions", "parts", "errors"}, "None of 0 poses"),
        ([result(1, moved(130), 0.5)], {"regions", "errors"}, "no keypoint scores"),
        ([result(1, STANDING, 0.01)], {*SECTIONS} - {"precision", "scores", "errors", "gallery"}, "None of 1 pose "),
        ([result(i, STANDING, 0.5) for i in range(1, 15)], set(), "all 14 poses have the score 0.5"),
        ([result(i, STANDING, 3.0 + i) for i in range(1, 15)], set(), "too high by"),
    ],
)  # fmt: skip
def test_poor_results_have_a_report_too(made, tmp_path, monkeypatch, results, absent, said):
    folder, _ = made
    monkeypatch.setattr(Chart, "save", lambda *_: None)  # the most of the time
    evaluation = Evaluation(folder / "annotations.json", results, bootstrap=3)
    page = write_report(tmp_path / "new" / "out", evaluation, folder / "images")
    page = page.read_text(encoding="utf-8")
    assert said in text_of(page)
    for section in SECTIONS:
        assert (f'<h2 id="{section}">' not in page) == (section in absent | {"training"})


def test_a_second_pose_of_a_person_is_a_duplicate(tmp_path):
    """It is a false positive, yet not of the background: the page says its OKS, and shows the person beside it."""
    (tmp_path / "a.json").write_text(json.dumps(truth_of([annotation(1, 1, STANDING)], 1)))
    cv2.imwrite(str(tmp_path / "1.jpg"), np.zeros((140, 240, 3), np.uint8))
    second = result(1, STANDING + 1, 0.8)
    evaluation = Evaluation(tmp_path / "a.json", [result(1, STANDING, 0.9), second, result(1, moved(150), 0.7)])
    expected = oks(STANDING + 1, STANDING, np.ones(17, bool), annotation(1, 1, STANDING)["area"], COCO_17.sigmas_array)
    assert 0.5 < expected < 0.99
    assert evaluation.matches.oks.tolist() == [1, 0, 0]
    page = text_of(write_report(tmp_path / "out", evaluation, tmp_path).read_text(encoding="utf-8"))
    assert f"score 0.80 · OKS {expected:.2f} duplicate: a better pose is matched with this person" in page
    kinds = {row["entry"]: (row["kind"], float(row["duplicate_oks"])) for row in rows(tmp_path, "score_against_oks")}
    assert kinds == {"0": ("matched", 0), "1": ("duplicate", pytest.approx(expected)), "2": ("background", 0)}
    left = np.split(draw_tile(evaluation, 1, np.zeros((140, 240, 3), np.uint8)), 2, axis=1)[0]
    assert (np.ptp(left.astype(int), axis=2) > 60).sum() > 300


def test_missed_people_and_kinds_of_errors_have_a_gallery_each(tmp_path):
    """One is found with both wrists exchanged, one is missed though a far-off pose is there."""
    people = [annotation(1, 1, STANDING), annotation(2, 1, moved(150)) | {"area": 900.0}]
    (tmp_path / "a.json").write_text(json.dumps(truth_of(people, 1)))
    exchanged = STANDING.copy()
    exchanged[[9, 10]] = STANDING[[10, 9]]
    evaluation = Evaluation(tmp_path / "a.json", [result(1, exchanged, 0.9), result(1, moved(100), 0.01)])
    tiles = choose_tiles(evaluation)
    assert [(tile.row, tile.image, tile.person, tile.reason) for tile in tiles["missed"]] == [
        (-1, 0, 1, "no pose near")
    ]
    assert [(tile.row, tile.reason) for tile in tiles["inversion"]] == [(0, "left wrist, right wrist")]
    assert not tiles["swap"]
    image = np.full((140, 240, 3), 100, np.uint8)
    plain, ringed = (draw_tile(evaluation, 0, image, marked) for marked in (None, np.arange(17) == 9))
    assert (plain[:, :PANEL] == ringed[:, :PANEL]).all()
    assert (plain != ringed).any()
    assert draw_missed(evaluation, 0, 1, image).shape == (PANEL, 2 * PANEL, 3)
    whole = draw_whole(evaluation, 0, np.full((1400, 2400, 3), 100, np.uint8))
    assert whole.shape == (467, 800, 3)
    assert (np.ptp(whole.astype(int), axis=2) > 60).any()


def test_the_page_names_no_folder_of_the_machine(made):
    folder, _ = made
    page = (folder / "out" / PAGE).read_text(encoding="utf-8")
    assert str(folder) not in page
    assert f"14 images of {folder.name}/annotations.json" in page


def test_coverage_of_regions(made, tmp_path, monkeypatch):
    rows = [Coverage(ALL, asked, asked + 0.01, 500, (asked - 0.02, asked + 0.03)) for asked in (0.5, 0.8, 0.9)]
    rows += [Coverage("small people", 0.9, 0.86, 120)]
    drawn = coverage_chart(rows)
    assert drawn.rows[-1] == ("small people", 0.9, 0.86, 120)
    assert drawn.counts == "500 keypoints"
    folder, results = made
    monkeypatch.setattr(Chart, "save", lambda *_: None)
    evaluation = Evaluation(folder / "annotations.json", results)
    page = write_report(tmp_path / "out", evaluation, folder / "images", coverage=rows).read_text(encoding="utf-8")
    assert '<h2 id="regions">' in page
    assert 'id="chart-regions"' in page
    assert f"small people 120 {DASH} {DASH} 0.860" in text_of(page)
    page = write_report(tmp_path / "out", evaluation, folder / "images", coverage=[]).read_text(encoding="utf-8")
    assert 'id="regions"' not in page


def test_two_models_on_one_page(made, tmp_path, monkeypatch):
    folder, results = made
    monkeypatch.setattr(Chart, "save", lambda *_: None)
    a = Evaluation(folder / "annotations.json", results)
    b = Evaluation(a.truth, [entry for entry in results if entry["image_id"] > 4])
    page = write_comparison_report(tmp_path / "out", a, b, folder / "images", names=("old", "n<w"), bootstrap=100)
    page = page.read_text(encoding="utf-8")
    assert "Calipose report: old and n&lt;w" in page
    said = text_of(page)
    assert "A is better by" in said
    assert "Images that speak for A" in said
    for chart in ("reliability_A", "reliability_B", "risk_coverage_both"):
        assert f'id="chart-{chart}"' in page
    assert page.count('<div class="three">') >= 4
    assert all(link.startswith(("data:", "#")) for link in re.findall(r'(?:src|href)="([^"]*)"', page))
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_an_empty_data_set_of_people(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(truth_of([], 2)))
    cv2.imwrite(str(tmp_path / "1.jpg"), np.zeros((140, 240, 3), np.uint8))
    evaluation = Evaluation(tmp_path / "a.json", [result(1, STANDING, 0.9)], bootstrap=3)
    page = write_report(tmp_path / "out", evaluation, tmp_path)
    assert "0 of 0 with OKS" in text_of(page.read_text(encoding="utf-8"))


def test_broken_input(made, tmp_path):
    folder, results = made
    data, images = folder / "annotations.json", folder / "images"
    (tmp_path / "broken.json").write_text("{")
    unnamed = json.loads(data.read_text())
    del unnamed["images"][3]["file_name"]
    (tmp_path / "unnamed.json").write_text(json.dumps(unnamed))
    (tmp_path / "file").touch()
    cases = [
        ((data, images, tmp_path / "broken.json"), "broken.json"),
        ((data, images, [results[0] | {"image_id": 99}]), "image_id 99"),
        ((data, images, [results[0] | {"keypoints": [0.0] * 12}]), "12 numbers"),
        ((data, images, [results[0] | {"score": float("nan")}]), "not finite"),
        ((tmp_path / "unnamed.json", images, results), "image 4 has no 'file_name'"),
    ]
    for (annotations, folder_of_images, entries), message in cases:
        with pytest.raises(InputError, match=re.escape(message)):
            write_report(tmp_path / "out", Evaluation(annotations, entries), folder_of_images)
    evaluation = Evaluation(data, results)
    with pytest.raises(ImageError, match=r"\.jpg"):
        write_report(tmp_path / "out", evaluation, tmp_path)
    with pytest.raises(InputError, match="a file is where a folder should be"):
        write_report(tmp_path / "file" / "out", evaluation, images)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["{", "[1]", ""])
def test_broken_history(tmp_path, line):
    (tmp_path / "history.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(InputError, match="line 2"):
        read_history(tmp_path / "history.jsonl")
    with pytest.raises(InputError, match=r"no\.jsonl"):
        read_history(tmp_path / "no.jsonl")


def test_training_curves():
    losses, validation = training_charts(HISTORY)
    assert losses.columns == ("step", "epoch", "total", "score", "offset")  # nothing without a value
    assert [row[2] for row in losses.rows] == [8.0, 4.0]
    assert validation.columns == ("epoch", "val_ap", "val_ap50", "val_ar")
    assert training_charts([]) == []


def test_the_mean_of_the_joints_is_a_score(made):
    folder, results = made
    evaluation = Evaluation(folder / "annotations.json", results)
    shown = evaluation.matches[evaluation.shown]
    expected = score_figures(replace(shown, score=shown.keypoint_scores.mean(1)))
    assert evaluation.keypoint_means.before == expected


def test_a_chart_is_the_same_twice(made):
    folder, results = made
    evaluation = Evaluation(folder / "annotations.json", results)
    assert score_against_oks(evaluation).svg() == score_against_oks(evaluation).svg()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt install chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.call("Log.enable")
    yield browser
    browser.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_in_a_browser(made, browser, width, dark):
    page = made[0] / "out" / PAGE
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[scheme])
    browser.events.clear()
    browser.call("Page.navigate", url=page.as_uri())
    wait = "new Promise(done => document.readyState == 'complete' ? done(1) : addEventListener('load', () => done(1)))"
    browser.evaluate(wait)
    assert browser.evaluate("document.title") == "Calipose report: drawn <people>"
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    right = "e.getBoundingClientRect().right > e.closest('main').getBoundingClientRect().right"
    assert (
        browser.evaluate(
            f"[...document.querySelectorAll('main :is(td, figure, svg, img)')].filter(e => {right}).length"
        )
        == 0
    )
    browser.evaluate("Promise.all([...document.images].map(i => (i.loading = 'eager', i.decode())))")
    assert browser.evaluate("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth == 400)")
    browser.evaluate("document.querySelector('.tile button').click()")
    opened = browser.evaluate(
        "(e => [e.left, e.right])(document.querySelector(':popover-open').getBoundingClientRect())"
    )
    assert 0 <= opened[0] < opened[1] <= width
    browser.evaluate("document.querySelector(':popover-open').hidePopover()")
    ink, paper = browser.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    assert (sum(map(int, re.findall(r"\d+", ink))) > sum(map(int, re.findall(r"\d+", paper)))) == dark
    asked = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    bad = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")
    assert [event for event in browser.events if event["method"] in bad] == []
