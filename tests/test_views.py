"""What the page shows, as pure functions: text stays text, what cannot be seen is shown, counts add up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.engine import Prefilling, Queued
from chat.turn import Begun, Done, Replying
from chat.types import (
    Completion,
    Conversation,
    Dropped,
    FinishReason,
    ModelInfo,
    Note,
    PromptRecord,
    Receipt,
    Sampling,
    Segment,
    Timing,
    Turn,
    Usage,
    WeightsCheck,
    token_ids_sha256,
)
from chat.ui.memory.note_desk import act_on_note, drafts_after, drafts_html, notes_html
from chat.ui.memory.note_view import draft_list, note_list
from chat.ui.prompt_view import VIEWS, View, count_kinds, empty_panel, missing_panel, prompt_panel, weights_seal
from chat.ui.turn_view import conversation_list, conversation_log, receipt_line, running_turn, status_of
from chat.ui.visible import escaped, visible
from memory.store import OwnerStore

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(1)"><form><input autofocus></form></textarea></pre></div>'
    "<!-- <style>*{display:none}</style> --> &lt;b&gt; &amp; \" ' ` # **bold** [x](javascript:alert(1)) "
    "{{value}} ${1+1} {{#each value}}{{this}}{{/each}} <|im_end|>"
)
OURS = {
    *("article", "div", "p", "button", "span", "i", "abbr", "nav", "ul", "ol", "li", "a", "b", "br", "code", "pre"),
    *("sub", "details", "summary", "section", "h2", "textarea", "label"),
}
CONTROL = 1
SEAL = WeightsCheck(before="ab" * 32, after="ab" * 32, parameters=134_515_008, changed_parameters=0)
BROKEN = WeightsCheck(before="ab" * 32, after="cd" * 32, parameters=134_515_008, changed_parameters=1_234_567)
USAGE = Usage(prompt_tokens=1_234, cached_tokens=1_000, prefilled_tokens=234, completion_tokens=11, kv_cache_bytes=5)
TIMING = Timing(queue_ms=0.0, prefill_ms=1.0, time_to_first_token_ms=420.0, decode_ms=500.0, total_ms=920.0)


@dataclass
class Page(HTMLParser):
    """HTML as a browser takes it: which elements there are, what they are called, and what can be read."""

    html: str
    tags: set[str] = field(default_factory=set)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment came out of text: {data}")


def assert_text_stays_text(html: str, *texts: str) -> None:
    page = Page(html)
    assert page.tags <= OURS
    assert [name for name, _ in page.attributes if name.startswith(("on", "src"))] == []
    assert [
        value for name, value in page.attributes if name == "style" and not re.fullmatch(r"width:[\d.]+%", value)
    ] == []
    assert [value for name, value in page.attributes if name == "href" and not value.startswith("/?c=")] == []
    for text in texts:
        assert text in page.text


def turn(**changed: object) -> Turn:
    plain = Turn(
        id="t1",
        conversation_id="c1",
        position=0,
        message="Who runs finance?",
        reply="Dana.",
        finish_reason="stop",
        use_memory=True,
        created_at="2026-01-01T00:00:00.000+00:00",
        weights=SEAL,
        usage=USAGE,
        timing=TIMING,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def record(*pieces: tuple[str, str], dropped: tuple[Dropped, ...] = ()) -> PromptRecord:
    """A prompt of one token for each character; a piece of kind `control` is one control token of the template."""
    segments: list[Segment] = []
    ids: list[int] = []
    for kind, text in pieces:
        own = [CONTROL] if kind == "control" else [1000 + ord(character) for character in text]
        kind = "template" if kind == "control" else kind
        segments.append(Segment(kind, f"the {kind}", None, None, len(ids), len(ids) + len(own), text))  # type: ignore[arg-type]
        ids += own
    text = "".join(segment.text for segment in segments)
    return PromptRecord(text, tuple(ids), token_ids_sha256(tuple(ids)), tuple(segments), dropped)


def spelled(ids: Sequence[int]) -> tuple[str, ...]:
    return tuple("<|im_start|>" if each == CONTROL else chr(each - 1000) for each in ids)


def panel(prompt: PromptRecord, view: View = "Segments", weights: WeightsCheck | None = SEAL, title: str = "T") -> str:
    return prompt_panel(prompt, title, view, spelled, frozenset({CONTROL}), weights)


PROMPT = record(
    ("control", "<|im_start|>"),
    ("template", "system\n"),
    ("system", "Be kind."),
    ("note", "\n- Dana runs finance."),
    ("history", "Hello"),
    ("message", "Who\truns finance? "),
)


def test_what_people_and_models_say_stays_text_in_the_conversation() -> None:
    hostile = turn(message=HOSTILE, reply=HOSTILE, error=HOSTILE, finish_reason="error")
    html = conversation_log([hostile, turn(id="t2")], "t2", older=3)
    assert_text_stays_text(html, HOSTILE)
    assert Page(html).text.count(HOSTILE) == 3
    assert_text_stays_text(running_turn(HOSTILE, HOSTILE), HOSTILE + HOSTILE)


def test_titles_and_searches_stay_text_in_the_list() -> None:
    conversation = Conversation("c1", HOSTILE, "", "", 2)
    assert_text_stays_text(conversation_list([conversation], "c1", ""), HOSTILE)
    assert_text_stays_text(conversation_list([], "", HOSTILE), HOSTILE)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["template", "system", "note", "history", "message"])
def test_every_kind_of_segment_stays_text_in_every_view(view: View, kind: str) -> None:
    html = panel(record((kind, HOSTILE)), view, title=HOSTILE)
    assert_text_stays_text(html, HOSTILE)
    if view == "Tokens":
        shown = re.sub(r"<sub>\d+</sub>", "", html)
        assert "".join(re.findall(r'class="token [a-z ]+">(.*?)</span>', shown)) == escaped(HOSTILE).replace(" ", "·")
    else:
        # A token that is only a blank is shown as a dot.
        assert Page(html).text.replace("·", " ").count(HOSTILE) == 2


def test_labels_and_reasons_stay_text_in_the_panel() -> None:
    prompt = record(("message", "x"), dropped=(Dropped("t9", None, 5, HOSTILE),))
    labelled = replace(prompt, segments=(replace(prompt.segments[0], label=HOSTILE),))
    assert_text_stays_text(panel(labelled), HOSTILE)
    assert_text_stays_text(missing_panel(HOSTILE), HOSTILE)


def test_notes_and_their_sources_stay_text() -> None:
    note = Note("n1", HOSTILE, origin="model", source_turn_ids=("t1",), replaces="n0")
    old = Note("n0", "old " + HOSTILE)
    # A source, and a note that was replaced, is quoted with its beginning.
    assert_text_stays_text(note_list([old, note], {"t1": HOSTILE}), HOSTILE, HOSTILE[:100], f"“old {HOSTILE[:100]}")
    assert_text_stays_text(draft_list([note], {"t1": HOSTILE}, {"n0": old}), HOSTILE, HOSTILE[:100], f"“{old.text}”")


@given(st.text())
def test_no_text_at_all_becomes_markup(text: str) -> None:
    page = Page(f"<p>{escaped(text)}</p>")
    assert page.tags == {"p"}
    # A parser takes a carriage return for a line break, and NUL for U+FFFD, as HTML says.
    assert page.text == text
    assert Page(f'<p title="{escaped(text)}">').attributes == [("title", text)]


def test_a_lone_surrogate_can_be_sent_to_a_browser() -> None:
    assert escaped("a\ud800<b>\U0001f642").encode() == "a\ufffd&lt;b&gt;\U0001f642".encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a⏎\nb"),
        ("\n\n", "⏎\n⏎\n"),
        ("a\tb", "a␉b"),
        ("a\r\nb", "a␍⏎\nb"),
        ("\x00\x1b\x7f", "␀␛␡"),
        ("  a b  ", "··a b··"),
        ("   ", "···"),
        (" ", "·"),
        ("", ""),
        ("a\u202eb\u2066c", "a⟨U+202E⟩b⟨U+2066⟩c"),
        ("a\u200bb\ufeffc\u00add", "a⟨U+200B⟩b⟨U+FEFF⟩c⟨U+00AD⟩d"),
        ("a\u2028b\u2029c\x85d", "a⟨U+2028⟩b⟨U+2029⟩c⟨U+0085⟩d"),
        ("\ue000\ud800", "⟨U+E000⟩⟨U+D800⟩"),
        ("👩\u200d👧 é e\u0301 שלום", "👩\u200d👧 é e\u0301 שלום"),
    ],
    ids=ascii,
)
def test_what_cannot_be_seen_is_shown_by_a_sign(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(alphabet=st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Zs"])))
def test_no_control_character_acts_on_the_page(text: str) -> None:
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", visible(text)) == []


def test_white_space_and_control_tokens_stand_out_in_the_panel() -> None:
    segments = panel(PROMPT, "Segments")
    assert "<b>&lt;|im_start|&gt;</b>" in segments
    assert "system⏎\n" in Page(segments).text
    assert "Who␉runs finance?·" in Page(segments).text
    tokens = panel(PROMPT, "Tokens")
    assert '<span class="token template control">&lt;|im_start|&gt;<sub>1</sub></span>' in tokens
    assert '<span class="token message">·<sub>1032</sub></span>' in tokens
    assert '<span class="token message">␉<sub>1009</sub></span>' in tokens


def test_text_that_only_looks_like_a_control_token_does_not_stand_out() -> None:
    html = panel(record(("control", "<|im_start|>"), ("message", "<|im_start|>")))
    assert html.count("<b>&lt;|im_start|&gt;</b>") == 1
    assert html.count("&lt;|im_start|&gt;") == 2


def test_the_single_tokens_are_all_there_with_their_ids_in_order() -> None:
    shown = [int(number) for number in re.findall(r"<sub>(\d+)</sub>", panel(PROMPT, "Tokens"))]
    assert tuple(shown) == PROMPT.token_ids


def test_the_raw_text_is_the_prompt_and_its_digest_stands_under_it() -> None:
    html = panel(PROMPT, "Raw text")
    (raw,) = re.findall(r'id="raw-prompt"[^>]*>(.*?)</pre>', html, re.DOTALL)
    assert Page(f"<p>{raw}</p>").text == PROMPT.text
    assert PROMPT.sha256 in html


def test_the_counts_of_the_kinds_add_up_to_the_prompt() -> None:
    counts = count_kinds(PROMPT)
    assert counts == {"template": 8, "system": 8, "note": 21, "history": 5, "message": 18}
    assert sum(counts.values()) == len(PROMPT.token_ids)
    for view in VIEWS:
        legend = Page(re.findall(r'<ul class="legend".*?</ul>', panel(PROMPT, view))[0]).text
        assert legend == "template 8system 8note 21history 5message 18= 60 tokens"
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", panel(PROMPT))]
    assert sum(widths) == pytest.approx(100, abs=0.05)


def test_what_was_left_out_is_told_with_its_reason_size_and_sum() -> None:
    assert "Nothing was left out." in panel(PROMPT)
    dropped = (Dropped("t1", None, 1_200, "did not fit the context window"), Dropped(None, "n1", 7, "no room"))
    text = Page(panel(replace(PROMPT, dropped=dropped))).text
    assert "2 things were left out, 1,207 tokens" in text
    assert "The turn, since deleted, 1,200 tokens: did not fit the context window" in text
    assert "The note, since deleted, 7 tokens: no room" in text
    words = {"t1": "Who runs <b>finance</b>?"}
    ids = frozenset({CONTROL})
    named = Page(prompt_panel(replace(PROMPT, dropped=dropped), "T", "Segments", spelled, ids, left_out=words)).text
    assert "The turn “Who runs <b>finance</b>?”, 1,200 tokens" in named
    assert "1 thing was left out, 7 tokens" in Page(panel(replace(PROMPT, dropped=dropped[1:]))).text


def test_equal_fingerprints_are_told_quietly_and_in_full_on_demand() -> None:
    html = weights_seal(SEAL)
    assert "The book did not change." in html
    assert "134,515,008" in html
    assert SEAL.after in html
    assert "alarm" not in html
    assert "alert" not in html


def test_an_alarm_is_raised_when_the_fingerprints_differ() -> None:
    for html in (weights_seal(BROKEN), *(panel(PROMPT, view, BROKEN) for view in VIEWS)):
        assert 'role="alert"' in html
        assert "alarm" in html
        assert "The weights changed during this turn." in html
        assert "1,234,567 weights" in html
        assert BROKEN.before in html
        assert BROKEN.after in html
        assert "did not change" not in html
    assert 'class="receipt alarm"' in receipt_line(turn(weights=BROKEN))
    assert "1,234,567 of 134,515,008 weights changed" in Page(receipt_line(turn(weights=BROKEN))).text


def test_an_alarm_does_not_hang_on_the_count_alone() -> None:
    uncounted = replace(BROKEN, changed_parameters=0)
    assert 'role="alert"' in weights_seal(uncounted)
    assert 'class="receipt alarm"' in receipt_line(turn(weights=uncounted))


def test_the_line_under_a_reply_is_its_receipt() -> None:
    assert Page(receipt_line(turn())).text == (
        "1,234 tokens read, 1,000 reused · 11 written · first word 0.42 s · 20 tokens/s · "
        "0 of 134,515,008 weights changed"
    )


def test_the_line_says_no_speed_where_there_is_none() -> None:
    one_token = turn(usage=replace(USAGE, completion_tokens=1))
    assert "tokens/s" not in receipt_line(one_token)
    assert "first word" in receipt_line(one_token)
    none = turn(usage=replace(USAGE, completion_tokens=0))
    assert "first word" not in receipt_line(none)
    assert receipt_line(turn(usage=None)) == ""


@pytest.mark.parametrize(
    ("finish_reason", "said", "retried"),
    [
        ("stop", "", False),
        ("length", "Cut off at the longest reply", False),
        ("cancelled", "Stopped. What had been said is kept.", True),
        ("interrupted", "Interrupted: Marginalia was closed", True),
        ("error", "The model failed.", True),
        (None, "Being answered, perhaps in another tab.", False),
    ],
)
def test_how_a_reply_ended_is_told_and_what_was_cut_off_can_be_tried_again(
    finish_reason: FinishReason | None, said: str, retried: bool
) -> None:
    html = conversation_log([turn(finish_reason=finish_reason)], None)
    assert said in Page(html).text
    assert ("Retry" in Page(html).text) is retried
    assert "Dana." in Page(html).text
    not_the_last = conversation_log([turn(finish_reason=finish_reason), turn(id="t2")], None)
    assert "Retry" not in not_the_last


def test_every_finish_reason_is_covered_above() -> None:
    assert set(get_args(FinishReason)) == {"stop", "length", "cancelled", "interrupted", "error"}


def test_the_turn_whose_prompt_is_shown_is_marked_once() -> None:
    html = conversation_log([turn(id="t1"), turn(id="t2"), turn(id="t3")], "t2")
    assert html.count('aria-pressed="true"') == 1
    assert re.findall(r'data-id="(\w+)" aria-pressed="true"', html) == ["t2"]
    assert html.count("Its prompt is shown") == 1


def test_earlier_turns_are_counted_and_offered() -> None:
    assert "Show 1 earlier turn<" in conversation_log([turn()], None, older=1)
    assert "Show 1,200 earlier turns<" in conversation_log([turn()], None, older=1200)
    assert "earlier turn" not in conversation_log([turn()], None)


def test_the_open_conversation_is_marked_and_an_empty_list_says_why() -> None:
    listed = [Conversation(each, f"Title {each}", "", "", 1) for each in ("c1", "c2")]
    html = conversation_list(listed, "c2", "")
    assert re.findall(r'data-id="(\w+)"[^>]*aria-current="true"', html) == ["c2"]
    assert html.index("Title c1") < html.index("Title c2")
    assert "Your conversations will be listed here." in conversation_list([], "", "")


def test_drafts_and_notes_offer_what_can_be_done_with_them() -> None:
    kept, off = Note("n1", "Dana runs finance."), Note("n2", "Priya runs sales.", enabled=False)
    html = note_list([kept, off], {})
    assert re.findall(r'data-action="(\w+)" data-id="n1"', html) == ["edit", "off", "delete"]
    assert re.findall(r'data-action="(\w+)" data-id="n2"', html) == ["edit", "on", "delete"]
    assert html.count("Switched off") == 1
    draft = Note("n3", "Draft", draft=True, origin="model", source_turn_ids=("gone",))
    assert re.findall(r'data-action="(\w+)" data-id="n3"', draft_list([draft], {}, {})) == ["keep", "delete"]
    assert "from a conversation that was deleted" in draft_list([draft], {}, {})
    assert draft_list([], {}, {}) == ""
    assert "No notes yet" in note_list([], {})


def remark_on(html: str, identifier: str) -> str:
    """What stands under a note's field and is read out with it."""
    (reference,) = re.findall(rf'aria-describedby="(remark-{identifier})"', html)
    (remark,) = re.findall(rf'id="{reference}">([^<]*)</p>', html)
    return str(remark)


def test_a_draft_says_which_note_it_replaces_and_what_that_does() -> None:
    old = Note("n1", "Priya runs finance.")
    draft = Note("n2", "Dana runs finance.", draft=True, origin="model", replaces="n1")
    will = remark_on(draft_list([draft], {}, {"n1": old}), "n2")
    assert will == "Replaces “Priya runs finance.”, which will be switched off."
    already = remark_on(draft_list([draft], {}, {"n1": replace(old, enabled=False)}), "n2")
    assert already == "Replaces “Priya runs finance.”, which is switched off."
    assert "Replaces" not in draft_list([draft], {}, {}), "the old note was deleted"
    assert "Replaces" not in draft_list([replace(draft, replaces=None)], {}, {"n1": old})


def test_a_note_says_what_it_replaced_and_one_that_was_replaced_why_it_is_off() -> None:
    old, other = Note("n1", "Priya runs finance.", enabled=False), Note("n3", "Ada likes tea.", enabled=False)
    new = Note("n2", "Dana runs finance.", origin="model", replaces="n1")
    html = note_list([old, other, new], {})
    assert "Replaced “Priya runs finance.”." in html
    assert remark_on(html, "n1") == "Switched off: replaced by a newer note."
    assert remark_on(html, "n3") == "Switched off: not put into any prompt."
    assert "Switched off" not in note_list([replace(old, enabled=True), new], {}), "it was switched on again"
    assert "Replaced" not in note_list([new], {}), "the old note was deleted"


def test_the_pages_tell_of_a_replaced_note_from_the_draft_to_the_kept_note(store: OwnerStore) -> None:
    old = store.add_note("Priya runs finance.")
    draft = store.add_note("Dana runs finance.", "model", draft=True, replaces=old.id)
    assert "Replaces “Priya runs finance.”, which will be switched off." in drafts_html(store)
    assert "Switched off" not in notes_html(store)

    act_on_note(store, "keep", draft.id, "Dana runs finance.")
    assert "Replaced “Priya runs finance.”." in notes_html(store)
    assert "Switched off: replaced by a newer note." in notes_html(store)


def test_drafts_stand_where_their_conversation_ended_and_anywhere_else_only_wait(store: OwnerStore) -> None:
    conversation_id = store.new_conversation()
    first = store.begin_turn(conversation_id, "Dana runs finance.", 0, True)
    store.fail_turn(first, "Noted.", "The power went.")
    old = store.add_note("Priya runs finance.")
    store.add_note("Dana runs finance.", "model", draft=True, source_turn_ids=[first], replaces=old.id)

    here = drafts_after(store, store.turns(conversation_id))
    elsewhere = drafts_after(store, ())
    assert 'aria-label="Draft"' in here
    assert "Replaces “Priya runs finance.”" in here
    assert "for your review" not in here
    assert 'aria-label="Draft"' not in elsewhere
    assert "1 draft of a note waits for your review" in elsewhere

    second = store.begin_turn(conversation_id, "Who runs finance?", 1, True)
    assert drafts_after(store, store.turns(conversation_id)) == elsewhere
    store.fail_turn(second, "", "The model could not be asked.")
    assert drafts_after(store, store.turns(conversation_id)) == here


def test_what_is_waited_for_is_told_in_words() -> None:
    receipt = Receipt(
        "t1",
        "c1",
        "",
        ModelInfo("m", "float32", 1, 2),
        PROMPT,
        Sampling(),
        Completion("x", (5,), "stop"),
        SEAL,
        USAGE,
        TIMING,
    )
    assert [
        status_of(event)
        for event in (
            Queued(1),
            Queued(2),
            Queued(0),
            Begun("t1", PROMPT),
            Prefilling(512, 2048),
            Replying("t1", "x"),
            Replying("t1", "x", complete=True),
            Done(receipt),
        )
    ] == [
        "Waiting: 1 request before yours",
        "Waiting: 2 requests before yours",
        "Working",
        "Reading 60 tokens",
        "Reading 512 of 2,048 tokens",
        "Writing",
        "Comparing the weights with what they were",
        "Answered in 11 tokens",
    ]


def test_the_panel_before_anything_was_sent_explains_every_kind() -> None:
    assert re.findall(r'class="chip (\w+)"', empty_panel()) == ["template", "system", "note", "history", "message"]
