"""The page used as people do: keyboard alone, real downloads, a video file, the file beside a model, and its notes."""

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from browser_page import Page
from calipose.config.stored import stored_path
from calipose.inference.packaged import ONEPASS, packaged
from calipose.inference.predictor import Predictor
from calipose.poses import Poses
from chromium import CHROMIUM, PATIENCE
from serving import serving
from synthetic_video import write_video

MODULES = Path(__file__).resolve().parents[2] / "examples" / "browser" / "node_modules"
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "End": 35, "Home": 36}  # and their codes in Windows
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium"),
    pytest.mark.skipif(not (MODULES / "onnxruntime-web").is_dir(), reason="npm ci in examples/browser was not run"),
]


def press(page: Page, key: str) -> None:
    """Press a key as a keyboard does: what browsers allow only to people is allowed, too."""
    text = {"Enter": "\r", " ": " "}.get(key, "")
    kind = "keyDown" if text else "rawKeyDown"
    given = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
    page.call("Input.dispatchKeyEvent", type=kind, text=text, **given)
    page.call("Input.dispatchKeyEvent", type="keyUp", **given)


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(40):
        if page.evaluate(f"document.activeElement.matches({selector!r})"):
            return
        press(page, "Tab")
    raise AssertionError(f"Tab does not reach {selector}")


def until(found: Callable[[], Any]) -> Any:
    """What `found` gives as soon as it gives something."""
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def event(page: Page, method: str) -> Any:
    """Parameters of the next event of this kind."""

    def found() -> Any:
        page.evaluate("0")  # events come with answers
        return [one["params"] for one in page.events[page.first_event :] if one.get("method") == method]

    return until(found)[-1]


@pytest.fixture
def downloads(page: Page, tmp_path: Path) -> Path:
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    return tmp_path


def test_by_keyboard_alone(page: Page, predictor: Predictor, image: Path, downloads: Path) -> None:
    """From the file to the saved table without a mouse."""
    page.evaluate("document.activeElement.blur()")
    page.call("Page.setInterceptFileChooserDialog", enabled=True)  # headless Chromium shows none
    tab_to(page, "#image-file")
    press(page, "Enter")
    chooser = event(page, "Page.fileChooserOpened")
    page.call("Page.setInterceptFileChooserDialog", enabled=False)
    page.evaluate("document.getElementById('status').textContent = 'Starting'")
    page.call("DOM.setFileInputFiles", backendNodeId=chooser["backendNodeId"], files=[str(image)])
    page.wait_until_ready()
    every = predictor.predict(image)

    tab_to(page, "#threshold")
    press(page, "Home")
    assert len(page.poses()) > len(every.above(0.3)) >= 1
    press(page, "ArrowRight")
    assert page.text("threshold-value") == "0.01"
    press(page, "End")
    assert len(page.poses()) == 0
    page.slide(0.3)

    tab_to(page, "#regions-on")
    press(page, " ")
    until(lambda: page.poses().radii_img is not None)
    tab_to(page, "#coverage")
    press(page, "Home")
    assert page.poses().coverage == 0.5

    tab_to(page, "#list button")
    press(page, "Enter")
    assert page.evaluate("document.activeElement.ariaPressed") == "true"

    tab_to(page, "#save-csv")
    press(page, "Enter")
    table = until(lambda: [path for path in downloads.glob("*.csv") if path.stat().st_size])[0]
    assert table.name == "people, two.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert {row["coverage"] for row in rows} == {"0.5"}
    tab_to(page, "#regions-on")
    press(page, " ")

    tab_to(page, "input[name=where]")
    press(page, "ArrowRight")
    page.wait_until_ready()
    assert "Images are sent to localhost" in page.text("privacy")
    page.click("input[value=browser]")


def test_a_file_is_downloaded_under_the_images_name(page: Page, image: Path, downloads: Path) -> None:
    page.choose("image-file", image)
    page.evaluate("document.getElementById('save-json').click()")
    file = until(lambda: [path for path in downloads.glob("*.json") if path.stat().st_size])[0]
    assert file.name == "people, two.json"
    assert Poses.from_dict(json.loads(file.read_text())).to_dict() == page.poses().to_dict()


def find_in(page: Page, where: str) -> None:
    """Have the poses found in the browser or on the server, where they are not already."""
    page.evaluate(f"document.querySelector('input[value={where}]').click()")
    page.wait_until_ready()


@pytest.mark.parametrize("where", ["browser", "server"])
def test_a_video_file_is_played_and_its_frame_kept(page: Page, tmp_path: Path, where: str) -> None:
    pytest.importorskip("av")
    film = write_video(tmp_path / "film.webm", frames=20, rate=10, size=(320, 240), codec="libvpx")
    find_in(page, where)
    page.call("DOM.setFileInputFiles", objectId=_object(page, "image-file"), files=[str(film)])
    shown = "!document.getElementById('results').hidden && !document.getElementById('video').hidden"
    until(lambda: page.evaluate(shown))
    assert page.text("error") == ""
    assert page.evaluate("document.getElementById('video').ariaLabel") == "film.webm"
    assert page.poses().image_size == (320, 240)
    assert ("Server" if where == "server" else "Network") in page.text("timings")
    page.click("#stop")
    assert page.text("error") == ""
    assert page.evaluate("document.getElementById('video').hidden")
    assert page.evaluate("document.getElementById('image').naturalWidth") == 320
    find_in(page, "browser")


def _object(page: Page, element_id: str) -> str:
    found = page.call("Runtime.evaluate", expression=f"document.getElementById({element_id!r})")
    return str(found["result"]["objectId"])


def test_a_video_that_cannot_be_played_is_named(page: Page, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no film")
    page.choose("image-file", tmp_path / "no.mp4")
    assert page.text("error") == "no.mp4 is no video that this browser can play."


def choose_together(page: Page, *files: Path) -> None:
    page.evaluate("document.getElementById('status').textContent = 'Starting'")
    page.call("DOM.setFileInputFiles", objectId=_object(page, "model-file"), files=[str(file) for file in files])
    page.wait_until_ready()


def test_the_file_beside_a_model_takes_the_place_of_its_maps(page: Page, image: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(packaged(ONEPASS).read_bytes())
    page.choose("image-file", image)
    choose_together(page, model)
    assert "scores by the maps inside the file" in page.text("about-model")
    assert "mine.onnx, one look" in page.text("browser-model")
    assert page.evaluate("document.getElementById('precision-row').hidden")  # the server does not know this model
    bare, want_bare = page.poses(), Predictor(model, threads=1).predict(image)
    stored = stored_path(model)
    stored.write_bytes(stored_path(packaged(ONEPASS)).read_bytes())
    choose_together(page, model, stored)
    assert "scores by the .calipose.json file beside it" in page.text("about-model")
    got, want = page.poses(), Predictor(model, threads=1).predict(image)
    for found, wanted in ((bare, want_bare), (got, want)):
        assert np.abs(found.scores - wanted.scores[: len(found)]).max() < 0.005
    assert np.abs(want.scores - want_bare.scores).max() > 0.02  # it matters

    stored.write_text(json.dumps({"model": "other.onnx"}))
    choose_together(page, model, stored)
    assert "was made for another model (other.onnx) than mine.onnx" in page.text("error")
    stored.write_text(json.dumps({"sha256": "0" * 64}))
    choose_together(page, model, stored)
    assert "was made for another model (another file) than mine.onnx" in page.text("error")
    stored.write_text("{")
    choose_together(page, model, stored)
    assert page.text("error") == "mine.calipose.json is not JSON, or it is damaged."
    choose_together(page, stored)
    assert "choose or drop it together with the model's .onnx file" in page.text("error")
    page.open(page.evaluate("location.href"))


def test_the_notes_say_what_runs_where(page: Page, tmp_path: Path, image: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(packaged(ONEPASS).read_bytes())
    stored_path(model).write_text("{}")  # which says that nothing was calibrated
    assert page.text("browser-model") == "onepass, one look"
    assert page.text("server-model") == "its own model, one look"
    back = page.evaluate("location.href")
    with serving(
        Predictor(model, threads=1), web_runtime=str(MODULES / "onnxruntime-web" / "dist"), model_name="mine"
    ) as address:
        page.open(address)
        assert page.text("server-model") == "mine, one look"
        page.choose("image-file", image)
        page.click("#regions-on")
        assert page.text("regions-note") == ""
        page.click("input[value=server]")
        assert page.text("regions-note").startswith("The calibration of the server's model has no regions.")
        page.select("precision", "0.5@0.5")
        assert "never calibrated" in page.text("error")
        choose_together(page, model, stored_path(model))
        assert "scores not calibrated" in page.text("about-model")
        assert page.text("regions-note").startswith("The calibration of this model has no regions.")
        got = page.poses()
        assert got.raw_scores == pytest.approx(got.scores)
    page.open(back)
