"""Settings come from the environment, are checked at once, and show no secret."""

import os
import re
from pathlib import Path

import pytest

from bursar.settings import Settings, SettingsInvalid, known_variables, load_settings

ROOT = Path(__file__).parents[2]

PRODUCTION = {
    "BURSAR_MODE": "production",
    "BURSAR_BANK_URL": "https://bank.example/",
    "BURSAR_BANK_API_KEY": "k-6f1d",
    "BURSAR_BANK_WEBHOOK_SECRET": "w-93aa",
    "BURSAR_OFFRAMP_URL": "https://offramp.example/",
    "BURSAR_OFFRAMP_API_KEY": "k-02be",
    "BURSAR_OFFRAMP_WEBHOOK_SECRET": "w-71cd",
    "DATABASE_URL": "postgresql://db.example/bursar",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("BURSAR_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Settings:
    """Settings from exactly this environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_defaults_are_a_sandbox_on_loopback() -> None:
    """A newcomer sets nothing."""
    settings = load_settings()
    assert settings.mode == "sandbox"
    assert settings.api_url == "http://127.0.0.1:8026"
    assert settings.provider_url == "http://127.0.0.1:8028"
    assert settings.offramp_provider_url == "http://127.0.0.1:8028"
    assert settings.simulates


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an option that was not given wins over nothing."""
    monkeypatch.setenv("BURSAR_API_PORT", "9000")
    monkeypatch.setenv("BURSAR_SIM_PORT", "9001")
    settings = load_settings(api_port=9100, sim_port=None)
    assert (settings.api_port, settings.sim_port) == (9100, 9001)


def test_production_with_its_own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base URL has no slash at its end, whatever was given."""
    settings = load(monkeypatch, PRODUCTION)
    assert settings.provider_url == "https://bank.example"
    assert settings.offramp_provider_url == "https://offramp.example"
    assert not settings.simulates


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"BURSAR_BANK_API_KEY": None}, "BURSAR_BANK_API_KEY must be set in production mode"),
        (
            {"BURSAR_BANK_WEBHOOK_SECRET": "sandbox-bank-webhook-secret"},
            "BURSAR_BANK_WEBHOOK_SECRET must be set in production mode",
        ),
        (
            {"BURSAR_BANK_WEBHOOK_SECRET": "sandbox-bank-key"},
            "BURSAR_BANK_WEBHOOK_SECRET must be set in production mode",
        ),
        (
            {"BURSAR_BANK_API_KEY": " "},
            "BURSAR_BANK_API_KEY must be set in production mode",
        ),
        ({"BURSAR_BANK_URL": None}, "BURSAR_BANK_URL must be set in production mode"),
        (
            {"BURSAR_OFFRAMP_API_KEY": None},
            "BURSAR_OFFRAMP_API_KEY must be set in production mode",
        ),
        (
            {"BURSAR_OFFRAMP_WEBHOOK_SECRET": "sandbox-offramp-webhook-secret"},
            "BURSAR_OFFRAMP_WEBHOOK_SECRET must be set in production mode",
        ),
        ({"BURSAR_OFFRAMP_URL": None}, "BURSAR_OFFRAMP_URL must be set in production mode"),
        ({"DATABASE_URL": None}, "DATABASE_URL must be set in production mode"),
    ],
)
def test_production_refuses_what_is_public(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], line: str
) -> None:
    """Everybody knows the sandbox's secrets."""
    environment = {name: value for name, value in (PRODUCTION | change).items() if value}
    with pytest.raises(SettingsInvalid) as invalid:
        load(monkeypatch, environment)
    assert invalid.value.problems == [line]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BURSAR_API_PORT", "0"),
        ("BURSAR_API_PORT", "65536"),
        ("BURSAR_API_PORT", "x"),
        ("BURSAR_MODE", "staging"),
        ("BURSAR_ENGINE_QUEUE_MAX", "-1"),
        ("BURSAR_WORKER_POLL_S", "nan"),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """One line for each."""
    with pytest.raises(SettingsInvalid) as invalid:
        load(monkeypatch, {name: value})
    (line,) = invalid.value.problems
    assert line.startswith(f"{name}: ")


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """F65: not by str, repr, a dump, or the error about another variable."""
    settings = load(monkeypatch, PRODUCTION | {"DATABASE_URL": "postgresql://u:hunter2@h/d"})
    monkeypatch.setenv("BURSAR_MODE", "other")
    with pytest.raises(SettingsInvalid) as invalid:
        load_settings()
    text = f"{settings} {settings!r} {settings.model_dump()} {invalid.value} {invalid.value!r}"
    for secret in ("hunter2", "k-6f1d", "w-93aa", "k-02be", "w-71cd"):
        assert secret not in text


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("BURSAR_WORKER_CONCURENCY", "BURSAR_WORKER_CONCURRENCY"),
        ("BURSAR_BANK_APIKEY", "BURSAR_BANK_API_KEY"),
        ("BURSAR_DATADIR", "BURSAR_DATA_DIR"),
        ("BURSAR_APIPORT", "BURSAR_API_PORT"),
        ("bursar_mod", "BURSAR_MODE"),
    ],
)
def test_a_misspelt_variable_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    """Else its default is in force and nobody hears of it. Its value is not shown (F65)."""
    with pytest.raises(SettingsInvalid) as invalid:
        load(monkeypatch, {name: "hunter2"})
    assert invalid.value.problems == [f"{name}: there is no such setting; the nearest is {nearest}"]


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names and bad values together."""
    with pytest.raises(SettingsInvalid) as invalid:
        load(monkeypatch, {"BURSAR_MDOE": "production", "BURSAR_API_PORT": "x", "BURSAR_Q": ""})
    names = [line.partition(":")[0] for line in invalid.value.problems]
    assert names == ["BURSAR_MDOE", "BURSAR_Q", "BURSAR_API_PORT"]


def test_every_name_that_is_written_down_is_known() -> None:
    """What the supervisor, the simulator, the benchmarks, the tests and the documents use."""
    name = re.compile(r"\bBURSAR_[A-Z][A-Z0-9_]*[A-Z0-9]\b")
    places = [ROOT / "README.md", ROOT / "dev"]
    for folder in ("src", "tests", "bench", "docs"):
        places += [p for p in (ROOT / folder).rglob("*") if p.suffix in {".py", ".md", ".sh"}]
    # These two misspell on purpose.
    misspelling = {Path(__file__), Path(__file__).with_name("test_main.py")}
    used = {
        found
        for place in places
        if place not in misspelling
        for found in name.findall(place.read_text(encoding="utf-8"))
    }
    assert len(used) > 20
    assert used - known_variables() == set()


def test_what_kubernetes_tells_a_pod_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service called `bursar` must not keep its own pods from starting."""
    links = {
        "BURSAR_SERVICE_HOST": "10.0.0.1",
        "BURSAR_SERVICE_PORT": "8026",
        "BURSAR_SERVICE_PORT_HTTP": "8026",
        "BURSAR_PORT": "tcp://10.0.0.1:8026",
        "BURSAR_PORT_8026_TCP": "tcp://10.0.0.1:8026",
        "BURSAR_PORT_8026_TCP_PROTO": "tcp",
        "BURSAR_PORT_8026_TCP_PORT": "8026",
        "BURSAR_PORT_8026_TCP_ADDR": "10.0.0.1",
        "BURSAR_CONSOLE_SERVICE_HOST": "10.0.0.2",
    }
    assert load(monkeypatch, links).api_port == 8026
