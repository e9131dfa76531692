"""The page as `calipose serve` gives it: in the browser, on the server, filming, saving, by keyboard; axe-core."""

import csv
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from browser_page import Page
from calipose.formats.csv import write_csv
from calipose.inference.predictor import Predictor
from calipose.poses import Poses
from chromium import CHROMIUM, PATIENCE
from page_checks import SCHEMES, WIDTHS, check_page, open_afresh
from serving import serving

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "examples" / "browser" / "node_modules"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium"),
    pytest.mark.skipif(not (MODULES / "axe-core").is_dir(), reason="npm ci in examples/browser was not run"),
]

KEEP_WHAT_IS_SAVED = """(() => {
    window.saved = [];
    const make = URL.createObjectURL.bind(URL);
    URL.createObjectURL = (blob) => {
        blob.text?.().then((text) => saved.push(text));
        return make(blob);
    };
    for (const id of ["save-json", "save-csv"]) document.getElementById(id).click();
    URL.createObjectURL = make;
})()"""


def near(poses: Poses, want: Poses) -> bool:
    return len(poses) == len(want) and bool(np.abs(poses.keypoints_img - want.keypoints_img).max() < 1)


def test_in_the_browser_and_on_the_server(page: Page, predictor: Predictor, image: Path) -> None:
    want = predictor.predict(image).above(0.3)
    assert len(want) >= 1
    assert page.evaluate("document.querySelector('input[name=where]:checked').value") == "browser"
    page.choose("image-file", image)
    assert page.text("error") == ""
    assert near(page.poses(), want)
    assert "nothing is uploaded" in page.text("privacy")
    page.click("input[value=server]")
    assert "Images are sent to localhost" in page.text("privacy")
    assert page.text("error") == ""
    assert page.poses().to_dict() == want.to_dict()  # the very numbers
    page.click("input[value=browser]")


def test_files_to_save_are_those_of_python(page: Page, image: Path) -> None:
    page.choose("image-file", image)
    poses = page.poses()
    page.evaluate(KEEP_WHAT_IS_SAVED)
    end = time.monotonic() + PATIENCE
    while page.evaluate("saved.length") < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    saved_json, saved_csv = page.evaluate("saved")
    assert Poses.from_dict(json.loads(saved_json)).to_dict() == poses.to_dict()
    want = io.StringIO()
    write_csv(want, [{"file": image.name, **poses.to_dict()}])
    got_rows, want_rows = (list(csv.reader(io.StringIO(text))) for text in (saved_csv, want.getvalue()))
    assert got_rows[0] == want_rows[0]
    assert len(got_rows) == len(want_rows) == 1 + 17 * len(poses)
    for got, wanted in zip(got_rows[1:], want_rows[1:], strict=True):
        for a, b in zip(got, wanted, strict=True):
            assert a == b or abs(float(a) - float(b)) < 0.011  # halves are rounded to even in Python


def test_a_target_precision_moves_the_slider(page: Page, predictor: Predictor, image: Path) -> None:
    from calipose.calibration.precision import PrecisionTarget

    page.choose("image-file", image)
    chosen = predictor.calibration.precision.choose(PrecisionTarget.parse("0.5@0.5"))
    page.select("precision", "0.5@0.5")
    assert page.text("error") == ""
    want = float(predictor.calibration.score(chosen.raw))
    assert float(page.text("threshold-value")) == pytest.approx(want, abs=0.0051)
    assert f"of {chosen.poses} poses of the calibration data" in page.text("precision-note")
    page.slide(0.3)
    assert page.text("precision-note") == ""


@pytest.mark.parametrize("where", ["browser", "server"])
def test_regions_are_drawn_and_saved(page: Page, predictor: Predictor, image: Path, where: str) -> None:
    if where == "server":
        page.click("input[value=server]")
    page.choose("image-file", image)
    without = page.evaluate("document.getElementById('overlay').toDataURL()")
    page.click("#regions-on")
    assert page.text("error") == page.text("regions-note") == ""
    for percent in (90, 99, 60):  # the last quantiles are of all keypoints together
        page.slide(percent, "coverage")
        got, want = page.poses(), predictor.predict(image).above(0.3).with_regions(percent / 100)
        assert got.coverage == want.coverage
        assert got.radii_img is not None
        assert want.radii_img is not None
        assert np.abs(got.radii_img / want.radii_img - 1).max() < (0.1 if where == "browser" else 1e-9)
    assert page.evaluate("document.getElementById('coverage').max") == "99"
    assert page.evaluate("document.getElementById('overlay').toDataURL()") != without
    page.evaluate(KEEP_WHAT_IS_SAVED)
    end = time.monotonic() + PATIENCE
    while page.evaluate("saved.length") < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    rows = list(csv.DictReader(io.StringIO(page.evaluate("saved")[1])))
    assert {row["coverage"] for row in rows} == {"0.6"}
    assert [float(row["radius"]) for row in rows] == pytest.approx(got.radii_img.ravel().tolist(), abs=0.0051)
    page.click("#regions-on")
    assert page.poses().radii_img is None
    if where == "server":
        page.click("input[value=browser]")


def test_a_film_is_followed_and_its_frame_kept(page: Page) -> None:
    """Chromium's own test image plays the camera."""
    page.evaluate("document.getElementById('film').click()")
    end = time.monotonic() + PATIENCE
    while not page.evaluate("!document.getElementById('results').hidden && !document.getElementById('video').hidden"):
        assert time.monotonic() < end, page.text("error")
        time.sleep(0.1)
    assert page.evaluate("document.activeElement.id") == "stop"
    assert page.text("timings")
    page.click("#stop")
    assert page.text("error") == ""
    assert page.evaluate("document.getElementById('video').srcObject === null")  # the camera is off
    assert page.evaluate("document.getElementById('image').alt").startswith("frame.jpg: ")


def test_without_onnxruntime_web_the_server_finds_the_poses(page: Page, predictor: Predictor, image: Path) -> None:
    back = page.evaluate("location.href")
    with serving(predictor, token="secret") as address:
        page.open(address)
        assert "has no onnxruntime-web, so images are sent to it" in page.text("where-note")
        page.choose("image-file", image)
        assert "wants its token" in page.text("error")
        page.evaluate("document.getElementById('token').value = 'secret'")
        page.choose("image-file", image)
        assert page.text("error") == ""
        assert near(page.poses(), predictor.predict(image).above(0.3))
    page.open(back)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_is_clean_light_and_dark_narrow_and_wide(page: Page, image: Path, width: int, scheme: str) -> None:
    open_afresh(page, page.evaluate("location.href"), width, scheme)
    page.wait_until_ready()
    page.choose("image-file", image)
    page.click("#regions-on")
    assert check_page(page).faults(scheme) == []


def test_everything_is_reached_by_keyboard(page: Page, image: Path) -> None:
    page.choose("image-file", image)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(30):
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
    for name in (
        "image-file",
        "film",
        "threshold",
        "precision",
        "regions-on",
        "save-json",
        "save-csv",
        "where",
        "model-file",
    ):
        assert name in reached, reached
