"""Prints the rooms of the code, the import arrows between them, and the import circles; `tests/test_layers.py` uses it.

    python tools/imports.py [FOLDER]

A room is a package or a module directly in `src/calipose`, or one of the folders of scripts. Every import counts: late
ones in functions, and those for type checkers.
"""

import ast
import sys
from pathlib import Path

SCRIPTS = ("benchmarks", "experiments", "tools")


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of the package ("calipose...") and of the scripts ("benchmarks...")."""
    files = [(root / "src", path) for path in (root / "src" / "calipose").rglob("*.py")]
    files += [(root, path) for folder in SCRIPTS for path in (root / folder).glob("*.py")]
    names = {path: path.relative_to(base).with_suffix("").parts for base, path in files}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in sorted(names.items())}


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules among `known` that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else str(node.module) for name in inner}
    return found & known.keys()


def room(name: str) -> str:
    """The room in which a module lies: "data", "poses", "benchmarks"; "" is the package's own file."""
    parts = name.split(".")
    return parts[0] if parts[0] in SCRIPTS else ".".join(parts[1:2])


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules of which each leads to each."""
    reach: dict[str, set[str]] = {}
    for start, targets in graph.items():
        seen, todo = set(), list(targets)
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += graph[name]
        reach[start] = seen
    return sorted({tuple(sorted({a, *(b for b in reach[a] if a in reach[b])})) for a in graph if a in reach[a]})


def main() -> None:
    """Print what is in the folder named, by default in this repository."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    known = modules(root)
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    arrows = {(room(a), room(b)) for a, targets in graph.items() for b in targets}
    arrows = {(a, b) for a, b in arrows if a != b}
    rooms = sorted({room(name) for name in known})
    for name in rooms:
        print(f"{name or '(calipose)':<14}-> {', '.join(b or '(calipose)' for a, b in sorted(arrows) if a == name)}")
    found = circles(graph)
    for circle in found:
        print("circle:", ", ".join(circle))
    print(f"{len(rooms)} rooms, {len(arrows)} arrows, {len(found)} circles")


if __name__ == "__main__":
    main()
