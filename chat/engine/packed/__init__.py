"""The forward pass of packed models: compiled for this processor, one function a pass.

`instructions` has the processor's vector instructions, `byte_products` how products of bytes are added up; `vectors`
(products of rows with matrices) and `elements` (what is done to numbers one by one) have the few loops that are written
in them; `compiled` how functions are compiled, `barrier` where threads meet, `pipe` how they are called, `crew` keeps
them, `products` multiplies with the weights, `stretches` adds up what logits come to, `forward_pass` is all of a pass,
`packed_forward` what the engine sees, and `aligned` the memory that they work in.
"""

import hashlib
import tempfile
from pathlib import Path

import platformdirs
from numba import config

# numba keeps what it compiled by the time of one file, and would go on with functions inlined from an older other one.
_CHAT = Path(__file__).parents[2]
_SOURCES = (*Path(__file__).parent.glob("*.py"), _CHAT / "packed_model.py", _CHAT / "processor.py")
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_SOURCES))).hexdigest()[:16]

# What is compiled lies there function by function while another start is still at it.
_ALL_IS_KEPT = "all-is-kept"


def was_compiled() -> bool:
    """Whether this version has been compiled here before; if not, that takes about half a minute once."""
    return (_CACHE / _ALL_IS_KEPT).exists()


def remember_that_all_is_compiled() -> None:
    """To be called when an engine has been started: from now on `was_compiled`."""
    (_CACHE / _ALL_IS_KEPT).touch()


def _where_to_keep() -> Path:
    kept = Path(platformdirs.user_cache_dir("marginalia", appauthor=False)) / "compiled" / _DIGEST
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=kept):
            return kept
    except OSError:
        # Nobody's home is writable here, so it is compiled at each start.
        return Path(tempfile.mkdtemp(prefix="marginalia-compiled-"))


_CACHE = _where_to_keep()
config.CACHE_DIR = str(_CACHE)  # type: ignore[attr-defined]  # numba makes its settings from the environment
