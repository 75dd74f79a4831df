"""The parts of `bursar up` that need no database."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bursar.cli.data_dir import DataDirLock, log_tail, prepare_log, write_demo_file
from bursar.cli.doctor import examine
from bursar.cli.errors import CommandRefused
from bursar.cli.ports import answers_healthy, bursar_on, port_fault
from bursar.cli.up import (
    SimOptions,
    banner,
    child_specs,
    program,
    sim_arguments,
    up,
)
from bursar.db.roles import API, WORKER, load_or_make_passwords
from bursar.settings import load_settings


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    """The second is told who the first is; when that is gone, however, the next may start."""
    data = tmp_path / "data"
    refusal = pytest.raises(CommandRefused, match=f"process {os.getpid()}")
    with DataDirLock(data), refusal, DataDirLock(data):
        pass
    with DataDirLock(data):
        pass


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """F92: after a SIGKILL nothing has to be cleaned up by hand."""
    code = (
        "import sys, pathlib; from bursar.cli.data_dir import DataDirLock\n"
        "with DataDirLock(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"in\n"
        with pytest.raises(CommandRefused, match=f"process {owner.pid}"), DataDirLock(tmp_path):
            pass
        owner.kill()
    with DataDirLock(tmp_path):
        pass


def test_a_data_directory_that_is_none(tmp_path: Path) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "data").touch()
    with pytest.raises(CommandRefused, match="cannot be used"), DataDirLock(tmp_path / "data"):
        pass


def test_a_taken_port_is_named_with_the_option_to_change_it(tmp_path: Path) -> None:
    """Before anything is started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = load_settings(data_dir=tmp_path, api_port=port)
        with pytest.raises(CommandRefused) as refused:
            up(settings, SimOptions())
    assert str(refused.value) == (
        f"API: port {port} on 127.0.0.1 is taken by another program; choose another with --api-port"
    )
    assert not (tmp_path / "passwords.json").exists()


def test_a_port_is_free_again_after_the_look() -> None:
    """Looking takes nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert port_fault("127.0.0.1", port) is None
    assert port_fault("127.0.0.1", port) is None
    assert port_fault("192.0.2.1", port) is not None


def test_up_is_for_the_sandbox(tmp_path: Path) -> None:
    """It makes money out of nothing."""
    settings = load_settings(
        mode="production",
        data_dir=tmp_path,
        bank_url="https://bank.example",
        bank_api_key="k",
        bank_webhook_secret="w",
        offramp_url="https://offramp.example",
        offramp_api_key="k",
        offramp_webhook_secret="w",
        database_url="postgresql://db/x",
    )
    with pytest.raises(CommandRefused, match="for the sandbox"):
        up(settings, SimOptions())


def test_one_port_for_two_is_refused(tmp_path: Path) -> None:
    """Usage, so code 2."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(CommandRefused) as refused:
        up(load_settings(data_dir=tmp_path, api_port=port, sim_port=port), SimOptions())
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("body", "who"),
    [
        (b'{"status": "ok", "database": "ok"}', "an API of Bursar"),
        (b'{"type": "urn:bursar:error:unavailable", "status": 503}', "an API of Bursar"),
        (b'{"status": "ok"}', "a simulated bank"),
        (b'{"status": "up"}', None),
        (b"[]", None),
        (b"\xff", None),
    ],
)
async def test_who_uses_a_port_is_told(body: bytes, who: str | None, unused_tcp_port: int) -> None:
    """By what it says of its health; another program is no `bursar up`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", unused_tcp_port)
    settings = load_settings(api_port=unused_tcp_port)
    async with server:
        assert await asyncio.to_thread(bursar_on, "127.0.0.1", unused_tcp_port) == who
        findings = await asyncio.to_thread(examine, settings)
    (found,) = [finding for finding in findings if finding.subject == "api"]
    assert (found.verdict, found.detail) == (
        ("note", f"port {unused_tcp_port} on 127.0.0.1 is taken by another program")
        if who is None
        else ("ok", f"{who} runs on port {unused_tcp_port} of 127.0.0.1")
    )
    assert await asyncio.to_thread(bursar_on, "127.0.0.1", unused_tcp_port) is None


async def test_health_is_asked_and_never_raises(unused_tcp_port: int) -> None:
    """Nobody listens; somebody else listens; a healthy one."""
    assert not await answers_healthy("127.0.0.1", unused_tcp_port)
    for reply, healthy in (
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 No\r\n\r\n", False),
        (b"", False),
        (b"\xff\x00", False),
    ):

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: bytes = reply
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", unused_tcp_port)
        async with server:
            assert await answers_healthy("127.0.0.1", unused_tcp_port) is healthy


def test_the_demo_file_is_its_owners(tmp_path: Path) -> None:
    """It holds a key: mode 0600 from its first byte, replaced whole."""
    path = tmp_path / "demo.json"
    for key in ("sk_1", "sk_2"):
        write_demo_file(path, api_url="http://x", api_key=key, merchant_id="mer_1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes()) == {
        "api_url": "http://x",
        "api_key": "sk_2",
        "merchant_id": "mer_1",
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo.json"]


def test_logs_are_set_aside_when_large(tmp_path: Path) -> None:
    """At a start; the tail of a log that is not there is empty."""
    log = tmp_path / "logs" / "api.log"
    prepare_log(log)
    assert log_tail(log) == ""
    with log.open("wb") as stream:
        stream.truncate(10_000_001)
    prepare_log(log)
    assert [entry.name for entry in log.parent.iterdir()] == ["api.log.old"]


def test_what_is_started(tmp_path: Path) -> None:
    """Simulator, API, worker; no simulator where all providers are named; children are told."""
    settings = load_settings(data_dir=tmp_path, api_port=9001, sim_port=9002)
    sim = SimOptions(seed=7, knobs=("timeout=0.05",))
    assert [spec.name for spec in child_specs(settings, sim)] == ["sim", "api", "worker"]
    assert sim_arguments(settings, sim) == [
        *("--host", "127.0.0.1", "--port", "9002", "--data", str(tmp_path / "sim")),
        *("--seed", "7", "--callback", "http://127.0.0.1:9001/webhooks/provider"),
        *("--knob", "timeout=0.05"),
    ]
    bank, offramp = "http://bank.example", "http://offramp.example"
    named = load_settings(data_dir=tmp_path, bank_url=bank, offramp_url=offramp)
    assert [spec.name for spec in child_specs(named, sim)] == ["api", "worker"]
    half = load_settings(data_dir=tmp_path, bank_url=bank)
    assert [spec.name for spec in child_specs(half, sim)] == ["sim", "api", "worker"]


async def test_a_child_that_listens_everywhere_is_asked_on_loopback(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    """Of IPv6 too: it may listen there alone."""
    settings = load_settings(data_dir=tmp_path, api_host="::", api_port=unused_tcp_port)
    (api,) = (spec for spec in child_specs(settings, SimOptions()) if spec.name == "api")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    try:
        server = await asyncio.start_server(serve, "::1", unused_tcp_port)
    except OSError:
        pytest.skip("no IPv6 here")
    async with server:
        assert await api.healthy()


def test_each_child_gets_its_own_secrets_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F91: a server process that is taken over holds one role's password, not the admin's."""
    given = {
        "DATABASE_URL": "postgresql://admin:admin-secret@db.example/postgres",
        "BURSAR_DATABASE_URL": "postgresql://admin:admin-secret@db.example/postgres",
        "PGPASSWORD": "pg-secret",
        "BURSAR_API_KEY": "key-secret",
        "BURSAR_BANK_API_KEY": "bank-secret",
        "BURSAR_BANK_WEBHOOK_SECRET": "hook-secret",
        "BURSAR_OFFRAMP_API_KEY": "ramp-secret",
        "BURSAR_OFFRAMP_WEBHOOK_SECRET": "ramp-hook-secret",
        "BURSAR_LOG_LEVEL": "debug",
        "AWS_SECRET_ACCESS_KEY": "cloud-secret",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(data_dir=tmp_path, api_port=9001)
    passwords = load_or_make_passwords(tmp_path / "roles.json")
    told = {spec.name: spec.environment() for spec in child_specs(settings, SimOptions())}

    def holds(name: str) -> set[str]:
        text = "\n".join(told[name].values())
        known = {value for value in given.values() if value.endswith("-secret")}
        return {
            secret for secret in {"admin-secret", *known, *passwords.values()} if secret in text
        }

    keys, hooks = {"bank-secret", "ramp-secret"}, {"hook-secret", "ramp-hook-secret"}
    assert holds("sim") == keys | hooks
    assert holds("api") - {"cloud-secret"} == {passwords[API], *hooks}
    assert holds("worker") - {"cloud-secret"} == {passwords[WORKER], *keys}
    assert told["api"]["BURSAR_PROCESS_DSN"].startswith(f"postgresql://{API}:")
    assert told["worker"]["BURSAR_PROCESS_DSN"].startswith(f"postgresql://{WORKER}:")
    assert told["api"]["BURSAR_API_PORT"] == "9001"
    assert told["api"]["BURSAR_DATA_DIR"] == str(tmp_path)
    assert told["api"]["BURSAR_LOG_LEVEL"] == "debug"
    assert not [name for name in told["sim"] if name in {"BURSAR_DATA_DIR", "BURSAR_LOG_LEVEL"}]


def test_the_data_directory_is_its_owners(tmp_path: Path) -> None:
    """It holds passwords. Root's may be passed through by the server's account, not read."""
    with DataDirLock(tmp_path / "data"):
        mode = stat.S_IMODE((tmp_path / "data").stat().st_mode)
    assert mode == (0o711 if os.geteuid() == 0 else 0o700)


def test_the_banner_says_what_to_do_next(tmp_path: Path) -> None:
    """With the option that another data directory needs."""
    settings = load_settings(data_dir=tmp_path)
    text = banner(settings, "sk_demo", 1.25)
    assert "sk_demo" in text
    assert f"bursar pay examples/payouts.csv --data-dir {tmp_path}\n" in text
    assert "bursar pay examples/payouts.csv\n" in banner(load_settings(), "sk_demo", 1.25)


def test_the_program_is_named_so_that_it_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script beside the interpreter, from here; without one, the module."""
    python = tmp_path / "venv dir" / "bin" / "python"
    python.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    assert program() == f"'{python}' -m bursar"
    python.with_name("bursar").touch()
    assert program() == "'venv dir/bin/bursar'"
    monkeypatch.chdir("/")
    assert program() == f"'{str(python).removeprefix('/').removesuffix('python')}bursar'"
