"""The page “Costs” as components: what stands where. What they do is in `costs_page.py`."""

from __future__ import annotations

import gradio as gr

from chat.costs import MOST_CALLS_EXPONENT
from chat.published_costs import PRICES, TrainingExample
from chat.ui.costs.prices_view import OVERTAKING_COLOURS, source_html
from chat.ui.costs.view import GROWTH_COLOURS
from chat.ui.frame import html_block, text_page

ABOUT = "Training is paid once. Every turn is paid again, and each is a little longer than the last."
OWN = "Your own figures"
BILLION = 9
CAVEAT = (
    '<p class="quiet">A price is what a caller pays, not what the provider spends, and other conversations are longer: '
    "it is the scale that counts.</p>"
)


class CostsParts:
    """The page's components, made inside the current Blocks: the conversation, its turns, the prices, the scale."""

    def __init__(self, trainings: tuple[TrainingExample, ...]) -> None:
        with text_page("Costs", "What it costs", ABOUT, "costs"):
            self.conversation = gr.Dropdown([], value=None, label="Conversation", elem_id="whose-costs")
            self.error = html_block(elem_id="error")
            with gr.Column(visible=False, min_width=0) as self.body:
                self._turns()
                self._prices()
                self._scale(trainings)
        self.prices: list[gr.Number | gr.Textbox] = [self.read, self.reused, self.written, self.currency]
        self.asked = [self.conversation, *self.prices, self.calls, self.training]
        """The fields, in the order of `Asked`."""
        shown = [self.turns, self.growth_head, self.growth, self.bill, self.scale, self.overtaking, self.own_training]
        self.outputs = [self.conversation, self.body, self.error, self.price_error, self.scale_error, *shown]

    def _turns(self) -> None:
        _heading("Turn by turn")
        self.turns = gr.HTML(elem_id="turn-costs", apply_default_css=False)
        _heading("Every turn sends everything again")
        self.growth_head = gr.HTML(apply_default_css=False)
        self.growth = _plot("growth", "turn", "tokens", "reading", GROWTH_COLOURS, "tokens read, all turns together")

    def _prices(self) -> None:
        example = PRICES[0]
        _heading("What it would cost elsewhere")
        names = [each.name for each in PRICES]
        with gr.Row(elem_classes="sheet"):
            self.price_example = _examples("Prices of a million tokens, an example", names)
            self.read = gr.Number(example.sheet.read, label="A million read anew")
            self.reused = gr.Number(example.sheet.reused, label="A million reused")
            self.written = gr.Number(example.sheet.written, label="A million written")
            self.currency = gr.Textbox(example.sheet.currency, label="Currency", max_lines=1)
        self.price_error = html_block(elem_id="price-error")
        self.price_source = gr.HTML(source_html(example.source), apply_default_css=False)
        self.bill = gr.HTML(elem_id="bill", apply_default_css=False)

    def _scale(self, trainings: tuple[TrainingExample, ...]) -> None:
        example = trainings[0]
        _heading("From one chat to billions")
        names = [each.name for each in trainings]
        with gr.Row(elem_classes="sheet"):
            self.training_example = _examples("A training run, an example", names)
            self.training = gr.Number(example.cost, label="What it cost, once")
        self.training_source = gr.HTML(source_html(example.source), apply_default_css=False)
        self.calls = gr.Slider(
            0,
            MOST_CALLS_EXPONENT,
            BILLION,
            step=0.1,
            label="Calls a day, as a power of ten",
            info="0 is one chat a day, 3 a thousand, 6 a million, 9 a billion.",
            buttons=[],
            elem_id="calls",
        )
        self.scale_error = html_block(elem_id="scale-error")
        self.scale = gr.HTML(elem_id="scale", apply_default_css=False)
        self.overtaking = _plot("overtaking", "days", "cost", "spent on", OVERTAKING_COLOURS, "cost so far")
        self.own_training = gr.HTML(apply_default_css=False)
        gr.HTML(CAVEAT, apply_default_css=False)


def _heading(text: str) -> None:
    gr.HTML(f"<h3>{text}</h3>", apply_default_css=False, elem_classes="part-head")


def _examples(label: str, names: list[str]) -> gr.Dropdown:
    return gr.Dropdown([*names, OWN], value=names[0], label=label, elem_classes="which")


def _plot(name: str, x: str, y: str, series: str, colours: dict[str, str], y_title: str) -> gr.LinePlot:
    return gr.LinePlot(
        x=x,
        y=y,
        color=series,
        y_title=y_title,
        color_map=colours,
        colors_in_legend=[],  # ours stands above it: Gradio's is too small to read
        height=280,
        container=False,
        elem_id=name,
        elem_classes="plot",
    )
