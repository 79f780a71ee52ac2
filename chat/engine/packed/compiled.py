"""How the functions of a forward pass are compiled."""

from __future__ import annotations

from functools import partial

from numba import njit

compiled = partial(njit, nogil=True, cache=True, _nrt=False)
"""Without the interpreter's lock, and without numba's counting of references.

Nothing is made while a pass runs that would have to be counted, and counting took nearly half of attention's time
(tests/bench/LOG.md, 2026-11-23). The option has no documentation; without it all is the same, but slower.
"""
