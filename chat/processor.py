"""What this computer's processor can do, as far as it decides how a model is best run on it."""

from __future__ import annotations

import platform
from functools import cache

from numba import config
from numba.core.codegen import get_host_cpu_features

_X86 = {"x86_64", "AMD64"}


def multiplies_bytes() -> bool:
    """Whether it multiplies many bytes at once: then packed weights are the quickest."""
    return adds_up_four() or adds_up_two()


def adds_up_four() -> bool:
    """Whether it adds up four products of bytes in one step (AVX-512 VNNI)."""
    return "avx512vnni" in _features()


def adds_up_two() -> bool:
    """Whether it adds up two products of bytes in one step (AVX2)."""
    return "avx2" in _features()


def multiplies_brain_floats() -> bool:
    """Whether it multiplies 16-bit brain floats, bf16, and adds up in 32 bits (AVX-512 BF16, AMX BF16)."""
    return not _features().isdisjoint({"avx512bf16", "amx-bf16"})


def has_wide_registers() -> bool:
    """Whether a register holds sixteen floats, and there are 32 of them (AVX-512)."""
    return "avx512f" in _features()


def converts_half_floats() -> bool:
    """Whether it reads and writes 16-bit floats, without which no packed model can be run."""
    return not is_x86() or "f16c" in _features()


def is_x86() -> bool:
    """Whether it is one of Intel's or AMD's."""
    return platform.machine() in _X86


@cache
def _features() -> frozenset[str]:
    # What numba compiles for; NUMBA_CPU_FEATURES makes it less than the processor has.
    narrowed: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]
    named: str = get_host_cpu_features() if narrowed is None else narrowed  # type: ignore[no-untyped-call]
    return frozenset(feature[1:] for feature in named.split(",") if feature.startswith("+"))
