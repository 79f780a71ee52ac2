"""The forward pass of packed models: compiled for this processor, one function a pass.

`vectors` has the few loops that are written for the processor's vector unit, `forward_pass` the arithmetic of a pass in
their terms, `packed_forward` what the engine sees.
"""

import hashlib
from pathlib import Path

import platformdirs
from numba import config

# numba keeps what it compiled by the time of one file, and would go on with functions inlined from an older other one.
_SOURCES = (*Path(__file__).parent.glob("*.py"), Path(__file__).parents[2] / "packed_model.py")
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_SOURCES))).hexdigest()[:16]
_CACHE = Path(platformdirs.user_cache_dir("marginalia", appauthor=False)) / "compiled" / _DIGEST
config.CACHE_DIR = str(_CACHE)  # type: ignore[attr-defined]  # numba makes its settings from the environment
