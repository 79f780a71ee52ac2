"""All pages in one Gradio app, each at its own address."""

from __future__ import annotations

import gradio as gr

from chat.ui.api import Api
from chat.ui.chat_page import ChatPage
from chat.ui.compare_page import ComparePage
from chat.ui.memory_page import MemoryPage
from chat.ui.service import Service


def build_pages(service: Service) -> gr.Blocks:
    """The pages “Chat”, “Compare” and “Memory”, and the named endpoints."""
    pages: gr.Blocks
    with gr.Blocks(title="Marginalia", analytics_enabled=False) as pages:
        Api(service)  # first, as Gradio gives a name to whoever asks for it first, and the endpoints' are a contract
        chat = ChatPage(service)
        parts = chat.parts
        pages.load(
            None,
            None,
            [parts.use_memory, parts.show_prompt],
            js="() => marginalia.preferences()",
            api_visibility="private",
        )
        pages.load(chat.opened, [parts.view], parts.outputs(), api_visibility="private", show_progress="hidden")
    with pages.route("Compare", "/compare"):
        compare = ComparePage(service)
        pages.load(compare.opened, None, [compare.conversation], api_visibility="private", show_progress="hidden")
    with pages.route("Memory", "/memory"):
        memory = MemoryPage(service)
        pages.load(memory.opened, None, memory.outputs, api_visibility="private", show_progress="hidden")
    pages.queue(default_concurrency_limit=None)
    return pages
