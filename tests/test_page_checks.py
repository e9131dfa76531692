"""The checks of pages find what is wrong with one: each fault here was put in by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chromium import CHROMIUM, Browser
from page_checks import AXE, check_page, luminance, open_afresh
from plain_server import plain_server

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium"),
    pytest.mark.skipif(not AXE.is_file(), reason="npm ci in examples/browser was not run"),
]

GOOD = """<!doctype html><html lang="en"><head><title>Page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>body { background: light-dark(#fff, #111); color: light-dark(#111, #fff) }</style></head>
<body><main><h1>Title</h1><p id="text">Text</p>%s</main></body></html>"""
REMEMBERS = """<script>
const kept = localStorage.getItem("scheme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
localStorage.setItem("scheme", kept);
document.documentElement.style.colorScheme = kept;
</script>"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def faults(browser: Browser, folder: Path, more: str, scheme: str = "light") -> list[str]:
    (folder / "page.html").write_text(GOOD % more)
    with plain_server(folder) as address:
        open_afresh(browser, f"{address}page.html", 390, scheme)
        return check_page(browser).faults(scheme)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("<style>body { background: #111; color: #fff }</style>", "dark instead of light: rgb(17, 17, 17)"),
        ("<style>#text { color: #ccc }</style>", "color-contrast"),
        ("<input>", "label"),
        ("<script>console.error('broken')</script>", "console: "),
        ("<script>null.nothing</script>", "console: "),
        ("<script src=missing.js></script>", "console: Failed to load resource"),
        ("<img alt='' src='http://elsewhere.example/a.png'>", "asked of http://elsewhere.example/a.png"),
        ("<div style='width: 500px'>wide</div>", "119 pixels too wide"),
    ],
)
def test_a_fault_is_found(browser: Browser, tmp_path: Path, more: str, fault: str) -> None:
    found = faults(browser, tmp_path, more)
    assert any(one.startswith(fault) for one in found), found


def test_a_good_page_has_none_and_what_it_remembers_is_forgotten(browser: Browser, tmp_path: Path) -> None:
    for scheme in ("light", "dark", "light"):
        assert faults(browser, tmp_path, REMEMBERS, scheme) == []


def test_luminance_is_that_of_wcag() -> None:
    assert luminance("rgb(255, 255, 255)") == pytest.approx(1)
    assert luminance("rgba(0, 0, 0, 0.5)") == 0
    assert luminance("rgb(119, 119, 119)") == pytest.approx(0.184, abs=0.001)  # 4.48 : 1 on white
