"""The page of the service in Chromium, with the model onepass in the browser and on the server."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from browser_page import Page
from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.inference.predictor import Predictor

MODULES = Path(__file__).resolve().parents[2] / "examples" / "browser" / "node_modules"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("onepass", threads=1)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    browser = Page(tmp_path_factory.mktemp("profile"), *camera)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "people, two.png"
    cv2.imwrite(str(path), synthesize_scene(np.random.default_rng(0), (320, 240), EASY).image[..., ::-1])
    return path


@pytest.fixture(scope="module")
def page(browser: Page, predictor: Predictor) -> Iterator[Page]:
    """The page of a service that has onnxruntime-web."""
    from serving import serving  # needs what only the service needs

    with serving(predictor, web_runtime=str(MODULES / "onnxruntime-web" / "dist")) as address:
        browser.open(address)
        yield browser
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert asked
    assert all(url.startswith(("http://localhost:", "blob:", "data:")) for url in asked), asked
    assert not [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown"]
