"""One byte through a pipe: how a thread is called to the next pass.

By Python's own means that takes 0.3 ms, a twentieth of a pass: the thread needs the interpreter's lock to hear of it,
and whoever serves pages may hold that (tests/bench/LOG.md, 2026-11-23). Compiled code needs no lock.
"""

# numba infers the types of intrinsics from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from chat.engine.packed.instructions import BYTE, INT, LONG


@njit(cache=True)
def call(pipe):
    """Call the thread that waits at the other end of this pipe."""
    _write_byte(pipe)


@njit(nogil=True, cache=True)
def is_called(pipe):
    """Wait at this end of a pipe until called; False if the other end was closed."""
    count = _read_byte(pipe)
    while count < 0:
        # A signal came in between.
        count = _read_byte(pipe)
    return count == 1


def _byte_by(name: str) -> Any:
    """C's `read` or `write`, of one byte; what it returns."""

    @intrinsic
    def transfer(context: Any, pipe: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            byte = builder.bitcast(cgutils.alloca_once_value(builder, LONG(0)), BYTE.as_pointer())
            function = ir.FunctionType(LONG, [INT, BYTE.as_pointer(), LONG])
            transferring = cgutils.get_or_insert_function(builder.module, function, name)
            return builder.call(transferring, [builder.trunc(args[0], INT), byte, LONG(1)])

        return types.intp(types.intp), generate

    return transfer


_read_byte, _write_byte = _byte_by("read"), _byte_by("write")
