"""Settings come from the environment, are checked at once, and show no secret."""

import os
import re
from pathlib import Path

import pytest

from bursar.settings import (
    Settings,
    SettingsInvalid,
    api_problems,
    database_problems,
    known_variables,
    load_settings,
    reachable,
    worker_problems,
)

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


@pytest.mark.parametrize(
    ("host", "reached", "url"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:8026"),
        ("0.0.0.0", "127.0.0.1", "http://127.0.0.1:8026"),
        ("::", "::1", "http://[::1]:8026"),
        ("::1", "::1", "http://[::1]:8026"),
        ("api.example", "api.example", "http://api.example:8026"),
    ],
)
def test_a_server_is_reached_where_it_listens(host: str, reached: str, url: str) -> None:
    """One that listens everywhere, on loopback; an address of IPv6 has brackets in a URL alone."""
    assert reachable(host) == reached
    assert load_settings(api_host=host).api_url == url
    bank = load_settings(sim_host=host, sim_port=8026)
    assert bank.provider_url == bank.offramp_provider_url == url


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
    ("change", "needed_by"),
    [
        ({}, {}),
        ({"BURSAR_BANK_API_KEY": None}, {"worker"}),
        ({"BURSAR_BANK_API_KEY": " "}, {"worker"}),
        ({"BURSAR_BANK_API_KEY": "sandbox-bank-webhook-secret"}, {"worker"}),
        ({"BURSAR_BANK_URL": None}, {"worker"}),
        ({"BURSAR_OFFRAMP_API_KEY": None}, {"worker"}),
        ({"BURSAR_OFFRAMP_URL": None}, {"worker"}),
        ({"BURSAR_BANK_WEBHOOK_SECRET": "sandbox-bank-webhook-secret"}, {"api"}),
        ({"BURSAR_BANK_WEBHOOK_SECRET": "sandbox-bank-key"}, {"api"}),
        ({"BURSAR_OFFRAMP_WEBHOOK_SECRET": None}, {"api"}),
        ({"DATABASE_URL": None}, {"api", "worker", "others"}),
    ],
)
def test_production_refuses_what_is_public_where_it_is_used(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], needed_by: set[str]
) -> None:
    """Everybody knows the sandbox's secrets; and no process must have those of another."""
    environment = {name: value for name, value in (PRODUCTION | change).items() if value}
    settings = load(monkeypatch, environment)
    found = {
        "api": api_problems(settings),
        "worker": worker_problems(settings),
        "others": database_problems(settings),
    }
    lines = [f"{name} must be set in production mode" for name in change]
    assert found == {who: lines if who in needed_by else [] for who in found}


def test_the_sandbox_needs_no_secret() -> None:
    """A newcomer sets nothing."""
    settings = load_settings()
    assert api_problems(settings) == worker_problems(settings) == database_problems(settings) == []


def test_a_process_with_its_own_address_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin's address stays with the admin."""
    given = {**PRODUCTION, "BURSAR_PROCESS_DSN": PRODUCTION["DATABASE_URL"]}
    del given["DATABASE_URL"]
    settings = load(monkeypatch, given)
    assert api_problems(settings) == worker_problems(settings) == []


@pytest.mark.parametrize("name", ["DATABASE_URL", "BURSAR_DATABASE_URL", "BURSAR_PROCESS_DSN"])
@pytest.mark.parametrize(
    "address",
    [
        "postgresql://admin:pa/ss@h/db",
        "postgresql://admin:12/ss@h/db",
        "postgresql://admin:12?ss@h/db",
        "postgresql://admin:12#ss@h/db",
        "postgresql://admin:pass@h:99999/db",
        "postgresql://admin:pass@h:0/db",
        "postgresql://admin:pass@h:5432x/db",
        "postgresql://admin:pass@[::1",
        "postgresql://admin:pass@::1/db",
        "postgresql://admin:pass@h/db?sslmode",
        "mysql://admin:pass@h/db",
        "admin:pass@h/db",
        "",
    ],
)
def test_a_malformed_database_address_is_refused_without_its_text(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str
) -> None:
    """F65: a slash in a password would have the rest of it quoted as a port, in a traceback."""
    with pytest.raises(SettingsInvalid) as invalid:
        load(monkeypatch, {name: address})
    (line,) = invalid.value.problems
    assert line.startswith(f"{name}: is no address of a Postgres: ")
    assert "ss@" not in line
    assert "pass" not in line.replace("password", "")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://admin:p%2Fa%40ss@db.example:5432/bursar?sslmode=require",
        "postgres://db.example/bursar",
        "postgresql://u:p@[::1]:5432/d",
        "postgresql://u:p@one:5432,two:5433/d",
        "postgresql:///d?host=/run/postgresql&port=5432",
        "postgresql://u@h",
    ],
)
def test_an_address_that_the_driver_takes_is_taken(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Several hosts, a socket's directory, an escaped password."""
    settings = load(monkeypatch, {"DATABASE_URL": address})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == address


def test_checkpoints_go_where_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """I14: elsewhere than what they guard, if somebody says where."""
    assert load_settings().anchor_file == Path("data/checkpoints.jsonl")
    assert load(monkeypatch, {"BURSAR_ANCHOR": "/mnt/w/c"}).anchor_file == Path("/mnt/w/c")


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


def test_a_service_with_the_name_of_a_setting_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`bursar-api` and `bursar-sim`; a port that somebody really gave is still read."""
    links = {
        "BURSAR_API_SERVICE_HOST": "10.0.0.1",
        "BURSAR_API_PORT": "tcp://10.0.0.1:8026",
        "BURSAR_API_PORT_8026_TCP": "tcp://10.0.0.1:8026",
        "BURSAR_SIM_PORT": "udp://10.0.0.1:9999",
    }
    settings = load(monkeypatch, links)
    assert (settings.api_port, settings.sim_port) == (8026, 8028)
    assert load_settings(api_port=9000).api_port == 9000


@pytest.mark.parametrize("name", ["BURSAR_BANK_URL", "BURSAR_OFFRAMP_URL"])
@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("notaurl", "does not begin with http:// or https://"),
        ("", "does not begin with http:// or https://"),
        ("bank.example:443", "does not begin with http:// or https://"),
        ("ftp://x", "does not begin with http:// or https://"),
        ("http://", "names no host or port"),
        ("https:///v1", "names no host or port"),
        ("http://:80", "names no host or port"),
        ("http://bank.example:0", "names no host or port"),
        ("http://bank example", "names no host or port"),
        ("http://bank.example:99999", "its host or port cannot be read"),
        ("http://[::1", "its host or port cannot be read"),
        ("https://bank.example/?a=1", "has a name, a query or a fragment"),
        ("https://us:hunter2@bank.example", "has a name, a query or a fragment"),
    ],
)
def test_an_address_of_a_provider_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, fault: str
) -> None:
    """At the start, by name: else every payout would wait for a server that cannot be."""
    with pytest.raises(SettingsInvalid) as caught:
        load(monkeypatch, {name: url})
    (line,) = caught.value.problems
    assert line.startswith(f"{name}: is no address of a provider: it")
    assert fault in line
    assert "hunter2" not in line


@pytest.mark.parametrize("url", ["http://[::1]:8028", "https://bank.example/v1/", "HTTP://b:1"])
def test_an_address_of_a_provider_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """With or without a port, a path, or capitals in its scheme."""
    assert load(monkeypatch, {"BURSAR_BANK_URL": url}).provider_url == url.rstrip("/")
