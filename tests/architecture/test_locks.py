"""The lock files say what is installed, whole, and name no host to get it from."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)


def _read(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


def _wanted(name: str) -> list[str]:
    lines = _read(name).splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


@pytest.mark.parametrize("name", ["tools", "run", "dev"])
def test_a_lock_names_no_host(name: str) -> None:
    """Where packages come from is the installer's business, not the project's."""
    text = _read(f"{name}.txt")

    assert re.findall(r"://|--(?:extra-)?index-url|--find-links|--trusted-host| @ ", text) == []


@pytest.mark.parametrize("name", ["tools", "run", "dev"])
def test_every_pin_has_hashes(name: str) -> None:
    """An installer that checks hashes refuses a list with a gap."""
    text = _read(f"{name}.txt")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_locks_hold_what_is_asked_for() -> None:
    """Every name of an `.in` file is pinned."""
    for name in ("tools", "run", "dev"):
        pinned = {match[0] for match in _PIN.findall(_read(f"{name}.txt"))}
        asked = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in _wanted(f"{name}.in")}
        assert asked <= pinned


def test_development_has_the_same_versions_as_production() -> None:
    """What is tested is what runs."""
    run, dev = dict(_PIN.findall(_read("run.txt"))), dict(_PIN.findall(_read("dev.txt")))

    assert {name: dev.get(name) for name in run} == run


def test_the_project_declares_what_the_lock_is_made_from() -> None:
    """`pip install bursar` and `./dev` want the same packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["dependencies"] == _wanted("run.in")
