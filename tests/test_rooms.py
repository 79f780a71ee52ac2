"""Each room imports only what it may, so that data keeps flowing one way and each part can be read alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat.config import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "gradio"}


def sources(*rooms: str) -> list[Path]:
    found = [path for room in rooms for path in ((ROOT / room).rglob("*.py") if (ROOT / room).is_dir() else [])]
    files = [ROOT / room for room in rooms if (ROOT / room).is_file()]
    return sorted([*found, *files])


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, by its full name."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def offences(files: list[Path], forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if any(name == each or name.startswith(each + ".") for each in forbidden)
    ]


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        (("chat",), {"memory", "app"}),
        (("memory",), HEAVY | {"app"}),
        (("chat/types.py", "chat/note_writing.py", "chat/errors.py", "chat/config.py"), HEAVY | {"sqlalchemy"}),
        (("chat/prompt.py",), HEAVY | {"sqlalchemy", "tokenizers"}),
        (("chat/encoding.py",), {"torch", "gradio", "sqlalchemy"}),
        (("chat/turn.py", "chat/compare.py"), HEAVY | {"sqlalchemy"}),
        (("chat/weights", "chat/engine"), {"gradio", "sqlalchemy", "chat.ui"}),
        (("chat/ui",), {"torch", "transformers", "sqlalchemy"}),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, tuple) else "",
)
def test_a_room_does_not_import_what_belongs_to_another(room: tuple[str, ...], forbidden: set[str]) -> None:
    assert not offences(sources(*room), forbidden)


def test_only_the_pages_and_the_entry_point_import_gradio() -> None:
    pages = set(sources("chat/ui"))
    assert not offences([path for path in sources("chat", "memory") if path not in pages], {"gradio"})


def test_the_memory_room_knows_of_the_chat_only_its_values_and_errors() -> None:
    values = ("chat.types", "chat.note_writing", "chat.errors")
    known = {name for path in sources("memory") for name in imports(path) if name.split(".")[0] == "chat"}
    assert not [name for name in known if not name.startswith(values)]


def test_the_walk_sees_imports_that_are_relative_late_or_only_for_types(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text("def f():\n    import torch.nn\nif TYPE_CHECKING:\n    from gradio import Blocks\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "ROOT", tmp_path)
        assert len(offences([sample], HEAVY)) == 2


def test_importing_the_values_loads_no_torch_and_no_page() -> None:
    code = "import sys, chat.types, chat.errors, chat.config; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not (HEAVY | {"sqlalchemy"}) & set(loaded.stdout.split())


def test_a_model_that_is_kept_packed_loads_without_what_chooses_among_transformers_models(
    weights_data_dir: Path,
) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        "from chat.weights import load_model",
        "load_model(sys.argv[1], Path(sys.argv[2]), None, print, 'auto')",
        "print(*sys.modules)",
    )
    command = [sys.executable, "-c", "\n".join(lines), DEFAULT_MODEL, str(weights_data_dir)]
    loaded = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert {"chat.packed_model", "transformers"} < loaded
    assert "transformers.models" not in loaded


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    names = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert not [str(path) for path in sources("chat", "memory", "tests") if path.name in names]


def test_no_error_is_swallowed_whole() -> None:
    swallowed = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("app.py", "chat", "memory", "tests")
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path)))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node) and does_nothing(node)
    ]
    assert not swallowed


def catches_everything(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id.endswith("Exception"))


def does_nothing(handler: ast.ExceptHandler) -> bool:
    return all(isinstance(line, ast.Pass | ast.Continue | ast.Expr) for line in handler.body) and not any(
        isinstance(node, ast.Call | ast.Raise | ast.Yield) for node in ast.walk(handler)
    )
