"""Screenshots of the service's page and of the documentation site, and what axe-core says of them.

    calipose serve --port 8123 --web-runtime examples/browser/node_modules/onnxruntime-web/dist &
    make site && python -m http.server -d build/site 8124 &
    python tools/screenshots.py OUT --image photo.jpg http://localhost:8123/ http://localhost:8124/index.html

Each address is shown at 390 and 1280 pixels, light and dark. Needs Chromium and, for axe-core, npm ci in
examples/browser.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from chromium import Browser  # noqa: E402 (lies with the tests)

AXE = ROOT / "examples" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 90.0
ALLOWED = ("http://localhost:", "data:", "blob:", "about:")


def main() -> None:
    """Look at each address in each form; exit code 1 if axe-core or the console complains."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--image", type=Path, help="is chosen on the service's page")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found = 0
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        for number, address in enumerate(given.addresses):
            for width in (390, 1280):
                for scheme in ("light", "dark"):
                    # The site keeps what was light or dark before; the page before must not write it again.
                    browser.call("Page.navigate", url="about:blank")
                    origin = "/".join(address.split("/")[:3])
                    browser.call("Storage.clearDataForOrigin", origin=origin, storageTypes="local_storage")
                    form(browser, width, scheme)
                    browser.events.clear()
                    browser.call("Page.navigate", url=address)
                    settle(browser)
                    if given.image and browser.evaluate("!!document.getElementById('image-file')"):
                        choose(browser, given.image)
                    name = f"{number}-{width}-{scheme}.png"
                    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True)
                    (given.out / name).write_bytes(base64.b64decode(shot["data"]))
                    complaints = [*axe(browser), *console(browser), *elsewhere(browser), *too_wide(browser, width)]
                    found += len(complaints)
                    print(f"{name}  {address}  {len(complaints)} complaints")
                    for complaint in complaints:
                        print(f"    {complaint}")
        browser.close()
    sys.exit(found > 0)


def form(browser: Browser, width: int, scheme: str) -> None:
    """Set the window's width, and light or dark."""
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=844 if width < 600 else 900, deviceScaleFactor=1,
        mobile=width < 600,
    )  # fmt: skip
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def settle(browser: Browser) -> None:
    """Wait until the page has loaded, and the service's page its model."""
    time.sleep(0.5)
    wait(browser, "document.readyState === 'complete'")
    wait(
        browser,
        "(busy => !busy || (busy.hidden && !document.getElementById('status').textContent.startsWith('Starting')))"
        "(document.getElementById('busy'))",
    )


def choose(browser: Browser, image: Path) -> None:
    """Choose an image, and wait for its poses."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#image-file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(image.resolve())])
    wait(browser, "!document.getElementById('results').hidden && document.getElementById('busy').hidden")


def wait(browser: Browser, condition: str) -> None:
    """Wait until an expression of JavaScript is true."""
    end = time.monotonic() + PATIENCE
    while not browser.evaluate(condition):
        if time.monotonic() > end:
            raise TimeoutError(f"{condition}: {browser.evaluate('document.body.innerText')[:500]}")
        time.sleep(0.1)


def axe(browser: Browser) -> list[str]:
    """What axe-core finds, an entry an element."""
    if not AXE.is_file():
        return ["axe-core is missing: npm ci in examples/browser"]
    # Not as a script of the page: its own rules would refuse it.
    browser.call("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))
    what = "found.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html)])"
    rules = browser.evaluate(f"axe.run().then(found => {what})")
    return [f"{rule}: {text}: {node[:160]}" for rule, text, nodes in rules for node in nodes]


def console(browser: Browser) -> list[str]:
    """Errors in the console."""
    return [
        f"console: {event['params']}"[:300]
        for event in browser.events
        if event.get("method") == "Runtime.exceptionThrown"
        or (event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error")
    ]


def elsewhere(browser: Browser) -> list[str]:
    """What was asked of any other machine."""
    asked = (e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent")
    return [f"loaded from elsewhere: {url}" for url in asked if not url.startswith(ALLOWED)]


def too_wide(browser: Browser, width: int) -> list[str]:
    """A page that must be moved sideways."""
    wide = browser.evaluate("document.documentElement.scrollWidth")
    return [f"{wide} pixels wide in a window of {width}"] if wide > width else []


if __name__ == "__main__":
    main()
