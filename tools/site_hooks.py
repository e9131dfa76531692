"""Hooks of mkdocs: pages that do not exist leave the navigation, and links out of docs/ find their page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Files outside of docs/ that are pages of the site.
PAGES = {"src/calipose/weights/README.md": "model-card.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Leave out of the navigation what is not there: pages are written on several branches."""
    config["nav"] = _existing(config["nav"], Path(config["docs_dir"]))
    return config


def _existing(entries: list[Any], docs: Path) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            title, value = next(iter(entry.items()))
            inner = _existing(value, docs) if isinstance(value, list) else _existing([value], docs)
            if inner:
                kept.append({title: inner if isinstance(value, list) else value})
        elif entry in PAGES.values() or (docs / entry).is_file():
            kept.append(entry)
    return kept


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for source, name in PAGES.items():
        if name != "index.md":
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files outside of docs/ into the page that they are on the site, or into plain code."""
    sources = {name: source for source, name in PAGES.items() if name != "index.md"}
    here = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = Path(here).parent.joinpath(target).as_posix()
        path = re.sub(r"(^|/)(?!\.\.)[^/]+/\.\.(?=/|$)", "", path).lstrip("/")
        while "/../" in path or path.startswith("../"):
            path = re.sub(r"[^/]+/\.\./", "", path, count=1)
        if path in PAGES:
            return f"[{text}]({_from(page, PAGES[path])}{anchor})"
        if path.startswith("docs/"):
            return f"[{text}]({_from(page, path.removeprefix('docs/'))}{anchor})"
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{here}: its link to {target} leads nowhere")
        return text if "`" in text else f"`{path}`" if text == path else f"{text} (`{path}`)"

    return LINK.sub(link, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """A table's empty heading is no heading: screen readers would announce nothing."""
    return html.replace("<th></th>", "<td></td>")


def _from(page: Any, target: str) -> str:
    return "../" * page.file.src_uri.count("/") + target
