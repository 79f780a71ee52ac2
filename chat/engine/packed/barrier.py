"""Where the threads of a forward pass meet."""

# numba infers the types of intrinsics from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from chat.engine.packed.instructions import INT, LONG
from chat.processor import is_x86

_SPINS = 4096


@intrinsic
def meet(context: Any, arrivals: Any, threads: Any) -> Any:
    """Wait for all threads. `arrivals` is the address of two 64-bit integers: how many are here, and the round.

    A thread that waits long lets others have the processor, so that work beside this one does not stop it.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrivals, threads = args
        here = builder.inttoptr(arrivals, LONG.as_pointer())
        turn = builder.inttoptr(builder.add(arrivals, LONG(64)), LONG.as_pointer())
        now = builder.load_atomic(turn, "acquire", 8)
        before = builder.atomic_rmw("add", here, LONG(1), "acq_rel")
        last = builder.icmp_signed("==", builder.add(before, LONG(1)), threads)
        with builder.if_else(last) as (the_last, the_others):
            with the_last:
                builder.store_atomic(LONG(0), here, "release", 8)
                builder.atomic_rmw("add", turn, LONG(1), "acq_rel")
            with the_others:
                _spin_while(builder, turn, now)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _spin_while(builder: Any, turn: Any, now: Any) -> None:
    module = builder.module
    give_way = cgutils.get_or_insert_function(module, ir.FunctionType(INT, []), "sched_yield")
    spins = cgutils.alloca_once_value(builder, LONG(0))
    test, spin, done = (builder.append_basic_block(name) for name in ("test", "spin", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    same = builder.icmp_signed("==", builder.load_atomic(turn, "acquire", 8), now)
    builder.cbranch(same, spin, done)
    builder.position_at_end(spin)
    if is_x86():
        pause = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause")
        builder.call(pause, [])
    count = builder.add(builder.load(spins), LONG(1))
    builder.store(count, spins)
    long = builder.icmp_signed("==", builder.and_(count, LONG(_SPINS - 1)), LONG(0))
    with builder.if_then(long):
        builder.call(give_way, [])
    builder.branch(test)
    builder.position_at_end(done)
