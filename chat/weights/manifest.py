"""The manifest of unpacked weights: what each file's size and SHA-256 were when it was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_NAME = "manifest.json"
# Raise it when unpacking changes: weights of an older layout are then unpacked anew.
_LAYOUT = 1


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_manifest(folder: Path, adapter: str | None) -> None:
    """Record every file of a folder that was just written, and the SHA-256 of the adapter that is merged into it.

    It comes last: a folder without it is not whole.
    """
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(folder.iterdir())}
    (folder / _NAME).write_text(
        json.dumps({"layout": _LAYOUT, "adapter": adapter, "files": files}, indent=2) + "\n", "utf-8"
    )


def fault_in(folder: Path, adapter: str | None, whole: bool = True) -> str | None:
    """Say in a few words how the folder differs from its manifest; None when every byte is as it was written.

    Weights that another adapter than this one was merged into are at fault too. Without `whole`, only the sizes of the
    weights' files are looked at, and all of every other.
    """
    try:
        manifest = json.loads((folder / _NAME).read_text("utf-8"))
        if manifest["layout"] != _LAYOUT:
            return "they were unpacked by another version"
        if manifest.get("adapter") != adapter:
            return "they were made with another adapter"
        files = manifest["files"]
        # Sizes first, as a file that was cut short shows at once.
        for name, expected in files.items():
            if (folder / name).stat().st_size != expected["bytes"]:
                return f"{name} is {(folder / name).stat().st_size:,} bytes long, not {expected['bytes']:,}"
        for name, expected in files.items():
            read = whole or not name.endswith(".safetensors")
            if read and sha256_of(folder / name) != expected["sha256"]:
                return f"{name} was altered"
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{_NAME} cannot be read"
    return None
