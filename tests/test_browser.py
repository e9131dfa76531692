"""The page of the service, as plain files, in Chromium: it finds Python's poses, uploads nothing, says what is wrong.

Needs Chromium, and `npm install` in examples/browser (no test does that); skipped with the reason where one is missing.
"""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from browser_page import Page, js_bytes
from calipose.config.stored import stored_path
from calipose.data.synthetic.scene import HARD, synthesize_scene
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, network_input, read_image
from calipose.poses import Poses
from calipose.skeleton import Skeleton
from chromium import CHROMIUM

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).resolve().parents[1]
FOLDER, PAGE = ROOT / "examples" / "browser", ROOT / "src" / "calipose" / "serve" / "page"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules" / "onnxruntime-web").is_dir(),
        reason="onnxruntime-web is not installed: npm install in examples/browser",
    ),
]


@contextmanager
def serve(model: Path | None) -> Iterator[tuple[str, list[str]]]:
    """Serve the page with `model` as its model.onnx, or without one; gives the address and all request lines.

    What lies beside `model` is the page's model.calipose.json.
    """
    lines: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            if path.startswith("/node_modules"):
                return str(FOLDER) + path
            if model and path == "/model.calipose.json":
                return str(stored_path(model))
            return str(model) if path == "/model.onnx" else super().translate_path(path)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            lines.append(self.requestline)

        def log_message(self, format: str, *values: Any) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), lambda *a: Handler(*a, directory=str(PAGE)))  # type: ignore[misc]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/", lines
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def model(tiny_onnx: Path) -> Path:
    """The model of the page: random weights."""
    return tiny_onnx


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser = Page(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(browser: Page, model: Path) -> Iterator[Page]:
    """The page with its model, and all poses listed."""
    with serve(model) as (url, lines):
        browser.open(url)
        browser.slide(0)
        yield browser
    # Nothing is uploaded, and nothing is asked of anybody else.
    assert {line.split()[0] for line in lines} == {"GET"}
    asked = [event["params"]["request"]["url"] for event in browser.events if "request" in event.get("params", {})]
    assert asked
    assert all(address.removeprefix("blob:").startswith("http://localhost:") for address in asked), asked


def draw(seed: int, width: int, height: int) -> Image:
    return synthesize_scene(np.random.default_rng(seed), (width, height), HARD).image


def upright_png(path: Path) -> None:
    cv2.imwrite(str(path), draw(0, 320, 240)[..., ::-1])


def turned_jpeg(path: Path) -> None:
    """Lies on its side, as phones store portraits, and is reduced to a third."""
    exif = PilImage.Exif()
    exif[0x0112] = 6
    PilImage.fromarray(draw(1, 410, 300)).save(path, exif=exif, quality=92)


def transparent_png(path: Path) -> None:
    image = draw(2, 150, 110)
    alpha = np.tile(np.linspace(60, 255, 150).astype(np.uint8), (110, 1))
    cv2.imwrite(str(path), np.dstack([image[..., ::-1], alpha]))


def steady(predictor: Predictor, image: Image, poses: Poses) -> np.ndarray:
    """Which poses Python finds again when some pixels change by one level: the others hang on a rounding.

    With random weights, neighbouring cells of nearly equal score are frequent, and either may become the peak.
    """
    random = np.random.default_rng(0)
    found = np.ones(len(poses), bool)
    for _ in range(12):
        change = random.choice([-1, 1], image.shape) * (random.random(image.shape) < 0.001)
        again = predictor.predict((image + change).clip(0, 255).astype(np.uint8))
        found &= pairs(poses, again)[1] < 0.5
    return found


def pairs(poses: Poses, others: Poses) -> tuple[np.ndarray, np.ndarray]:
    """For each pose its nearest in `others`, and the largest gap of a coordinate in pixels."""
    gaps = np.abs(poses.keypoints_img[:, None] - others.keypoints_img).max((2, 3))
    return gaps.argmin(1), gaps.min(1)


@pytest.mark.parametrize(
    ("way", "name", "write"),
    [
        ("choose", "upright.png", upright_png),
        ("drop", "turned.jpg", turned_jpeg),
        ("paste", "transparent.png", transparent_png),
    ],
)
def test_the_page_finds_pythons_poses(page: Page, model: Path, tmp_path: Path, way: str, name: str, write: Any) -> None:
    write(tmp_path / name)
    if way == "choose":
        page.choose("image-file", tmp_path / name)
    else:
        getattr(page, way)(tmp_path / name)
    assert page.text("error") == ""
    compare(page, read_image(tmp_path / name), Predictor.from_onnx(model))


def compare(page: Page, image: Image, predictor: Predictor) -> None:
    """What the page shows is what Python finds."""
    want, got = predictor.predict(image), page.poses()
    assert got.image_size == want.image_size == image.shape[1::-1]
    for these, others in ((want, got), (got, want)):
        sure = these[steady(predictor, image, these)]
        assert len(sure) >= max(2, 0.6 * len(others))
        nearest, gaps = pairs(sure, others)
        assert gaps.max() < 0.5
        assert np.abs(sure.scores - others.scores[nearest]).max() < 0.01


def test_several_sizes(page: Page, model: Path, tmp_path: Path) -> None:
    """A file that says so is predicted at several sizes, whose poses go through one pose NMS."""
    network = onnx.load(model)
    header = json.loads(next(entry.value for entry in network.metadata_props if entry.key == "calipose"))
    header["predict"]["scales"] = [0.5, 1.0]
    del network.metadata_props[:]
    onnx.helper.set_model_props(network, {"calipose": json.dumps(header)})
    onnx.save(network, tmp_path / "two.onnx")
    upright_png(tmp_path / "upright.png")
    page.choose("model-file", tmp_path / "two.onnx")
    page.choose("image-file", tmp_path / "upright.png")
    assert page.text("error") == ""
    compare(page, read_image(tmp_path / "upright.png"), Predictor.from_onnx(tmp_path / "two.onnx"))
    page.choose("model-file", model)


@pytest.mark.parametrize(
    ("width", "height", "short_side", "max_aspect"),
    [
        (1, 1, 64, 2.5),
        (64, 64, 64, 2.5),
        (99, 101, 192, 2.5),
        (320, 240, 96, 2.5),
        (640, 480, 320, 2.5),
        (700, 260, 96, 2.5),
        (601, 407, 32, 2.5),
        (1000, 30, 96, 2.5),
        (1200, 900, 96, 1.0),
    ],
)
def test_the_networks_input_is_pythons(page: Page, width: int, height: int, short_side: int, max_aspect: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    want, _ = network_input(image, short_side, (124, 116, 104), max_aspect)
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    columns, rows, data = page.evaluate(
        f"(async () => {{ const bitmap = await createImageBitmap(new Blob([{js_bytes(png)}]));"
        " const { networkInput } = await import('./calipose.js');"
        f" const input = networkInput(bitmap, {short_side}, {max_aspect}, [124, 116, 104]);"
        " return [input.width, input.height, btoa(Array.from(input.data, v => String.fromCharCode(v)).join(''))]; })()"
    )
    got = np.frombuffer(base64.b64decode(data), np.uint8).reshape(rows, columns, 3)
    assert got.shape == want.shape
    gap = np.abs(got.astype(int) - want)
    assert gap.max() <= 1  # OpenCV's own rounding differs from processor to processor
    assert gap.mean() < 0.002


def test_the_slider_hides_poses_below_it(page: Page, tmp_path: Path) -> None:
    upright_png(tmp_path / "image.png")
    page.choose("image-file", tmp_path / "image.png")
    scores = page.poses().scores
    limit = round(float(np.median(scores)), 2)
    page.slide(limit)
    above = int((scores >= limit).sum())
    listed = page.evaluate("[...document.querySelectorAll('#list li:not([hidden])')].map(e => e.innerText.trim())")
    assert [float(text) for text in listed] == [round(float(score), 2) for score in scores[:above]]
    assert 0 < len(page.poses()) == above < len(scores)
    assert f"{above} poses of score {limit:.2f} or more, {len(scores) - above} below" in page.text("status")
    assert "Network" in page.text("timings")
    page.slide(0)


def stick_onnx(path: Path, skeleton: Skeleton) -> None:
    """A file with all outputs that an export may have: three poses, of which one is not valid and one is poor."""
    values = {
        "keypoints": np.arange(18, dtype=np.float32).reshape(1, 3, 3, 2),
        "scores": np.array([[0.75, 0.5, 0.01]], np.float32),
        "raw_scores": np.array([[1.5, 1.25, -0.5]], np.float32),
        "valid": np.array([[True, False, True]]),
        "keypoint_scores": np.linspace(0, 1, 9, dtype=np.float32).reshape(1, 3, 3),
    }
    constants = [onnx.numpy_helper.from_array(value) for value in values.values()]
    nodes = [onnx.helper.make_node("Constant", [], [n], value=c) for n, c in zip(values, constants, strict=True)]
    entry = onnx.helper.make_tensor_value_info
    images = entry("images", onnx.TensorProto.UINT8, [1, "h", "w", 3])
    outputs = [entry(n, c.data_type, c.dims) for n, c in zip(values, constants, strict=True)]
    graph = onnx.helper.make_graph(nodes, "stick", [images], outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    settings = {"short_side": 64, "max_aspect": 2.5, "score_threshold": 0.05}
    header = {"skeleton": skeleton.to_dict(), "predict": settings, "pad_colour": [124, 116, 104]}
    onnx.helper.set_model_props(model, {"another": "entry", "calipose": json.dumps(header)})
    onnx.save(model, path)


def test_everything_is_read_from_the_file(page: Page, model: Path, tmp_path: Path) -> None:
    stick = Skeleton("stick", ("head", "left_hand", "right_hand"), ((1, 2),), ((0, 1), (0, 2)), (0.03, 0.06, 0.06))
    stick_onnx(tmp_path / "stick.onnx", stick)
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((128, 200, 3), np.uint8))
    page.choose("model-file", tmp_path / "stick.onnx")
    page.choose("image-file", tmp_path / "image.png")
    assert page.text("error") == ""
    want = Poses(
        2 * (np.arange(6.0).reshape(1, 3, 2) + 0.5) - 0.5,  # half the size at the network
        np.array([0.75]),
        (200, 128),
        keypoint_scores=np.float32([[0, 0.125, 0.25]]),
        skeleton=stick,
        raw_scores=np.array([1.5]),
    )
    assert json.loads(page.text("json")) == want.to_dict()
    page.choose("model-file", model)


def test_what_lies_beside_the_model_counts(browser: Page, page: Page, model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(model, tmp_path / "copy.onnx"))
    stored_path(copy).write_text('{"calibration": {"score": {"x": [0.0, 1.0], "y": [0.2, 0.4]}}}')
    upright_png(tmp_path / "image.png")
    back = page.evaluate("location.href")
    with serve(copy) as (url, _):
        browser.open(url)
        browser.slide(0)
        assert "scores by the .calipose.json file beside it" in browser.text("about-model")
        browser.choose("image-file", tmp_path / "image.png")
        got, want = browser.poses(), Predictor.from_onnx(copy).predict(tmp_path / "image.png")
    assert 0.1 < got.scores.min() <= got.scores.max() < 0.5
    assert got.scores[0] == pytest.approx(want.scores[0], abs=0.01)
    page.open(back)
    page.slide(0)
    assert "scores not calibrated" in page.text("about-model")


def foreign_onnx(path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "graph", values[:1], values[1:])), path)


@pytest.mark.parametrize(
    ("input_id", "name", "write", "message"),
    [
        ("image-file", "text.png", lambda path: path.write_text("no image"), "text.png is no image"),
        ("image-file", "empty.jpg", lambda path: path.write_bytes(b""), "empty.jpg is no image"),
        ("model-file", "text.onnx", lambda path: path.write_text("no model"), "text.onnx is not an ONNX file"),
        ("model-file", "empty.onnx", lambda path: path.write_bytes(b""), "empty.onnx is not an ONNX file"),
        (
            "model-file",
            "other.onnx",
            foreign_onnx,
            "other.onnx is an ONNX file, but not one that calipose export wrote",
        ),
    ],
)
def test_a_wrong_file_is_named_and_the_page_goes_on(
    page: Page, tmp_path: Path, input_id: str, name: str, write: Any, message: str
) -> None:
    write(tmp_path / name)
    page.choose(input_id, tmp_path / name)
    assert message in page.text("error")
    upright_png(tmp_path / "image.png")
    page.choose("image-file", tmp_path / "image.png")
    assert page.text("error") == ""
    assert len(page.poses()) >= 2


def test_without_a_model_the_page_says_so_and_takes_one(page: Page, model: Path, tmp_path: Path) -> None:
    upright_png(tmp_path / "image.png")
    page.choose("image-file", tmp_path / "image.png")
    want = page.poses()
    tab = page.evaluate("location.href")
    with serve(None) as (url, _):
        page.open(url)
        assert "There is no model.onnx beside this page" in page.text("error")
        page.choose("image-file", tmp_path / "image.png")
        assert "There is no model yet" in page.text("error")
        page.choose("model-file", model)  # the image waits for it
        page.slide(0)
        assert page.text("error") == ""
        assert np.array_equal(page.poses().keypoints_img, want.keypoints_img)
    page.open(tab)
    page.slide(0)
