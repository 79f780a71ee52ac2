"""Whom a sentence speaks of: turns “My dog …” or “The user's dog …” into “Your dog …”, and the first into the second.

What the model is to learn is to repeat what stands in front of it, turned to the person it talks to. The sentences that
it learns from are therefore made of the very sentences that stand there, by rule, where the rule is sure.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"\{\w+\}|[A-Za-z]+(?:['’][a-z]+)?")
_TO_YOU = {
    "i": "you",
    "i'm": "you're",
    "i've": "you've",
    "i'd": "you'd",
    "i'll": "you'll",
    "we": "you",
    "we're": "you're",
    "we've": "you've",
    "we'd": "you'd",
    "we'll": "you'll",
    "me": "you",
    "us": "you",
    "my": "your",
    "our": "your",
    "mine": "yours",
    "ours": "yours",
    "myself": "yourself",
    "ourselves": "yourselves",
    "am": "are",
}
_TO_USER = {
    "my": "the user's",
    "our": "the user's",
    "me": "the user",
    "us": "the user",
    "i'm": "the user is",
    "we're": "the user is",
    "i've": "the user has",
    "we've": "the user has",
    "i'll": "the user will",
    "we'll": "the user will",
}
_ADDRESSED = re.compile(r"(?:u|ur|you|your|yours|yourself|you're|you've|you'll|you'd|ask|meet|let|let's|please)")
_CHATTER = re.compile(r"^(?:fyi|btw|so|ok|hey|oh|and|yeah|well)[,:]? |(?:,? (?:btw|lol|ok|okay|by the way|haha|fyi))+$")
_APOSTROPHES = {
    "im": "I'm",
    "ive": "I've",
    "its": "it's",
    "dont": "don't",
    "cant": "can't",
    "wont": "won't",
    "didnt": "didn't",
    "isnt": "isn't",
    "doesnt": "doesn't",
    "thats": "that's",
    "theres": "there's",
    "theyre": "they're",
    "weve": "we've",
}
# With these a statement begins in which “I” was left out.
_BARE = re.compile(
    r"(?:finally )?(?:got|bought|hung|went|took|saw|met|found|lost|chose|made|put|left|gave|had|told|quit|ate|need|"
    r"want|love|like|hate|have|can't|won't|didn't|[a-z]+ed)\b"
)
_UNSURE = {"i'd", "we'd", "mine", "ours", "myself", "ourselves", "and", "but", "or", "who", "that", "all", "both"}
_ADVERB = r"(?P<adverb> (?:always|usually|normally|often|never|mostly|also|just|finally|only|really|sometimes|still))?"
_SPEAKER_ACTS = re.compile(rf"\b(?:I|i|we|We){_ADVERB} (?P<verb>[a-z]+(?:['’]t)?)")
_THIRD = {"am": "is", "are": "is", "were": "was", "have": "has", "do": "does", "don't": "doesn't", "haven't": "hasn't"}
# Verbs that are the same for “I” and “she”: the modal ones, and of the past the irregular ones that people use here.
_SAME = re.compile(
    r"can|can't|cannot|could|will|would|must|should|may|might|was|had|did|went|bought|met|got|put|kept|took|"
    r"found|left|made|gave|chose|lost|spent|saw|grew|ran|began|came|told|said|thought|taught|heard|set|cut|let|"
    r"read|paid|sold|built|fell|broke|wrote|drove|flew|ate|drank|won|knew|felt|held|led|meant|sent|slept|stood|"
    r"wore|became|hung|swam|sang|hurt|bet|shut|brought|drew|woke|cast|couldn't|won't|wouldn't|didn't|wasn't"
)
_USER = re.compile(
    r"(?P<behind>\b(?:to|with|above|below|beside|behind|for|from|of|by|than) )?"
    rf"\b[Tt]he user(?P<owns>['’]s)?{_ADVERB}(?P<verb> [a-z]+)?"
)
_IRREGULAR = {"is": "are", "was": "were", "has": "have", "does": "do", "goes": "go"}
_NO_VERBS = {"as", "this", "sometimes", "across", "towards", "plus", "his", "its"}
_THEIR = re.compile(r"\btheir\b")
_SOMEBODYS = re.compile(r"\b(?:their|his|her|he|she|they|them|him)\b")


def from_first_person(statement: str) -> str | None:
    """A statement of the person's, as the assistant says it; None if it speaks to the assistant, or asks."""
    sentence = _tidied(statement)
    if statement.endswith("?") or any(_ADDRESSED.fullmatch(word) for word in _words(sentence)):
        return None
    return toward_you(sentence)


def from_third_person(note: str) -> str | None:
    """A note as the assistant says it; None if it speaks of the user in words that may mean somebody else."""
    own = _THEIR.sub("your", note) if note.startswith("The user ") else note
    return None if "he user" in note and _SOMEBODYS.search(own) else toward_you(own)


def to_third_person(statement: str) -> str | None:
    """A statement of the person's as a note; None where the rule is not sure, as with two verbs for one subject."""
    sentence = _tidied(statement)
    words = _words(sentence)
    acts = words & {"i", "we", "i'm", "we're", "i've", "we've", "i'll", "we'll"}
    if from_first_person(statement) is None or (words & _UNSURE and acts) or words & {"mine", "ours"}:
        return None
    turned = _SPEAKER_ACTS.sub(_user_acts, sentence)
    return None if re.search(r"\b(?:[Ii]|[Ww]e)\b(?!['’])", turned) else _mapped(turned, _TO_USER)


def _tidied(statement: str) -> str:
    # As a sentence what was typed in a hurry: with “I” where that was left out, apostrophes and an end.
    if (statement[0].isupper() or statement[0] == "{") and statement.endswith("."):
        return statement
    said = _CHATTER.sub("", statement.rstrip(" .!?"))
    spelled = _WORD.sub(lambda found: _APOSTROPHES.get(found[0].casefold(), found[0]), said)
    if _BARE.match(spelled):
        spelled = f"I {spelled}"
    elif re.match(r"[a-z]+ing\b", spelled):
        spelled = f"I'm {spelled}"
    return spelled[:1].upper() + spelled[1:] + "."


def _words(sentence: str) -> set[str]:
    return {word.casefold().replace("’", "'") for word in _WORD.findall(sentence)}


def _user_acts(found: re.Match[str]) -> str:
    user = "The user" if found.start() == 0 else "the user"
    return f"{user}{found['adverb'] or ''} {_with_ending(found['verb'])}"


def _with_ending(verb: str) -> str:
    if verb in _THIRD:
        return _THIRD[verb]
    if _SAME.fullmatch(verb) or (verb.endswith("ed") and not verb.endswith("eed")):
        return verb
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("ss", "sh", "ch", "x", "zz", "o")) else "s")


def toward_you(text: str) -> str:
    """Every word for the speaker, or for the user, turned into “you”, whatever the text."""
    turned = _USER.sub(_user_to_you, text)
    turned = _mapped(turned, _TO_YOU)
    return re.sub(r"\b([Yy]ou) was\b", r"\1 were", turned)


def _user_to_you(found: re.Match[str]) -> str:
    before, adverb, verb = found["behind"] or "", found["adverb"] or "", found["verb"] or ""
    you = "You" if "The" in found[0] else "you"
    if found["owns"] or before:
        return before + you + ("r" if found["owns"] else "") + adverb + verb
    return you + adverb + (f" {_without_ending(verb.strip())}" if verb else "")


def _without_ending(verb: str) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if not verb.endswith("s") or verb.endswith("ss") or verb in _NO_VERBS:
        return verb
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if verb.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")) else verb[:-1]


def _mapped(text: str, words: dict[str, str]) -> str:
    def turned(found: re.Match[str]) -> str:
        other = words.get(found[0].casefold().replace("’", "'"))
        if other is None:
            return found[0]
        begins = found.start() == 0 or text[: found.start()].rstrip()[-1:] in ".!?"
        return other[:1].upper() + other[1:] if begins else other

    return _WORD.sub(turned, text)
