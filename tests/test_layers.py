"""Imports point one way (docs: layers), and what predicts and evaluates imports without torch."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import calipose

PACKAGE = Path(calipose.__file__).parent

# From the ground up; a module imports from its own line and the lines above it. A name stands for all that is in it,
# unless a longer name says otherwise.
LAYERS = (
    ("errors", "files"),
    ("skeleton", "geometry", "method", "precision"),
    ("poses", "images", "calibration", "scales"),
    ("draw", "calibration_fit", "fetch", "video", "connectors", "track"),
    ("video_writer", "writers", "sources"),
    ("data",),
    ("recipe",),
    ("model",),
    ("backends",),
    ("predictor",),
    ("prediction", "hub"),
    ("output_folder",),
    ("evaluation",),
    ("report",),
    ("data.loader", "training", "parity"),
    ("export",),
    ("quantize",),
    ("cli", "__main__"),
)
FACADE = "hub"  # the package's own names come from this layer and those below
NEED_TORCH = ("model", "training", "data.loader", "export", "parity", "quantize", "backends.torch_backend")
OPTIONAL = (
    "torch", "torchvision", "safetensors", "accelerate", "tensorboard", "timm", "huggingface_hub", "matplotlib", "av",
    "onnx", "onnxscript", "onnxruntime", "pycocotools", "PIL", "scipy", "hypothesis", "pandas",
    "supervision",
)  # fmt: skip


def within(module: str, names: tuple[str, ...]) -> str:
    """The longest of the names that the module is, or lies in."""
    return max((n for n in names if module == n or module.startswith(n + ".")), key=len, default="")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def rank(module: str) -> int:
    name = within(module, tuple(RANKS))
    assert name, f"calipose.{module} has no layer: give it one in LAYERS"
    return RANKS[name]


def imports(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    """What importing a module imports of Calipose, and in which line: not what its functions import when called."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner.removeprefix("calipose.") in MODULES else str(node.module)), node.lineno
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            for part in ("body", "orelse", "finalbody"):
                yield from imports(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from imports(handler.body)


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_point_down(module: str) -> None:
    for target, line in imports(ast.parse(MODULES[module].read_text(encoding="utf-8")).body):
        if target.startswith("calipose."):  # `import calipose` itself is for its version
            above = rank(target.removeprefix("calipose.")) > rank(module)
            assert not above, f"{MODULES[module].name}, line {line}: {target} lies above {module}"


def test_the_facade() -> None:
    for target, line in imports(ast.parse(MODULES[""].read_text(encoding="utf-8")).body):
        assert rank(target.removeprefix("calipose.")) <= RANKS[FACADE], f"__init__.py, line {line}: {target}"


def test_nobody_takes_names_from_the_facade() -> None:
    for module, path in MODULES.items():
        targets = [t for t, _ in imports(ast.parse(path.read_text(encoding="utf-8")).body)]
        text = path.read_text(encoding="utf-8")
        assert "calipose" not in targets or "import calipose\n" in text, module
        assert "from calipose import" not in text, module


def test_what_does_not_learn_imports_without_torch() -> None:
    wanted = [f"calipose.{name}".rstrip(".") for name in MODULES if not within(name, NEED_TORCH) and name != "__main__"]
    assert {"calipose", "calipose.predictor", "calipose.recipe", "calipose.evaluation.ap", "calipose.cli"} <= set(
        wanted
    )
    program = """
import importlib, json, sys
blocked, wanted = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))
failed = {}
for name in wanted:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""
    arguments = json.dumps([OPTIONAL, wanted])
    run = subprocess.run([sys.executable, "-c", program, arguments], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {}
