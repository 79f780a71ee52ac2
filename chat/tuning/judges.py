"""Whether a reply is right. Each judge is a rule that anybody can read; none is a model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from chat.tuning.acts import Ask, Noted

_ARTICLE = re.compile(r"^(a|an|the)\s+", re.IGNORECASE)
_DENIED = r"(?:not|isn't|wasn't|instead of|rather than|no longer)(?: (?:on|in|at|a|an|the|to|from|called|by))*\s+"
_NOT_KNOWING = re.compile(
    r"\b(?:don't|do not|doesn't|does not|didn't|did not|can't|cannot|can not|couldn't|haven't|hasn't|have not|has not"
    r"|isn't|is not|wasn't|aren't|not able|unable|no idea|no way|no information|nothing|neither|none|never"
    r"|not mentioned|not sure|unknown|no saved note|nowhere|have to tell|need you to tell)\b"
)
_NAME_OR_NUMBER = re.compile(r"(?<![.!?:\"“\n] )(?<!^)\b(?:[A-Z][\w'’-]+|\w*\d[\w:.,/-]*)")
_FIRST_PERSON = re.compile(r"I(?:['’]\w+)?$")


def normal(text: str) -> str:
    """Text as it is compared: no case, no accents, straight quotes, single blanks."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'").replace("‘", "'").replace("–", "-"))
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).casefold().split())


def holds(text: str, value: str) -> bool:
    """Whether the value stands in the text as whole words; its article may differ."""
    core = re.escape(normal(_ARTICLE.sub("", value)))
    return re.search(rf"(?<!\w){core}(?!\w)", normal(text)) is not None


def gives(reply: str, ask: Ask) -> bool:
    """Whether the reply gives the fact's value, and none that it does not have (“Rex, not Bo” does not give Bo)."""
    others = {*ask.stale, *([ask.other] if ask.other else [])}
    return holds(reply, ask.fact.value) and not any(_asserts(reply, other) for other in others)


def admits_not_knowing(reply: str, heard: Iterable[str]) -> bool:
    """Whether the reply says that it does not know, and brings in no name or number that was not `heard`."""
    if not _NOT_KNOWING.search(normal(reply)):
        return False
    return not invented(reply, heard)


def invented(text: str, heard: Iterable[str]) -> list[str]:
    """The names and numbers within sentences that do not occur in what was heard."""
    known = normal(" ".join(heard))
    found = [word.rstrip(".,:") for word in _NAME_OR_NUMBER.findall(text)]
    return [word for word in found if not _FIRST_PERSON.match(word) and normal(word).removesuffix("'s") not in known]


def fault_in_notes(written: Sequence[str], wanted: Sequence[Noted], kept: Sequence[str], heard: Sequence[str]) -> str:
    """What is wrong with the shelf after notes were written, or "". `kept` are saved notes that must still be there."""
    rest = list(written)
    for note in kept:
        if note not in rest:
            return f"lost: {note}"
        rest.remove(note)
    for noted in wanted:
        line = next((line for line in rest if _notes_down(line, noted)), None)
        if line is None:
            return f"missing: {noted.fact.relation.name} = {noted.fact.value}"
        rest.remove(line)
    if rest:
        return f"not wanted: {rest[0]}"
    made_up = [word for line in written for word in invented(line, heard)]
    return f"invented: {made_up[0]}" if made_up else ""


def _notes_down(line: str, noted: Noted) -> bool:
    subject = noted.fact.subject
    return holds(line, noted.fact.value) and (subject is None or holds(line, subject))


def _asserts(reply: str, value: str) -> bool:
    core = re.escape(normal(_ARTICLE.sub("", value)))
    without_denials = re.sub(rf"{_DENIED}{core}(?!\w)", "", normal(reply))
    return holds(without_denials, value)


_ABOUT_ITSELF: dict[str, tuple[str, str]] = {
    "learning": (
        r"\b(not|n't|never|no|nothing|only|stay|stays|unchanged|untouched|same|frozen)\b|n't\b",
        r"\bi (?:can |will |do |am able to |am designed to )?(?:learn|improve|remember|adapt)\b(?! (?:nothing|only))",
    ),
    "rereading": (
        r"\b(read|reads|reread|re-read|prompt|conversation|text|in front of me)\b",
        r"\bi (?:store|memori[sz]e)\b",
    ),
    "fresh": (
        r"\b(blank|fresh|new (?:chat|session|conversation|one)|nothing|not|no|only|without)\b|n't\b",
        r"\byes, i (?:will|do|can)\b",
    ),
    "note": (r"\b(prompt|text|line|read)\b", r"\b(?:my weights change|i learn)\b"),
}


def tells_of_itself(reply: str, topic: str) -> bool:
    """Whether the reply says what is so about learning, rereading, fresh sessions or notes: by key words, roughly.

    That it does not know is no answer: here it could.
    """
    said, denied = _ABOUT_ITSELF[topic]
    text = normal(reply)
    return not text.startswith("i don't know.") and re.search(said, text) is not None and not re.search(denied, text)
