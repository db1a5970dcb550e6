"""Which dtype a device computes natively, and what an emulated one costs there."""

import time
from functools import cache
from pathlib import Path

import torch

from sempa_lightning.errors import UserError

AUTO = "auto"

# Flags of CPUs (x86, then ARM) with units for a dtype; any computes float32 and float64.
_UNITS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16", "fphp"},
}
_CPUINFO = Path("/proc/cpuinfo")
_REPEATS, _ROWS, _WIDTH = 3, 64, 512


def dtype_named(name: str, device: str | None = None) -> torch.dtype:
    """Return the dtype that torch has under a name; `auto` is the one for the device (see `native_dtype`).

    Raises:
        UserError: If torch has no such dtype.
    """
    if name == AUTO:
        return native_dtype(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UserError(f"model.dtype={name} is no dtype of torch: set auto, float32, bfloat16 or float16")
    return dtype


def native_dtype(device: str) -> torch.dtype:
    """Return bfloat16 where the device computes it natively, else float32."""
    return torch.bfloat16 if is_native(torch.bfloat16, device) else torch.float32


def is_native(dtype: torch.dtype, device: str) -> bool:
    """Return whether a device has units for a dtype."""
    if device.startswith("cuda"):
        absent = not torch.cuda.is_available()  # which is said where the device is used
        return dtype != torch.bfloat16 or absent or torch.cuda.is_bf16_supported(including_emulation=False)
    return dtype not in _UNITS or bool(_UNITS[dtype] & _cpu_flags())


def slowdown(dtype: torch.dtype, device: str) -> float:
    """Measure how many times as long as in float32 a matrix product takes."""
    seconds = {}
    for measured in (torch.float32, dtype):
        one = torch.ones(_ROWS, _WIDTH, dtype=measured, device=device)
        other = torch.ones(_WIDTH, _WIDTH, dtype=measured, device=device)
        times = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            float((one @ other)[0, 0])  # waits for the device
            times.append(time.perf_counter() - start)
        seconds[measured] = min(times)
    return seconds[dtype] / seconds[torch.float32]


@cache
def _cpu_flags() -> frozenset[str]:
    """Flags that Linux lists for the first CPU; none elsewhere."""
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines() if _CPUINFO.is_file() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())
