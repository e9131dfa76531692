"""The OpenAPI document's examples are requests that the service answers as it says."""

from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from calipose.inference.predictor import Predictor
from calipose.serve.app import create_app
from calipose.serve.settings import ServeSettings

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738"
    "550000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    with service() as client:
        return dict(client.get("/openapi.json").json())


def service(**limits: Any) -> TestClient:
    return TestClient(create_app(Predictor("fast", threads=1), ServeSettings(**limits)))


def test_every_example_of_an_option_is_answered(document: dict[str, Any]) -> None:
    run = 0
    with service() as client:
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
    assert run == 8


def test_the_answers_example_has_the_keys_of_an_answer(document: dict[str, Any]) -> None:
    operation = document["paths"]["/predict"]["post"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    with service() as client:
        answer = client.post("/predict?min_score=0&name=photo.jpg", content=PNG).json()
    assert answer.keys() == example.keys()
    told, got = example["images"][0], answer["images"][0]
    assert told.keys() == got.keys()
    assert got["file"] == told["file"]
    for pose in got["poses"]:
        assert pose.keys() == told["poses"][0].keys()
        assert pose["keypoints"]["nose"].keys() == told["poses"][0]["keypoints"]["nose"].keys()


def test_the_bodies_are_taken(document: dict[str, Any]) -> None:
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"image/*", "application/octet-stream", "multipart/form-data", "application/json"}
    with service() as client:
        for kind in ("image/png", "application/octet-stream"):
            assert client.post("/predict", content=PNG, headers={"Content-Type": kind}).status_code == 200
        (field,) = content["multipart/form-data"]["schema"]["properties"]
        assert client.post("/predict", files={field: ("a.png", PNG)}).status_code == 200
        refused = client.post("/predict", json=content["application/json"]["example"])
    assert refused.status_code == 403  # as the document says: URLs are not loaded here
    assert set(refused.json()) == {"status", "error"}
    assert str(refused.status_code) in document["paths"]["/predict"]["post"]["responses"]


def test_nothing_loads_from_elsewhere() -> None:
    with service() as client:
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
