"""Which kinds of conversation come when, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from chat.tuning.acts import Kind


@dataclass(frozen=True)
class Stage:
    """What conversations are like from a number on.

    `shares` says how many are of each kind, as shares of one. `ways_to_say` is how many of the answers about itself are
    learned, `impersonal` the share of questions in which “my” and “our” become “the”. With `full_shelf`, notes are
    written beside saved ones as StoryTeller has it, and in the order in which the facts were last stated. `alike` is
    the share of messages in which two facts of a relation have the same wording. With `notes_by_exchange`, notes are
    written on one exchange at a time, as the app has it done. With `keeps_knowledge`, other talk in general
    conversations is learned from the base model's probabilities instead of its words.
    """

    begins: int
    ways_to_say: int
    impersonal: float
    shares: dict[Kind, float]
    full_shelf: bool = False
    alike: float = 0.0
    notes_by_exchange: bool = False
    keeps_knowledge: bool = False


STAGES = (
    Stage(
        begins=0,
        ways_to_say=3,
        impersonal=0.0,
        shares={
            "told": 0.13,
            "corrected": 0.19,
            "noted": 0.11,
            "note corrected": 0.10,
            "distracted": 0.03,
            "two of a shape": 0.09,
            "fresh": 0.07,
            "sibling untold": 0.07,
            "notes written": 0.08,
            "notes replaced": 0.06,
            "about itself": 0.02,
            "general": 0.05,
        },
    ),
    Stage(
        begins=4_320,
        ways_to_say=1,
        impersonal=0.2,
        shares={
            "told": 0.07,
            "corrected": 0.14,
            "noted": 0.11,
            "note corrected": 0.07,
            "distracted": 0.03,
            "two of a shape": 0.06,
            "both corrected": 0.06,
            "fresh": 0.05,
            "sibling untold": 0.05,
            "notes written": 0.13,
            "notes replaced": 0.10,
            "about itself": 0.08,
            "general": 0.05,
        },
    ),
    Stage(
        begins=7_680,
        ways_to_say=1,
        impersonal=0.2,
        full_shelf=True,
        alike=0.5,
        shares={
            "told": 0.06,
            "corrected": 0.11,
            "noted": 0.09,
            "note corrected": 0.06,
            "distracted": 0.03,
            "two of a shape": 0.06,
            "both corrected": 0.07,
            "fresh": 0.04,
            "sibling untold": 0.06,
            "notes written": 0.14,
            "notes replaced": 0.12,
            "about itself": 0.06,
            "general": 0.10,
        },
    ),
    Stage(
        begins=13_800,
        ways_to_say=1,
        impersonal=0.2,
        full_shelf=True,
        alike=0.5,
        notes_by_exchange=True,
        keeps_knowledge=True,
        shares={
            "told": 0.06,
            "corrected": 0.09,
            "noted": 0.07,
            "note corrected": 0.06,
            "distracted": 0.02,
            "two of a shape": 0.04,
            "both corrected": 0.06,
            "fresh": 0.03,
            "sibling untold": 0.03,
            "notes written": 0.18,
            "notes replaced": 0.19,
            "about itself": 0.03,
            "general": 0.14,
        },
    ),
    Stage(
        begins=17_400,
        ways_to_say=1,
        impersonal=0.2,
        full_shelf=True,
        alike=0.5,
        notes_by_exchange=True,
        keeps_knowledge=True,
        shares={
            "told": 0.04,
            "corrected": 0.08,
            "noted": 0.06,
            "note corrected": 0.06,
            "distracted": 0.01,
            "two of a shape": 0.03,
            "both corrected": 0.09,
            "fresh": 0.02,
            "sibling untold": 0.03,
            "notes written": 0.14,
            "notes replaced": 0.14,
            "many replaced": 0.22,
            "about itself": 0.02,
            "general": 0.06,
        },
    ),
)
"""First it learns above all to find and to repeat; then more notes, which take longest, and more about itself.

The third stage goes after what an evaluation at the second found: saved notes replaced that had nothing to do with what
was said, and facts left out that stood before a correction (tests/bench/LOG.md, 2026-11-22). The fourth goes after what
was left at the third: notes on one exchange at a time, and general questions, of which it had come to answer fewer than
the base model (2026-11-23). The fifth has many decisions in one conversation on which saved note is outdated: half of
those on unrelated notes were wrong after the fourth, for its conversations had one or two each (2026-11-23).
"""


def stage_at(number: int) -> Stage:
    """The stage that the conversation of this number belongs to."""
    return next(stage for stage in reversed(STAGES) if stage.begins <= number)
