"""Which precision "auto" means."""

from pathlib import Path

import pytest

from calipose.model import device
from calipose.model.device import choose_precision


@pytest.mark.parametrize(
    ("info", "precision", "reason"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 fma", "bf16", "this CPU has avx512_bf16"),
        ("flags : fpu avx2 amx_bf16 amx_tile", "bf16", "this CPU has amx_bf16"),
        ("Features : fp asimd bf16 i8mm", "bf16", "this CPU has bf16"),
        ("flags : fpu avx2 fma avx512f", "fp32", "this CPU has no bf16"),
    ],
)
def test_auto_asks_the_cpu(
    info: str, precision: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(info)
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    assert choose_precision("auto", "cpu") == (precision, reason)


def test_auto_without_knowledge_is_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "none")
    assert choose_precision("auto", "cpu")[0] == "fp32"
    assert choose_precision("auto", "mps")[0] == "fp32"


@pytest.mark.parametrize("has", [True, False])
def test_auto_asks_the_gpu(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: has)
    assert choose_precision("auto", "cuda:1")[0] == ("bf16" if has else "fp32")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_named_precision_stays(name: str) -> None:
    assert choose_precision(name, "cpu") == (name, "")
