"""Settings: a flag, its twin in the environment, a default; and one sentence for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.config import DEFAULT_MODEL, Settings, settings_from
from chat.errors import ConfigError

VALUES = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("8000", 8000),
    "model": ("owner/name", "owner/name"),
    "precision": ("bf16", "bf16"),
    "device": ("cuda:1", "cuda:1"),
    "data_dir": ("/data", Path("/data")),
    "database_url": ("postgresql+psycopg://ada@db/m", "postgresql+psycopg://ada@db/m"),
    "context_window": ("2048", 2048),
    "log_level": ("debug", "debug"),
}
WRONG = [
    ("host", ""),
    ("host", "  "),
    ("port", "-1"),
    ("port", "0"),
    ("port", "65536"),
    ("port", "eighty"),
    ("port", "80.5"),
    ("port", ""),
    ("model", " "),
    ("precision", "int3"),
    ("device", ""),
    ("database_url", ""),
    ("context_window", "255"),
    ("context_window", "many"),
    ("log_level", "loud"),
    ("log_level", "DEBUG"),
]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def twin(name: str) -> str:
    return "MARGINALIA_" + name.upper()


def test_the_table_of_values_has_every_setting() -> None:
    assert VALUES.keys() == Settings.model_fields.keys()


def test_with_nothing_given_the_app_listens_on_this_computer_alone() -> None:
    settings = settings_from({}, {})
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 7860, DEFAULT_MODEL)
    assert (settings.context_window, settings.database_url, settings.log_level) == (None, None, "info")


@pytest.mark.parametrize("name", VALUES)
def test_each_setting_has_a_flag_and_a_twin_in_the_environment(name: str) -> None:
    given, meant = VALUES[name]
    assert getattr(settings_from({name: given}, {}), name) == meant
    assert getattr(settings_from({name: None}, {twin(name): given}), name) == meant


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_wins_over_its_twin_even_where_the_twin_is_wrong(name: str) -> None:
    given, meant = VALUES[name]
    assert getattr(settings_from({name: given}, {twin(name): ""}), name) == meant


def test_other_variables_of_the_environment_are_left_alone() -> None:
    assert settings_from({}, {"PORT": "1", "MARGINALIA_TEST_DATA_DIR": "/x", "MARGINALIA_COLOUR": "red"}) == Settings()


@pytest.mark.parametrize(("name", "value"), WRONG)
@pytest.mark.parametrize("by_flag", [True, False], ids=["flag", "variable"])
def test_a_wrong_value_is_one_sentence_that_quotes_it_and_names_where_it_came_from(
    name: str, value: str, by_flag: bool
) -> None:
    flags, environment = ({name: value}, {}) if by_flag else ({}, {twin(name): value})
    with pytest.raises(ConfigError) as refusal:
        settings_from(flags, environment)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{flag(name) if by_flag else twin(name)} cannot be “{value}”: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "pydantic" not in sentence


def test_the_sentence_says_what_a_value_must_be() -> None:
    for name, value, reason in [
        ("port", "0", "greater than or equal to 1"),
        ("port", "65536", "less than or equal to 65535"),
        ("port", "eighty", "integer"),
        ("context_window", "255", "greater than or equal to 256"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("host", "", "must not be empty"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            settings_from({name: value}, {})


def test_the_database_is_a_file_in_the_data_folder_unless_another_is_named(tmp_path: Path) -> None:
    folder = {"data_dir": str(tmp_path)}
    assert settings_from(folder, {}).database == f"sqlite:///{tmp_path / 'marginalia.db'}"
    assert settings_from({"database_url": "sqlite://"}, {}).database == "sqlite://"


def test_the_path_of_the_database_does_not_depend_on_where_the_app_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_from({"data_dir": "here"}, {}).database == f"sqlite:///{tmp_path / 'here' / 'marginalia.db'}"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
