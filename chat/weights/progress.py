"""What the terminal shows while weights are fetched, unpacked and read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from transformers.utils import logging as transformers_logging

Report = Callable[[str], None]
"""Receives one line at a time for the person who waits."""


@contextmanager
def download_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar over `total` bytes; call what it yields with the bytes that are there so far."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bars(*columns) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=min(done, total))


@contextmanager
def busy_bar(label: str) -> Iterator[None]:
    """Show that something of unknown length goes on, and for how long already."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with _bars(*columns) as progress:
        progress.add_task(label, total=None)
        yield


def _bars(*columns: ProgressColumn) -> Progress:
    # The file is named, not looked up at each drawing, so that the bar stays while stderr is sent elsewhere.
    console = Console(file=sys.stderr)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own bars and hints off the terminal, and put everything back as it was."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if hub_bars:
            enable_progress_bars()
