"""What is installed of ONNX Runtime: each case is named, with what to do."""

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from calipose.cli import app
from calipose.errors import InputError
from calipose.inference.backends import onnx_runtime
from calipose.inference.backends.onnx import OnnxFile
from calipose.inference.backends.onnx_runtime import OnnxRuntime, find_providers, import_runtime, installed
from calipose.inference.packaged import packaged

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
ONLY_CPU, ONLY_GPU = {"onnxruntime": "1.32.0"}, {"onnxruntime-gpu": "1.31.1"}
TO_GPU = "pip install 'onnxruntime-gpu[cuda,cudnn]'"


def install(
    monkeypatch: pytest.MonkeyPatch,
    packages: dict[str, str],
    providers: list[str] | None,
    starting: tuple[str, ...] = (),
) -> list[str]:
    """Pretend that these packages are installed, whose module has these providers, of which some start.

    Without providers, the module's files are gone. The list that is returned gets an entry when CUDA's libraries are
    looked for.
    """
    looked: list[str] = []

    def version(name: str) -> str:
        if name not in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return packages[name]

    def preload_dlls() -> None:
        print("Failed to load libcublasLt.so.13")
        looked.append("preload")

    module = SimpleNamespace(
        __version__="1",
        get_available_providers=lambda: providers,
        preload_dlls=preload_dlls,
        SessionOptions=SimpleNamespace,
        InferenceSession=lambda *_, **__: SimpleNamespace(get_providers=lambda: list(starting)),
    )
    monkeypatch.setattr(onnx_runtime.metadata, "version", version)
    monkeypatch.setitem(sys.modules, "onnxruntime", module if providers is not None else SimpleNamespace())
    return looked


@pytest.mark.parametrize(
    ("packages", "providers", "words"),
    [
        (
            ONLY_CPU,
            [CPU],
            ["The package onnxruntime runs on the CPU only", "pip uninstall -y onnxruntime, then", TO_GPU],
        ),
        (
            ONLY_CPU | ONLY_GPU,
            [CPU],
            ["are both installed", "pip uninstall -y onnxruntime onnxruntime-gpu, then", TO_GPU],
        ),
        (ONLY_CPU | ONLY_GPU, [CUDA, CPU], ["libraries", "pip uninstall -y onnxruntime onnxruntime-gpu, then", TO_GPU]),
        (ONLY_GPU, [TENSORRT, CUDA, CPU], ["libraries", "driver", TO_GPU, "nvidia-smi"]),
        (ONLY_GPU, [CPU], ["no CUDA on this system"]),
        (ONLY_GPU, None, ["files of onnxruntime-gpu are missing", "--force-reinstall --no-deps onnxruntime-gpu"]),
        (ONLY_CPU, None, ["files of onnxruntime are missing", "--force-reinstall --no-deps onnxruntime"]),
        ({}, None, ["neither onnxruntime nor onnxruntime-gpu"]),
    ],
)
def test_the_error_of_cuda_names_the_case(
    packages: dict[str, str], providers: list[str] | None, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, packages, providers, starting=(CPU,))
    with pytest.raises(InputError) as error:
        OnnxFile(packaged("onepass"), ["cuda"])
    for part in words:
        assert part in str(error.value)


def test_the_libraries_of_python_packages_are_found(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    looked = install(monkeypatch, ONLY_GPU, [CUDA, CPU])
    assert import_runtime(["cuda", "cpu"])[1] == [CUDA, CPU]
    assert looked == ["preload"]
    assert import_runtime(["cpu"])[1] == [CPU]
    assert looked == ["preload"]
    assert capfd.readouterr().out == ""  # standard output may hold poses


@pytest.mark.parametrize(
    ("wanted", "full"), [(["cpu"], [CPU]), (["CUDA", "cpu"], [CUDA, CPU]), (["CPUExecutionProvider"], [CPU])]
)
def test_providers_by_short_name(wanted: list[str], full: list[str]) -> None:
    runtime = OnnxRuntime(ONLY_GPU, "1", [CUDA, CPU])
    assert find_providers(wanted, runtime) == full
    with pytest.raises(InputError, match=r"no provider 'npu' here; there are CUDAExecutionProvider, CPU[A-Za-z]*$"):
        find_providers(["npu"], runtime)


@pytest.mark.parametrize(
    ("packages", "providers", "line", "advised"),
    [
        (ONLY_CPU, [CPU], "ONNX Runtime: onnxruntime 1.32.0: cpu", False),
        (ONLY_GPU, [CUDA, CPU], "ONNX Runtime: onnxruntime-gpu 1.31.1: cuda, cpu", False),
        (ONLY_CPU | ONLY_GPU, [CPU], "ONNX Runtime: onnxruntime 1.32.0, onnxruntime-gpu 1.31.1: cpu", True),
        (ONLY_GPU, None, "ONNX Runtime: onnxruntime-gpu 1.31.1: no providers", True),
    ],
)
def test_info_says_what_is_there(
    packages: dict[str, str],
    providers: list[str] | None,
    line: str,
    advised: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, packages, providers)
    monkeypatch.setattr("calipose.cli.info.recipe_names", list)  # their cost is another test's
    done = CliRunner().invoke(app, ["info"])
    assert done.exit_code == 0, done.output
    assert line in done.output.splitlines()
    assert ("pip " in done.output) == advised


def test_what_is_installed_here(tmp_path: Path) -> None:
    runtime = installed()
    assert runtime.version
    assert CPU in runtime.providers
    assert runtime.packages
    if CUDA not in runtime.providers:
        with pytest.raises(InputError, match="no provider 'cuda' here"):
            OnnxFile(packaged("onepass"), ["cuda"])
