"""Imports point one way, without circles, and what predicts and evaluates imports without torch."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("tools_imports", ROOT / "tools" / "imports.py")
assert SPEC is not None
assert SPEC.loader is not None
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)

# From the ground up; a room imports from its own line and the lines above it.
LAYERS = (
    ("errors", "geometry", "plain_data", "_version"),
    ("skeleton",),
    ("angles", "calibration", "io"),
    ("poses",),
    ("draw", "track", "formats", "config"),
    ("data",),
    ("model",),
    ("inference",),
    ("evaluation", "bulk"),
    ("training", "report"),
    ("export", "serve"),
    ("cli",),
    ("__main__",),
)
FACADE = "evaluation"  # the package's own names come from this layer and those below
NEED_TORCH = ("model", "training", "export", "inference.backends.torch", "serve")  # serve: its own extra
OPTIONAL = (
    "torch", "torchvision", "safetensors", "accelerate", "tensorboard", "timm", "huggingface_hub", "matplotlib", "av",
    "onnx", "onnxscript", "onnxruntime", "pycocotools", "PIL", "scipy", "hypothesis", "pandas",
    "supervision", "fastapi", "uvicorn", "prometheus_client", "python_multipart", "ray", "pyarrow", "xarray",
    "ai_edge_litert",
)  # fmt: skip
MODULES = tool.modules(ROOT)
GRAPH = {name: tool.imports(path, MODULES) - {name} for name, path in MODULES.items()}
PACKAGE = [name for name in MODULES if name.startswith("calipose.")]
RANKS = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}


def rank(module: str) -> int:
    room = tool.room(module)
    assert room in RANKS, f"{module} has no layer: give '{room}' one in LAYERS"
    return RANKS[room]


@pytest.mark.parametrize("module", PACKAGE)
def test_imports_point_down(module: str) -> None:
    """Late imports, in functions and for type checkers, count like all others."""
    for target in GRAPH[module]:
        assert target != "calipose", f"{module} takes names from the package's own file; import them from their module"
        assert rank(target) <= rank(module), f"{module} imports {target}, which lies above it"


def test_there_is_no_circle() -> None:
    assert tool.circles(GRAPH) == []


def test_the_house_stays_small() -> None:
    rooms = {tool.room(name) for name in MODULES}
    arrows = {(tool.room(a), tool.room(b)) for a, targets in GRAPH.items() for b in targets}
    assert len(rooms) <= 28
    assert len({(a, b) for a, b in arrows if a != b}) <= 202


def test_the_facade() -> None:
    for target in GRAPH["calipose"]:
        assert rank(target) <= RANKS[FACADE], target


def test_what_does_not_learn_imports_without_torch() -> None:
    torch_only = tuple(f"calipose.{name}" for name in NEED_TORCH)
    wanted = [
        name for name in ("calipose", *PACKAGE) if not name.startswith(torch_only) and name != "calipose.__main__"
    ]
    assert {
        "calipose",
        "calipose.inference.predictor",
        "calipose.config.recipe",
        "calipose.evaluation.ap",
        "calipose.cli",
    } <= set(wanted)
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
