"""Memory that begins where a register's load is quickest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 64
"""The bytes of a cache line, and of a register."""


def zeros(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Zeros at the beginning of a cache line."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    room = np.zeros(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    found: NDArray[Any] = room[start : start + size].view(kind).reshape(shape)
    return found
