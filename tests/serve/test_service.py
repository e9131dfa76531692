"""The service answers with the poses that Python finds, and refuses all else with a sentence."""

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from fastapi.testclient import TestClient

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.predictor import Predictor
from calipose.io.images import decode_image
from calipose.poses import Poses
from calipose.serve.app import create_app
from calipose.serve.settings import ServeSettings
from calipose.skeleton import COCO_17

JPEG = {"Content-Type": "image/jpeg"}


class TwoPeople:
    """A backend that finds two people anywhere; the first one's score is the image's brightness."""

    skeleton, pad_colour = COCO_17, (0, 0, 0)
    settings, calibration = PredictSettings(short_side=64), Calibration()

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches = seconds, []

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        time.sleep(self.seconds)
        self.batches.append(len(images))
        b = len(images)
        people = np.linspace(2, 60, 34).reshape(1, 17, 2) * np.array([[[1, 0.4]], [[0.4, 1]]])
        scores = np.stack([images.reshape(b, -1).max(1) / 255, np.full(b, 0.2)], 1)
        return BatchCandidates(np.repeat(people[None], b, 0), scores, np.full((b, 2, 17), 0.5))


def jpeg(width: int = 80, height: int = 64, value: int = 200) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((height, width, 3), value, np.uint8))[1])


def client(backend: TwoPeople | None = None, **limits: Any) -> TestClient:
    app = create_app(Predictor(backend or TwoPeople()), ServeSettings(**limits))
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def service() -> Iterator[TestClient]:
    with client(max_images=3, max_bytes=100_000, max_pixels=100_000) as service:
        yield service


def test_the_answer_is_what_python_finds(service: TestClient) -> None:
    answer = service.post("/predict?name=a/b/photo.jpg&min_score=0.1", content=jpeg(), headers=JPEG)
    assert answer.status_code == 200, answer.text
    want = Predictor(TwoPeople()).predict(jpeg())
    assert len(want) == 2
    assert answer.json() == {"min_score": 0.1, "images": [{"file": "photo.jpg", **want.to_dict()}]}


def test_several_images_in_order_and_without_weak_poses(service: TestClient) -> None:
    files = [("image", (f"{value}.jpg", jpeg(value=value), "image/jpeg")) for value in (250, 100, 180)]
    answer = service.post("/predict", files=files, data={"note": "passed over"}).json()
    assert answer["min_score"] == 0.3
    assert [entry["file"] for entry in answer["images"]] == ["250.jpg", "100.jpg", "180.jpg"]
    scores = [[pose["score"] for pose in entry["poses"]] for entry in answer["images"]]
    assert [round(255 * first) for (first,) in scores] == [250, 100, 180]


def test_the_drawing(service: TestClient) -> None:
    data = jpeg()
    entry = service.post("/predict?draw=true", content=data).json()["images"][0]
    drawing = decode_image(base64.b64decode(entry.pop("drawing").partition("base64,")[2]), "drawing")
    assert drawing.shape == (64, 80, 3)
    assert np.abs(drawing.astype(int) - decode_image(data, "image")).max() > 50
    alone = service.post("/predict?format=jpg", content=data)
    assert alone.headers["content-type"] == "image/jpeg"
    assert np.array_equal(decode_image(alone.content, "drawing"), drawing)
    assert Poses.from_dict(entry).image_size == (80, 64)


def test_the_formats_of_the_command_line(service: TestClient) -> None:
    files = [("image", (f"{i}.jpg", jpeg(), "image/jpeg")) for i in range(2)]
    lines = service.post("/predict?format=jsonl", files=files).text.splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["0.jpg", "1.jpg"]
    table = service.post("/predict?format=csv-wide", files=files)
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 3
    assert [entry["image_id"] for entry in service.post("/predict?format=coco", files=files).json()] == [0, 1]


def encoded(format: str, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM"])
def test_formats_of_images(service: TestClient, format: str) -> None:
    if format == "AVIF" and cv2.imdecode(np.frombuffer(encoded(format), np.uint8), cv2.IMREAD_COLOR) is None:
        pytest.skip("hardware: OpenCV is built without AVIF here")
    answer = service.post("/predict", content=encoded(format), headers={"Content-Type": "application/octet-stream"})
    assert answer.json().get("images", answer.json())[0]["image_size"] == [64, 64]


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
REFUSED = [
    ("/predict", b"", JPEG, 422, "no image"),
    ("/predict", b"hello", JPEG, 415, "image is no image of a format read here"),
    ("/predict", b"hello", {"Content-Type": "text/plain"}, 415, "'text/plain' is not taken"),
    ("/predict", jpeg()[:-30], JPEG, 422, "cut off"),
    ("/predict", b"\x89PNG\r\n\x1a\n" + bytes(50), JPEG, 415, "no image"),
    ("/predict", encoded("PNG")[:60] + bytes(40) + b"IEND", JPEG, 422, "damaged"),
    ("/predict", encoded("PNG", (60_000, 60_000), "1"), JPEG, 413, "larger than 0.1 MB"),
    ("/predict", encoded("PNG", (1000, 1000), "1"), JPEG, 413, "1000 x 1000 pixels, more than 0.1 million"),
    ("/predict", jpeg() + bytes(100_000), JPEG, 413, "larger than 0.1 MB"),
    ("/predict?min_score=7", jpeg(), JPEG, 422, "min_score: input should be less than or equal to 1"),
    ("/predict?min_score=nan", jpeg(), JPEG, 422, "min_score"),
    ("/predict?minscore=0.5", jpeg(), JPEG, 422, "no option 'minscore'; there are draw"),
    ("/predict?format=xml", jpeg(), JPEG, 422, "'xml' is none of json, jsonl"),
    ("/predict?precision=high", jpeg(), JPEG, 422, "write SHARE@OKS"),
    ("/predict?precision=0.7@0.5", jpeg(), JPEG, 422, "never calibrated"),
    ("/predict?precision=0.7@0.5&min_score=0.5", jpeg(), JPEG, 422, "leave out min_score"),
    ("/predict?regions=0.3", jpeg(), JPEG, 422, "regions: input should be greater than or equal to 0.5"),
    ("/predict?regions=0.9", jpeg(), JPEG, 422, "no regions of keypoints: the model's calibration has none"),
    ("/predict", b"{}", {"Content-Type": "application/json"}, 422, '{"urls": ['),
    ("/predict", b"{", {"Content-Type": "application/json"}, 422, '{"urls": ['),
    ("/predict", b'{"urls": ["http://example.org/"]}', {"Content-Type": "application/json"}, 403, "loads no URLs"),
    ("/predict", PART + jpeg(), FORM, 422, "cut off"),
    ("/predict", PART + jpeg() + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data"}, 422, "no boundary"),
    ("/predict", 4 * (PART + jpeg() + b"\r\n") + b"--x--\r\n", FORM, 413, "more than the 3"),
    ("/predict?format=jpg", 2 * (PART + jpeg() + b"\r\n") + b"--x--\r\n", FORM, 422, "one image, and 2 came"),
    ("/predict", jpeg(), {"Origin": "https://elsewhere.example"}, 403, "another site"),
    ("/nothing", b"", {}, 404, "/openapi.json lists"),
    ("/predict/", jpeg(), JPEG, 404, "/openapi.json lists"),
    ("/health", b"", {}, 405, "does not take POST"),
]


@pytest.mark.parametrize(("path", "body", "headers", "status", "sentence"), REFUSED)
def test_what_is_refused(
    service: TestClient, path: str, body: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    answer = service.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text
    assert sentence in answer.json()["error"]
    assert service.app.state.engine.waiting == service.app.state.intake.received == 0  # type: ignore[attr-defined]


def test_a_full_queue_a_slow_network_and_too_many_bytes() -> None:
    with client(TwoPeople(0.2), queue=1, seconds=0.1) as service:
        answer = service.post("/predict", content=jpeg())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "no answer within 0.1 seconds" in answer.json()["error"]
        service.app.state.engine.waiting += 2  # type: ignore[attr-defined]
        answer = service.post("/predict", content=jpeg())
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert "2 images wait already" in answer.json()["error"]
        assert service.get("/ready").status_code == 503
        service.app.state.intake.received = 600_000_000  # type: ignore[attr-defined]
        assert service.post("/predict", content=jpeg()).status_code == 503


def test_waiting_images_go_through_the_network_together() -> None:
    backend = TwoPeople(0.05)
    with client(backend, batch_size=4) as service:
        backend.batches.clear()
        files = [("image", ("a.jpg", jpeg(), "image/jpeg"))] * 8
        assert len(service.post("/predict", files=files).json()["images"]) == 8
    assert sum(backend.batches) == 8
    assert max(backend.batches) >= 2


def test_the_token() -> None:
    with client(token="secret") as service:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            answer = service.post("/predict", content=jpeg(), headers=headers)
            assert answer.status_code == 401
            assert "Authorization: Bearer TOKEN" in answer.json()["error"]
        right = {"Authorization": "Bearer secret"}
        assert service.post("/predict", content=jpeg(), headers=right).status_code == 200
        assert service.get("/metrics").status_code == 401
        assert service.get("/metrics", headers=right).status_code == 200
        assert service.get("/health").status_code == service.get("/").status_code == 200


def test_health_metrics_and_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with client() as service:
        assert service.get("/health").json() == {"status": "ok"}
        assert service.get("/ready").json() == {"status": "ready", "images_waiting": 0}
        service.post("/predict?name=secret-name.jpg", content=jpeg())
        text = service.get("/metrics").text
    assert 'calipose_requests_total{path="/predict",status="200"} 1.0' in text
    assert "calipose_images_total 1.0" in text
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line["path"] == "/predict"]
    assert (line["status"], line["images"], line["poses"], line["bytes"]) == (200, 1, [1], len(jpeg()))
    assert "secret-name" not in json.dumps(lines)


def test_the_page_and_its_files_come_from_here(service: TestClient) -> None:
    page = service.get("/")
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    assert b"<title>Calipose" in page.content
    assert len(service.get("/model.onnx").content) > 1_000_000
    assert service.get("/info").json()["in_browser"] is False
    for path in ("/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs", "/..%2f..%2fpyproject.toml", "/__init__.py"):
        assert service.get(path).status_code == 404
