"""The OpenAPI document's examples are requests that the service answers as it says."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.inference.predictor import Predictor
from calipose.serve.app import create_app

PNG = cv2.imencode(".png", synthesize_scene(np.random.default_rng(0), (320, 240), EASY).image[..., ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Predictor("onepass", threads=1))) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def test_every_example_of_an_option_is_answered(client: TestClient, document: dict[str, Any]) -> None:
    run = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for option in operation.get("parameters", []):
                (example,) = option["schema"]["examples"]
                query = {option["name"]: str(example).lower()}
                assert option["description"]
                if path == "/threshold":
                    query = {"precision": "0.5@0.5"} | query
                answer = client.request(method, path, params=query, content=PNG if method == "post" else None)
                assert answer.status_code == 200, answer.text
                run += 1
    assert run == 10


def test_regions_are_those_of_the_command_line(client: TestClient) -> None:
    poses = Predictor("onepass", threads=1).predict(PNG).above(0.3)
    assert len(poses)
    name = {"name": "photo.png"}
    plain = client.post("/predict", params=name, content=PNG).json()["images"][0]
    assert "coverage" not in plain
    entry = client.post("/predict", params={**name, "regions": 0.8}, content=PNG).json()["images"][0]
    assert entry == {"file": "photo.png", **poses.with_regions(0.8).to_dict()}
    assert min(point["radius"] for pose in entry["poses"] for point in pose["keypoints"].values()) > 0
    assert "radius" in client.post("/predict?regions=0.8&format=csv", content=PNG).text.partition("\n")[0]
    drawings = [client.post(f"/predict?format=jpg{more}", content=PNG).content for more in ("", "&regions=0.8")]
    assert drawings[0] != drawings[1]
    refused = client.post("/predict?regions=0.995", content=PNG)
    assert refused.status_code == 422
    assert "less than or equal to 0.99" in refused.json()["error"]


def test_the_answers_example_has_the_keys_of_an_answer(client: TestClient, document: dict[str, Any]) -> None:
    operation = document["paths"]["/predict"]["post"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    answer = client.post("/predict?min_score=0&name=photo.jpg", content=PNG).json()
    assert answer.keys() == example.keys()
    told, got = example["images"][0], answer["images"][0]
    assert told.keys() == got.keys()
    assert got["file"] == told["file"]
    assert got["poses"]
    for pose in got["poses"]:
        assert pose.keys() == told["poses"][0].keys()
        assert pose["keypoints"]["nose"].keys() == told["poses"][0]["keypoints"]["nose"].keys()


def test_the_bodies_are_taken(client: TestClient, document: dict[str, Any]) -> None:
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"image/*", "application/octet-stream", "multipart/form-data", "application/json"}
    for kind in ("image/png", "application/octet-stream"):
        assert client.post("/predict", content=PNG, headers={"Content-Type": kind}).status_code == 200
    (field,) = content["multipart/form-data"]["schema"]["properties"]
    assert client.post("/predict", files={field: ("a.png", PNG)}).status_code == 200
    refused = client.post("/predict", json=content["application/json"]["example"])
    assert refused.status_code == 403  # as the document says: URLs are not loaded here
    assert set(refused.json()) == {"status", "error"}
    assert str(refused.status_code) in document["paths"]["/predict"]["post"]["responses"]


def test_nothing_loads_from_elsewhere(client: TestClient) -> None:
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
