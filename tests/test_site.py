"""The documentation site builds without a warning, loads nothing from elsewhere, and its pages find each other."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from chromium import CHROMIUM, Browser
from page_checks import AXE, SCHEMES, WIDTHS, check_page, open_afresh
from plain_server import plain_server

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).resolve().parents[1]
WITHOUT = {"404.html"}  # its links are those of a server's root


class Links(HTMLParser):
    """What a page loads, where it leads, and what can be led to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "a":
            self.links += [given["href"]] if "href" in given else []
        elif tag == "link":
            self.loaded += (
                [given["href"]] if given.get("rel") in {"stylesheet", "icon", "preload", "preconnect"} else []
            )
        elif "src" in given:
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    return {path: links for path, links in pages.items() if path.name not in WITHOUT}


def test_every_document_is_a_page(site: dict[Path, Links]) -> None:
    names = {path.name for path in site}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= names
    assert {"model-card.html", "changelog.html"} <= names


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, Links]) -> None:
    for path, page in site.items():
        assert page.loaded
        for address in page.loaded:
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"
            assert (path.parent / unquote(urlsplit(address).path)).is_file(), f"{path.name} loads {address}"
    folder = next(iter(site)).parent
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", sheet.read_text(encoding="utf-8")), sheet.name


def test_every_link_leads_somewhere(site: dict[Path, Links]) -> None:
    """Anchors too; links to other sites are not followed."""
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target in site and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in site[target].ids, f"{path.name}: {link}"


def test_the_reference_names_what_is_public(site: dict[Path, Links]) -> None:
    reference = set().union(*(page.ids for path, page in site.items() if path.parent.name == "reference"))
    names = (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").split()
    wanted = {name for name in names if "." not in name} - {"__version__", "COCO_17"}
    missing = {name for name in wanted if not any(found.split(".")[-1] == name for found in reference)}
    assert not missing


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")
@pytest.mark.skipif(not AXE.is_file(), reason="npm ci in examples/browser was not run")
def test_pages_are_clean_light_and_dark_narrow_and_wide(site: dict[Path, Links], tmp_path: Path) -> None:
    """A page of text and images, and one with code; `tools/screenshots.py` does the same with all pages."""
    browser, faults = Browser(tmp_path), []
    try:
        with plain_server(next(iter(site)).parent) as address:
            for name in ("index.html", "start.html"):
                for width in WIDTHS:
                    for scheme in SCHEMES:
                        open_afresh(browser, address + name, width, scheme)
                        faults += [(name, width, scheme, fault) for fault in check_page(browser).faults(scheme)]
    finally:
        browser.close()
    assert faults == []
