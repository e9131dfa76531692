"""Two results files side by side."""

import math

import numpy as np
import pytest

from calipose.draw import save_image
from calipose.errors import InputError
from calipose.evaluation.ap import AveragePrecision, MatchTable, PairedDifference
from calipose.evaluation.comparison import CELL_SIZE, Comparison, ap_shares, compare, draw_changes
from calipose.evaluation.evaluation import Evaluation
from calipose.io.images import read_image
from square_people import FOUR, person, pose, truth_of

APART = 500  # pixels from person to person: a pose of one is of no other


def random_table(seed, images=12, poses=60):
    """Hits, false and ignored poses without any ground truth behind them."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, (10, poses))
    return MatchTable(
        image=rng.integers(0, images, poses), hit=kind == 1, false=kind == 2, wanted=rng.integers(3, 9, images)
    )


def weighted_ap(table, weights):
    """AP as the mean precision at the hits, where each image's poses count by a weight, people by 1."""
    w = weights[table.image]
    total = 0.0
    for hit, false in zip(table.hit, table.false, strict=True):
        tp, fp = np.cumsum(w * hit), np.cumsum(w * false)
        total += (w * tp)[hit] @ (1 / (tp + fp)[hit])
    return total / len(table.hit) / table.wanted.sum()


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_the_derivatives_of_ap_and_add_up_to_it(seed):
    table = random_table(seed)
    once = np.ones(len(table.wanted))
    shares = ap_shares(table)
    assert shares.sum() == pytest.approx(weighted_ap(table, once), abs=1e-12)
    for i, share in enumerate(shares):
        step = np.zeros_like(once)
        step[i] = 1e-5
        # The cumulated counts of a share hold the whole hit, those of the derivative its middle: 1 / tp at most.
        slope = (weighted_ap(table, once + step) - weighted_ap(table, once - step)) / 2e-5
        assert slope == pytest.approx(share, abs=1e-7)


def compare_results(ground_truth, results_a, results_b, skeleton, bootstrap):
    first = Evaluation(ground_truth, results_a, skeleton)
    return compare(first, Evaluation(first.truth, results_b, skeleton), bootstrap)


def results_of(*found, image_id=1):
    """Poses at `(x, score)`."""
    return [pose(x, score, image_id) for x, score in found]


PEOPLE = [person(i * APART, image_id) for image_id in (1, 2, 3) for i in range(4)]
TRUTH = truth_of(*PEOPLE, images=(1, 2, 3, 4))
RIGHT = [pose(i * APART, 0.9 - 0.01 * i, image_id) for image_id in (1, 2, 3) for i in range(4)]


@pytest.mark.parametrize(
    ("change", "worse", "found", "false"),
    [
        (lambda r: [e for e in r if (e["image_id"], e["score"]) != (2, 0.9)], {2}, 3, 0),  # a person is missed
        (lambda r: [*r, pose(5000, 0.99, 2)], {2}, 4, 1),  # a false pose before all right ones
        (lambda r: [*r, pose(5000, 0.01, 2)], set(), 4, 0),  # one behind them costs nothing, and is not shown
        (lambda r: [*r, pose(5000, 0.99, 4)], {4}, 0, 1),  # in an image without people
    ],
)
def test_the_image_that_changed_is_named(change, worse, found, false):
    result = compare_results(TRUTH, RIGHT, change(RIGHT), FOUR, bootstrap=5)
    better, found_worse = result.largest_changes()
    assert {p.image_id for p in found_worse if p.change < -0.01} == worse
    assert all(p.change < 0.01 for p in better)
    changed = next(p for p in result.images if p.image_id == (min(worse) if worse else 2))
    assert (changed.b.found, changed.b.false) == (found, false)
    other = compare_results(TRUTH, change(RIGHT), RIGHT, FOUR, bootstrap=5)
    assert {p.image_id for p in other.largest_changes()[0] if p.change > 0.01} == worse


def test_changed_most_is_ordered_and_cut():
    worse = [e for e in RIGHT if e["image_id"] == 1 or (e["image_id"], e["score"]) == (2, 0.9)]
    result = compare_results(TRUTH, RIGHT, worse, FOUR, bootstrap=5)
    assert [p.image_id for p in result.largest_changes()[1]] == [3, 2]
    assert [p.image_id for p in result.largest_changes(1)[1]] == [3]
    assert result.a.ap == pytest.approx(result.difference.ap_b)
    assert result.b.ap - result.a.ap == pytest.approx(result.difference.difference)


def test_as_many_poses_are_shown_as_there_are_people():
    many = [*RIGHT, *(pose(5000 + i * APART, 0.5 - i / 100, 4) for i in range(5))]
    few = RIGHT[:3]
    result = compare_results(TRUTH, many, few, FOUR, bootstrap=5)
    assert result.min_scores == (0.87, -math.inf)
    assert [p.a.false for p in result.images] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("difference", "interval", "words"),
    [
        (0.021, (0.004, 0.039), "B is better by 2.1 points of AP, 95 % interval 0.4 to 3.9."),
        (-0.021, (-0.039, -0.004), "A is better by 2.1 points of AP, 95 % interval 0.4 to 3.9."),
        (0.008, (-0.012, 0.029), "cannot tell them apart: B minus A is +0.8 points of AP, 95 % interval -1.2 to +2.9"),
        (0.008, (0.0, 0.029), "cannot tell them apart"),
        (0.0, (0.0, 0.0), "the same AP"),
        (math.nan, (math.nan, math.nan), "no people to find"),
    ],
)
def test_verdict(difference, interval, words):
    figures = AveragePrecision(*[0.5] * 6, images=1, people=1, poses=1)
    paired = PairedDifference(difference, interval, 0.5, 0.5 + difference, 1)
    assert words in Comparison(paired, figures, figures, (), (0.0, 0.0), None, ([], [])).verdict()


def test_nobody_to_find_names_no_image():
    result = compare_results(truth_of(), results_of((0, 0.5)), [], FOUR, bootstrap=5)
    assert "no people" in result.verdict()
    assert result.largest_changes() == ([], [])


def test_a_wrong_entry_names_its_file(tmp_path):
    path = tmp_path / "b.json"
    path.write_text('[{"image_id": 9, "category_id": 1, "keypoints": [1, 1, 1], "score": 0.5}]')
    with pytest.raises(InputError, match=r"b\.json.*entry 0.*image_id 9"):
        compare_results(TRUTH, RIGHT, path, FOUR, bootstrap=5)


@pytest.fixture
def drawn_data(tmp_path):
    """The people of image 1 and 2, once found and once missed, with images of plain grey."""
    truth = truth_of(person(20), person(20, image_id=2))
    for image in truth["images"]:
        image["file_name"] = f"{image['id']}.png"
        save_image(tmp_path / image["file_name"], np.full((90, 120, 3), 128, np.uint8))
    return truth, tmp_path


def test_sheets_show_annotated_a_and_b(drawn_data):
    truth, folder = drawn_data
    result = compare_results(truth, results_of((20, 0.9)), results_of((20, 0.9), image_id=2), FOUR, bootstrap=5)
    written = draw_changes(result, folder, folder / "out")
    assert [path.name for path in written] == ["b_better.jpg", "a_better.jpg"]
    for path, seen in zip(written, ([True, False, True], [True, True, False]), strict=True):
        sheet = read_image(path).astype(int)
        assert sheet.shape[1] >= 3 * CELL_SIZE[0]
        inside = [third[20:-20, 20:-20] for third in np.array_split(sheet[: CELL_SIZE[1]], 3, axis=1)]
        assert [bool((np.abs(third - 128) > 60).any()) for third in inside] == seen

    same = compare_results(truth, results_of((20, 0.9)), results_of((20, 0.9)), FOUR, bootstrap=5)
    assert draw_changes(same, folder, folder / "out") == []
    assert list((folder / "out").iterdir()) == []  # sheets of an earlier comparison would mislead


def test_drawing_says_what_it_lacks(drawn_data):
    truth, folder = drawn_data
    result = compare_results(truth, results_of((20, 0.9)), [], FOUR, bootstrap=5)
    (folder / "file").write_text("")
    with pytest.raises(InputError, match="a file is where a folder should be"):
        draw_changes(result, folder, folder / "file")
    with pytest.raises(InputError, match=r"1\.png"):
        draw_changes(result, folder / "elsewhere", folder / "out")
    for image in truth["images"]:
        del image["file_name"]
    result = compare_results(truth, results_of((20, 0.9)), [], FOUR, bootstrap=5)
    with pytest.raises(InputError, match="image 1 has no 'file_name'"):
        draw_changes(result, folder, folder / "out")
