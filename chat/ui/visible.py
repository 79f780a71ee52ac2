"""Text on the page: it stays text, and what cannot be seen is made visible."""

from __future__ import annotations

import html
import unicodedata

LINE_BREAK = "⏎\n"


def escaped(text: str) -> str:
    """The text as HTML that shows it character for character; nothing in it can become markup.

    A lone surrogate, which cannot be sent to a browser, is shown as U+FFFD.
    """
    return html.escape(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), quote=True)


def shortened(text: str, most: int) -> str:
    """The beginning of a text, on one line, for a list."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def short_digest(digest: str) -> str:
    """A SHA-256 in hexadecimal by its beginning and its end, for a line of text."""
    return f"{digest[:4]} {digest[4:8]} … {digest[-4:]}"


def visible(text: str) -> str:
    """The text with line breaks, tabs, blanks at the ends and control characters shown by signs.

    C0 controls get their Control Pictures (Unicode 2400 to 2421); marks that turn or join text without being seen,
    the bidirectional controls among them, are spelled as ⟨U+202E⟩, so that they act on nothing around them.
    """
    shown = "".join(_visible_character(character) for character in text)
    lead = len(shown) - len(shown.lstrip(" "))
    trail = len(shown) - len(shown.rstrip(" ")) if lead < len(shown) else 0
    return "·" * lead + shown[lead : len(shown) - trail] + "·" * trail


def _visible_character(character: str) -> str:
    if character == "\n":
        return LINE_BREAK
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    # U+200D joins emoji into one picture; spelled out, it would take them apart.
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Co", "Cs") and code != 0x200D:
        return f"⟨U+{code:04X}⟩"
    return character
