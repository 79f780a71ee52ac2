"""All pages in one Gradio app, each at its own address."""

from __future__ import annotations

from chat.precisions import PrecisionComparison
from chat.ui.api import Api
from chat.ui.compare.page import ComparePage
from chat.ui.conversation.page import ChatPage
from chat.ui.costs.page import CostsPage
from chat.ui.feedback.page import FeedbackPage
from chat.ui.frame import QUIETLY
from chat.ui.glass.page import GlassPage
from chat.ui.memory.page import MemoryPage
from chat.ui.model.page import ModelPage
from chat.ui.service import Service
from chat.ui.sparing_blocks import SparingBlocks
from chat.ui.tour.page import TourPage
from chat.weights.artifact import Artifact
from chat.weights.card import ModelCard


def build_pages(
    service: Service, card: ModelCard, tells_of: str, artifact: Artifact, precisions: PrecisionComparison
) -> SparingBlocks:
    """The pages, from “Chat” to “Model”, and the named endpoints.

    `card` is the model card that ships with the app, `tells_of` the id of the model that it tells of. `artifact` is
    what the model that runs is made of, `precisions` runs it in others.
    """
    pages = SparingBlocks(title="Marginalia", analytics_enabled=False)
    with pages:
        Api(service)  # first, as Gradio gives a name to whoever asks for it first, and the endpoints' are a contract
        chat = ChatPage(service)
        parts = chat.parts
        remembered = [parts.use_memory, parts.show_prompt]
        pages.load(None, None, remembered, js="() => marginalia.preferences()", **QUIETLY)
        pages.load(chat.opened, [parts.view], parts.outputs(), **QUIETLY)
        pages.begin_page("Compare", "compare")
        compare = ComparePage(service)
        pages.load(compare.opened, None, compare.restored, **QUIETLY)
        pages.begin_page("Under glass", "glass")
        glass = GlassPage(service)
        pages.load(glass.opened, [glass.prompt.view, glass.prompt.words], glass.outputs, **QUIETLY)
        pages.begin_page("Memory", "memory")
        memory = MemoryPage(service)
        pages.load(memory.opened, None, memory.outputs, **QUIETLY)
        pages.begin_page("Feedback", "feedback")
        feedback = FeedbackPage(service)
        pages.load(feedback.opened, None, feedback.outputs, **QUIETLY)
        pages.begin_page("Costs", "costs")
        costs = CostsPage(service, card.run)
        pages.load(costs.opened, costs.parts.asked, costs.parts.outputs, **QUIETLY)
        pages.begin_page("Model", "model")
        model = ModelPage(service, card, tells_of, artifact, precisions)
        pages.load(model.opened, None, model.outputs, **QUIETLY)
        pages.begin_page("Tour", "tour")
        tour = TourPage(service)
        pages.load(tour.opened, [tour.ids], tour.outputs, js="() => [marginalia.tour()]", **QUIETLY)
    pages.queue(default_concurrency_limit=None)
    return pages
