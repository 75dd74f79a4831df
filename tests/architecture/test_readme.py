"""The README names every setting and command, and none that is not there."""

import re
from pathlib import Path

import typer.main

from bursar.cli.main import app
from bursar.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"`((?:BURSAR_[A-Z_]+)|DATABASE_URL)`")


def _section(title: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_readme_has_every_setting() -> None:
    """A setting that nobody can find out about is of no use."""
    variables = {f"BURSAR_{name.upper()}" for name in Settings.model_fields}

    assert variables | {"DATABASE_URL"} == set(_VARIABLE.findall(_section("Settings")))


def test_the_readme_has_the_default_of_every_setting() -> None:
    """The table is read instead of the code."""
    table = _section("Settings")
    secrets = {
        *("bank_api_key", "bank_webhook_secret"),
        *("offramp_api_key", "offramp_webhook_secret"),
    }

    missing = {
        name: field.default
        for name, field in Settings.model_fields.items()
        if field.default is not None
        and name not in secrets
        and f"`{_text(field.default)}`" not in table
    }

    assert missing == {}


def test_the_readme_has_every_command() -> None:
    """What `bursar --help` lists is described."""
    table = _section("Commands")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]

    assert [name for name in commands if not re.search(rf"[` ]{name}[` ]", table)] == []


def _text(default: object) -> str:
    whole = isinstance(default, float) and default.is_integer()
    return str(int(default)) if whole else str(default)  # type: ignore[call-overload]
