"""The page's one visual language, told to Gradio: its colours are the variables of static/app.css, light and dark."""

from __future__ import annotations

import gradio as gr

OWN_FILES = "/marginalia"
SHARED_PAGES = "/shared"
"""Where shared pages lie, each under its token."""
"""Where static/ is served. Not /static: Gradio serves its own files there."""

PAGE_HEAD = f"""
<link rel="icon" type="image/svg+xml" href="{OWN_FILES}/icon.svg">
<link rel="stylesheet" href="{OWN_FILES}/app.css">
<script src="{OWN_FILES}/app.js" defer></script>
"""

_SANS = ["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
_MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]


def _both(**values: str) -> dict[str, str]:
    """The same value for light and dark: the variable behind it is what differs."""
    return values | {f"{name}_dark": value for name, value in values.items()}


THEME = gr.themes.Base(font=_SANS, font_mono=_MONO, radius_size=gr.themes.sizes.radius_lg).set(
    **_both(
        body_background_fill="var(--paper)",
        body_text_color="var(--ink)",
        body_text_color_subdued="var(--quiet)",
        background_fill_primary="var(--raised)",
        background_fill_secondary="var(--paper)",
        border_color_primary="var(--line)",
        border_color_accent="var(--accent)",
        color_accent_soft="var(--template-b)",
        block_background_fill="transparent",
        block_border_width="0px",
        block_label_background_fill="transparent",
        block_label_border_width="0px",
        block_label_text_color="var(--quiet)",
        block_title_text_color="var(--quiet)",
        block_info_text_color="var(--quiet)",
        block_shadow="none",
        input_background_fill="var(--raised)",
        input_background_fill_focus="var(--raised)",
        input_border_color="var(--edge)",
        input_border_color_focus="var(--ink)",
        input_placeholder_color="var(--quiet)",
        input_shadow="none",
        input_shadow_focus="0 0 0 2px var(--focus)",
        button_primary_background_fill="var(--ink)",
        button_primary_background_fill_hover="var(--ink)",
        button_primary_text_color="var(--paper)",
        button_primary_text_color_hover="var(--paper)",
        button_primary_border_color="var(--ink)",
        button_primary_shadow="none",
        button_secondary_background_fill="var(--raised)",
        button_secondary_background_fill_hover="var(--template-b)",
        button_secondary_text_color="var(--ink)",
        button_secondary_text_color_hover="var(--ink)",
        button_secondary_border_color="var(--edge)",
        button_secondary_shadow="none",
        button_cancel_background_fill="var(--raised)",
        button_cancel_background_fill_hover="var(--alarm-b)",
        button_cancel_text_color="var(--alarm-t)",
        button_cancel_text_color_hover="var(--alarm-t)",
        button_cancel_border_color="var(--alarm-t)",
        button_cancel_border_color_hover="var(--alarm-t)",
        checkbox_background_color="var(--raised)",
        checkbox_background_color_selected="var(--accent-fill)",
        checkbox_border_color="var(--edge)",
        checkbox_border_color_selected="var(--accent-fill)",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_hover="transparent",
        checkbox_label_background_fill_selected="transparent",
        checkbox_label_border_width="0px",
        checkbox_label_text_color="var(--ink)",
        checkbox_label_text_color_selected="var(--ink)",
        error_background_fill="var(--alarm-b)",
        error_text_color="var(--alarm-t)",
        error_border_color="var(--alarm-t)",
        error_icon_color="var(--alarm-t)",
        link_text_color="var(--accent)",
        link_text_color_hover="var(--accent)",
        link_text_color_visited="var(--accent)",
        panel_background_fill="transparent",
    ),
    button_border_width="1px",
    button_border_width_dark="1px",
    input_border_width="1px",
    input_border_width_dark="1px",
    checkbox_label_shadow="none",
    checkbox_label_padding="0",
    color_accent="var(--accent)",
    loader_color="var(--accent)",
    slider_color="var(--accent)",
    block_padding="0",
    layout_gap="12px",
)
