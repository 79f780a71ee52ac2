"""What can be set from outside, validated once. Each value has a flag and a `MARGINALIA_…` environment twin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from chat.errors import ConfigError

DEFAULT_MODEL = "smollm2"
BASE_MODEL = "smollm2-base"
CPU = "cpu"
Precision = Literal["auto", "fp32", "bf16", "int8", "int4"]
LEAST_CONTEXT_WINDOW = 256


def _not_blank(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be empty")
    return value


Text = Annotated[str, BeforeValidator(_not_blank)]


class Settings(BaseModel):
    """The app's settings. Build them with `settings_from`, which turns a wrong value into one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Text = "127.0.0.1"
    port: int = Field(default=7860, ge=1, le=65535)
    model: Text = DEFAULT_MODEL
    precision: Precision = "auto"
    device: Text = CPU
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("marginalia", appauthor=False)))
    database_url: Text | None = None
    context_window: int | None = Field(default=None, ge=LEAST_CONTEXT_WINDOW)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def database(self) -> str:
        """The database's URL: the one that was given, or an SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'marginalia.db').absolute()}"


def settings_from(flags: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    """Join flags (those that are not None) over `MARGINALIA_…` variables over defaults.

    Raises ConfigError with one sentence that names the flag or variable and quotes its value.
    """
    named = {name: f"MARGINALIA_{name.upper()}" for name in Settings.model_fields}
    given = {name: environment[variable] for name, variable in named.items() if variable in environment}
    sources = {name: named[name] for name in given}
    for name, value in flags.items():
        if value is not None:
            given[name] = str(value)
            sources[name] = "--" + name.replace("_", "-")
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
        raise ConfigError(f"{sources[name]} cannot be “{given[name]}”: {reason}.") from None
