"""How a thread is told to join the next pass: by a word in memory that it looks at for a while before it sleeps.

To wake a thread takes 0.3 ms, a tenth of a pass, and a thread that wakes needs the interpreter's lock, which whoever
serves pages may hold (tests/bench/LOG.md, 2026-11-23). A thread that looks needs neither.
"""

# numba infers the types of intrinsics from the values that they are called with.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from chat.engine.packed.barrier import give_way, were_many
from chat.engine.packed.instructions import LONG

WAITING, JOIN, LEAVE, GONE = range(4)
"""What the word says. The thread itself writes the first and the last."""

# A few milliseconds: between two tokens of a reply lies less than one.
_ROUNDS = 20


@njit(cache=True)
def give(order, what):
    """Give an order to the thread that waits at this address; False if it has gone."""
    return _exchanged(order, WAITING, what)


@intrinsic
def _exchanged(context: Any, address: Any, old: Any, new: Any) -> Any:
    """Write the new word where the old one stands; whether it stood there."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, old, new = args
        return _exchange(builder, builder.inttoptr(address, LONG.as_pointer()), old, new)

    return types.boolean(types.intp, types.intp, types.intp), generate


def _exchange(builder: Any, word: Any, old: Any, new: Any) -> Any:
    return builder.extract_value(builder.cmpxchg(word, old, new, "acq_rel", "acquire"), 1)


@intrinsic
def is_told_to_join(context: Any, order: Any) -> Any:
    """Wait for an order at this address. False if it was to leave, or if none came for long: then it is gone."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (address,) = args
        word = builder.inttoptr(address, LONG.as_pointer())
        _spin_until_told(builder, word)
        told = builder.icmp_signed("==", builder.load_atomic(word, "acquire", 8), LONG(JOIN))
        builder.store_atomic(builder.select(told, LONG(WAITING), LONG(GONE)), word, "release", 8)
        return told

    return types.boolean(types.intp), generate


def _spin_until_told(builder: Any, word: Any) -> None:
    """Come back when the word is another, or has been changed to GONE because it stayed the same for long."""
    looks, rounds = (cgutils.alloca_once_value(builder, LONG(0)) for _ in range(2))
    test, spin, done = (builder.append_basic_block(name) for name in ("test", "spin", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    waiting = builder.icmp_signed("==", builder.load_atomic(word, "acquire", 8), LONG(WAITING))
    builder.cbranch(waiting, spin, done)
    builder.position_at_end(spin)
    with builder.if_then(were_many(builder, looks)):
        give_way(builder)
        count = builder.add(builder.load(rounds), LONG(1))
        builder.store(count, rounds)
        with builder.if_then(builder.icmp_signed(">=", count, LONG(_ROUNDS))):
            _exchange(builder, word, LONG(WAITING), LONG(GONE))
    builder.branch(test)
    builder.position_at_end(done)
