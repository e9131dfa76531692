"""Looks at the service's page and at the documentation site: a screenshot each, and what is wrong with it.

    npm ci --prefix examples/browser
    make site
    python tools/screenshots.py build/screenshots

Each page is opened at 390 and 1280 pixels, light and dark, by a reader who was never there before. A line a page says
whether it really is light or dark (by its computed background), how many of axe-core's rules it breaks, how many errors
the console has, and what was asked of other hosts; the faults follow. Exit code 1 if there are any. Needs Chromium.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr
from pathlib import Path

import cv2
import numpy as np

from calipose import Predictor
from calipose.data.synthetic.scene import EASY, synthesize_scene

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser_page import Page  # noqa: E402 (lies with the tests)
from page_checks import SCHEMES, WIDTHS, check_page, open_afresh  # noqa: E402
from plain_server import plain_server  # noqa: E402
from serving import serving  # noqa: E402

RUNTIME = ROOT / "examples" / "browser" / "node_modules" / "onnxruntime-web" / "dist"
MOST_PIXELS = 8000  # height of a screenshot; what is below is checked, but not shown
PAUSE = 0.3  # seconds for what is drawn last

Step = Callable[[Page], None]


def main() -> None:
    """Look at each page in each form; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the screenshots")
    parser.add_argument("--site", type=Path, default=ROOT / "build" / "site", help="what make site has built")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="pages whose name holds one of these")
    parser.add_argument("--image", type=Path, help="is chosen on the service's page; by default synthetic people")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    faults = 0
    print(f"{'page':34} {'width':>5} {'wanted':6} {'is':6} {'background':20} axe console elsewhere", flush=True)
    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(stack.enter_context((given.out / "service.log").open("w"))))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        browser = Page(folder / "profile")
        stack.callback(browser.close)
        pages = [*service_pages(stack, folder, given.image), *site_pages(stack, given.site)]
        for name, address, prepare in pages:
            if any(word in name for word in given.only):
                faults += sum(look(browser, name, address, prepare, given.out, w, s) for w in WIDTHS for s in SCHEMES)
    print(f"{faults} faults")
    sys.exit(faults > 0)


def look(browser: Page, name: str, address: str, prepare: Step, out: Path, width: int, scheme: str) -> int:
    """Open, prepare, check and photograph one page; print what is wrong, and return how much."""
    open_afresh(browser, address, width, scheme)
    prepare(browser)
    browser.evaluate(f"new Promise(done => setTimeout(done, {1000 * PAUSE}))")
    found = check_page(browser)
    counts = f"{len(found.violations):3} {len(found.errors):7} {len(found.elsewhere):9}"
    print(f"{name:34} {width:5} {scheme:6} {found.scheme:6} {found.background:20} {counts}", flush=True)
    faults = found.faults(scheme)
    for fault in faults:
        print(f"    {fault}")
    screenshot(browser, out / f"{name.replace('/', '-')}-{width}-{scheme}.png", width)
    return len(faults)


def screenshot(browser: Page, path: Path, width: int) -> None:
    """Write the whole page, as far as `MOST_PIXELS` go, as PNG."""
    height = min(browser.evaluate("document.documentElement.scrollHeight"), MOST_PIXELS)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    path.write_bytes(base64.b64decode(shot["data"]))


def site_pages(stack: ExitStack, site: Path) -> Iterator[tuple[str, str, Step]]:
    """Name and address of each page of the site, and nothing to do there."""
    if not (site / "index.html").is_file():
        raise SystemExit(f"{site} holds no site: make site, or --site FOLDER")
    address = stack.enter_context(plain_server(site))
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if name != "404.html":  # its links are those of a server's root
            yield f"site/{name}", f"{address}{name}", lambda browser: None


def service_pages(stack: ExitStack, folder: Path, image: Path | None) -> Iterator[tuple[str, str, Step]]:
    """The service's page empty, with poses and circles, and with an error; in the browser and on the server."""
    if image is None:
        image = folder / "people.png"
        cv2.imwrite(str(image), synthesize_scene(np.random.default_rng(0), (640, 480), EASY).image[..., ::-1])
    wrong = folder / "text.png"
    wrong.write_text("no image")
    predictor = Predictor("onepass", threads=1)
    local = stack.enter_context(serving(predictor, web_runtime=str(RUNTIME)))
    remote = stack.enter_context(serving(predictor, token="secret"))

    def with_poses(browser: Page) -> None:
        browser.wait_until_ready()
        browser.choose("image-file", image)
        browser.click("#regions-on")

    def with_error(browser: Page) -> None:
        browser.wait_until_ready()
        browser.choose("image-file", wrong)

    yield "service/empty", local, Page.wait_until_ready
    yield "service/poses", local, with_poses
    yield "service/error", local, with_error
    yield "service/server-only", remote, Page.wait_until_ready


if __name__ == "__main__":
    main()
