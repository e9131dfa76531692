"""How a page looks and behaves in Chromium, light or dark, narrow or wide: contrast, names, errors, other hosts."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from chromium import PATIENCE, Browser

ROOT = Path(__file__).resolve().parents[1]
AXE = ROOT / "examples" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (390, 1280)  # CSS pixels: a phone, a laptop
SCHEMES = ("light", "dark")
HEIGHTS = {390: 844, 1280: 900}
# The background that is seen behind the text: the first of these two that is not transparent.
BACKGROUND = """[document.body, document.documentElement].map(e => getComputedStyle(e).backgroundColor)
    .find(colour => !/^rgba\\(.*, 0\\)$/.test(colour)) ?? 'rgb(255, 255, 255)'"""


@dataclass(frozen=True)
class Check:
    """What was found on a page at one width, light or dark.

    Attributes:
        background: CSS colour of the page's background, as computed.
        scheme: light or dark, by the background's luminance; what was asked for is not looked at.
        violations: of axe-core's rules, an entry an element.
        errors: of the console: scripts, files that are missing, what the page's own rules refused.
        elsewhere: addresses on other hosts that were asked for something.
        overflow: pixels that the page is wider than its window (a phone widens the window, not the layout).
    """

    background: str
    scheme: str
    violations: list[str]
    errors: list[str]
    elsewhere: list[str]
    overflow: int

    def faults(self, wanted: str) -> list[str]:
        """All that is wrong, a sentence each; `wanted` is light or dark."""
        found = [] if self.scheme == wanted else [f"{self.scheme} instead of {wanted}: {self.background}"]
        found += [f"{self.overflow} pixels too wide"] if self.overflow > 0 else []
        found += [f"console: {error}" for error in self.errors]
        return found + [f"asked of {address}" for address in self.elsewhere] + self.violations


def set_window(browser: Browser, width: int, scheme: str) -> None:
    """Set the window's width in CSS pixels, and what the reader prefers: light or dark. Nothing moves."""
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=HEIGHTS[width], deviceScaleFactor=1,
        mobile=width < 600,
    )  # fmt: skip
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    browser.call("Emulation.setEmulatedMedia", features=features)


def open_afresh(browser: Browser, address: str, width: int, scheme: str) -> None:
    """Open a page as a reader does who comes for the first time, and wait until it has loaded."""
    browser.start_afresh()
    set_window(browser, width, scheme)
    browser.call("Page.navigate", url=address)
    wait_for(browser, f"location.href === {address!r} && document.readyState === 'complete'")
    time.sleep(0.2)  # scripts that start when all is loaded


def wait_for(browser: Browser, condition: str) -> None:
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + PATIENCE
    while not browser.evaluate(condition):
        assert time.monotonic() < end, f"{condition}: {browser.evaluate('document.body.innerText')[:500]}"
        time.sleep(0.05)


def check_page(browser: Browser) -> Check:
    """Check the page as it stands, with all that has happened since `open_afresh`."""
    violations = axe_violations(browser)
    background = str(browser.evaluate(BACKGROUND))
    return Check(
        background=background,
        scheme="light" if luminance(background) > 0.5 else "dark",
        violations=violations,
        errors=console_errors(browser),
        elsewhere=requests_elsewhere(browser),
        overflow=browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"),
    )


def luminance(colour: str) -> float:
    """Relative luminance of WCAG, 0 to 1, of a computed CSS colour such as rgb(246, 245, 242)."""
    numbers = re.fullmatch(r"rgba?\((\d+), (\d+), (\d+)(?:, [\d.]+)?\)", colour)
    assert numbers, f"not a plain colour: {colour}"
    shares = [int(number) / 255 for number in numbers.groups()]
    red, green, blue = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def axe_violations(browser: Browser) -> list[str]:
    """What axe-core finds, an entry an element: rule, what it wants, why, and the element."""
    assert AXE.is_file(), "axe-core is missing: npm ci in examples/browser"
    # Not as a script of the page: its own rules would refuse it.
    browser.call("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))
    what = "found.violations.map(v => [v.id, v.help, v.nodes.map(n => [n.any[0]?.message ?? '', n.html])])"
    rules = browser.evaluate(f"axe.run().then(found => {what})")
    return [f"{rule}: {text}: {why[:160]}: {node[:160]}" for rule, text, nodes in rules for why, node in nodes]


def console_errors(browser: Browser) -> list[str]:
    """Errors in the console since `open_afresh`."""
    found = []
    for event in browser.events[browser.first_event :]:
        given = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            found.append(str(given["exceptionDetails"])[:300])
        elif event.get("method") == "Runtime.consoleAPICalled" and given["type"] in {"error", "assert"}:
            found.append(str(given["args"])[:300])
        elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            found.append(f"{given['entry']['text']} {given['entry'].get('url', '')}"[:300])
    return found


def requests_elsewhere(browser: Browser) -> list[str]:
    """What was asked of any host but the page's own since `open_afresh`."""
    own = browser.evaluate("location.origin") + "/"
    events = browser.events[browser.first_event :]
    asked = [e["params"]["request"]["url"] for e in events if e.get("method") == "Network.requestWillBeSent"]
    assert asked, "nothing was asked for at all: the page was not opened afresh"
    return sorted({url for url in asked if not url.startswith((own, "data:", "blob:", "about:"))})
