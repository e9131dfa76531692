"""Docstrings of public names: arguments, what comes back, errors, and an example on each class."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import calipose

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "reference").glob("*.md"))]
REFERENCE = {name.removeprefix("calipose.") for page in PAGES for name in re.findall(r"^::: (\S+)", page, re.MULTILINE)}
NAMES = (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").split()
NAMES += sorted(REFERENCE - set(NAMES))


def found(name: str) -> Any:
    """The object of a public name; None for a field of a class, which its class describes."""
    value: Any = calipose
    if name in REFERENCE and "." in name:  # of a module
        module, _, name = name.rpartition(".")
        value = pytest.importorskip(f"calipose.{module}")
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


FUNCTIONS = [name for name in NAMES if inspect.isfunction(found(name)) or inspect.ismethod(found(name))]
CLASSES = [name for name in NAMES if inspect.isclass(found(name))]


def parts(of: Callable[..., Any] | type) -> dict[str, str]:
    """Text of the docstring's blocks, by name."""
    doc = "\n\n" + (inspect.getdoc(of) or "")
    blocks = re.split(r"\n\n(Attributes|Args|Returns|Yields|Raises|Example):\n", doc)
    return {"": blocks[0].strip(), **dict(zip(blocks[1::2], blocks[2::2], strict=True))}


def raises(node: ast.AST) -> bool:
    """Whether the code raises an error itself; functions inside of it do not count."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    inner = [child for child in ast.iter_child_nodes(node) if not isinstance(child, functions)]
    return any(isinstance(child, ast.Raise) or raises(child) for child in inner)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_what_they_take_and_give(name: str) -> None:
    function, doc = found(name), parts(found(name))
    signature = inspect.signature(function)
    assert doc[""], "no summary"
    for parameter in signature.parameters:
        if parameter not in {"self", "cls"}:
            assert re.search(rf"(^|, )    ?\*{{0,2}}{parameter}\b.*:", doc.get("Args", ""), re.MULTILINE), parameter
    if signature.return_annotation not in (None, "None"):
        assert {"Returns", "Yields"} & set(doc), "no Returns"
    if raises(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]):
        assert "Raises" in doc


@pytest.mark.parametrize("name", [name for name in CLASSES if not issubclass(found(name), Exception)])
def test_classes_have_an_example(name: str) -> None:
    doc = parts(found(name))
    assert "Example" in doc
    assert {"Attributes", "Args"} & set(doc)
