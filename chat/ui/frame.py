"""What every page has in common: the side with its links, the way clicks inside HTML reach Python, the settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import gradio as gr

from chat.errors import MarginaliaError
from chat.types import Sampling
from chat.ui.visible import escaped

Updates = dict[Any, Any]
"""New values by component, as Gradio takes them."""

# Of a click inside an HTML block only the data-… of the thing that was clicked travels, and the text beside it: the
# first field's, and that of each field with a name.
CLICKS = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-action]');
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const fields = [...(target.closest('[data-form]')?.querySelectorAll('textarea') ?? [])];
  const named = Object.fromEntries(fields.filter(({name}) => name).map(({name, value}) => [name, value]));
  trigger('click', {...named, ...target.dataset, text: fields.length ? fields[0].value : target.dataset.text});
});
"""
# Where the side is a drawer, the heading in it is hidden: this one is heard instead.
MENU_BUTTON = '<h1 class="only-heard">Marginalia</h1><button class="small" data-toggle aria-label="Menu">Menu</button>'
PAGES = (
    ("Chat", "/"),
    ("Tour", "/tour"),
    ("Compare", "/compare"),
    ("Under glass", "/glass"),
    ("Memory", "/memory"),
    ("Feedback", "/feedback"),
    ("Costs", "/costs"),
    ("Model", "/model"),
)


def html_block(value: str = "", **options: Any) -> gr.HTML:
    """A block of our own HTML. Its buttons with `data-action` arrive as a click with their `data-…` as the event."""
    return gr.HTML(value, js_on_load=CLICKS, apply_default_css=False, **options)


def brand_and_links(here: str) -> None:
    """The name, and the links to the pages."""
    links = "".join(
        f'<a href="{path}" data-page="{name}" aria-current="{"page" if name == here else "false"}">{name}</a>'
        for name, path in PAGES
    )
    gr.HTML(
        '<button class="small only-narrow" data-toggle>Close</button>'
        '<header class="brand"><h1><a href="/">Marginalia</a></h1><p>It reads. It never learns.</p></header>'
        f'<nav class="pages" aria-label="Pages">{links}<button data-press="footer .show-api">API</button></nav>',
        apply_default_css=False,
        elem_classes="brand-block",
    )


@contextmanager
def text_page(name: str, title: str, about: str, *classes: str) -> Iterator[None]:
    """The frame of every page but the chat: the side, and the heading under which the page builds its own parts.

    `about` is HTML.
    """
    told = f'<p class="quiet">{about}</p>' if about else ""
    with gr.Row(elem_id="book", elem_classes="wide"):
        with gr.Column(elem_id="side", min_width=0):
            brand_and_links(name)
        with gr.Column(elem_id="text", min_width=0, elem_classes=list(classes)):
            gr.HTML(MENU_BUTTON, apply_default_css=False, elem_classes="only-narrow")
            heading = f'<h2 class="page-title">{escaped(title)}</h2>{told}'
            gr.HTML(heading, apply_default_css=False, elem_classes="page-head")
            yield


def clicked(event: gr.EventData) -> dict[str, Any]:
    """The `data-…` of what was clicked in an `html_block`; empty if a client sent none."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}


def alert(sentence: str) -> str:
    """One sentence about what went wrong, where the eye is."""
    return f'<p class="alert" role="alert">{escaped(sentence)}</p>' if sentence else ""


def sampling_settings(longest: int) -> list[gr.components.Component]:
    """The fields that choose how the next token is chosen, in the order of `sampling_from`.

    `longest` is the reply's length, in tokens, that the page begins with.
    """
    with gr.Accordion("How the next word is chosen", open=False, elem_classes="settings"), gr.Row():
        return [
            # Their limits are in `Sampling.checked`, which tells them where the other errors stand.
            gr.Number(0, label="Temperature", step=0.1, info="0: always the likeliest"),
            gr.Number(1, label="Top-p", step=0.05, info="1: off"),
            gr.Number(0, label="Top-k", info="0: off"),
            gr.Number(0, label="Seed", info="the same seed draws the same"),
            gr.Number(longest, label="Longest reply", info="tokens"),
        ]


def sampling_from(temperature: object, top_p: object, top_k: object, seed: object, longest: object) -> Sampling:
    """The settings' values, checked. Raises InputError."""
    return Sampling.checked(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, max_new_tokens=longest)


# More would take processor time from the model that writes the reply (tests/bench/LOG.md, 2026-11-23).
UPDATES_A_SECOND = 8
QUIETLY: dict[str, Any] = {
    "api_visibility": "private",
    "concurrency_limit": None,
    "show_progress": "hidden",
    "show_progress_on": [],
}
"""How a page's event is wired: no part of the API, no limit, as the engine has a queue of its own, and no progress.

What is hidden would still be timed, sixty times a second, for each output (tests/bench/LOG.md, 2026-11-23).
"""


class Page(Protocol):
    """What `telling_errors` needs of a page."""

    def failed(self, sentence: str) -> Updates:
        """The updates that tell what went wrong and make the page ready again."""


ThisPage = TypeVar("ThisPage", bound=Page)
P = ParamSpec("P")


def telling_errors(
    handler: Callable[Concatenate[ThisPage, P], Iterator[Updates]],
) -> Callable[Concatenate[ThisPage, P], Iterator[Updates]]:
    """For a page's handlers: what went wrong is told on the page, in its sentence, and what was typed stays."""

    @functools.wraps(handler)
    def told(page: ThisPage, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Updates]:
        try:
            yield from handler(page, *args, **kwargs)
        except MarginaliaError as error:
            yield page.failed(str(error))

    return told
