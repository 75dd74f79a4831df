"""The command as a process: exit codes, one line for what is expected to go wrong."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bursar.cli.main import ROLES
from bursar.cli.payout_file import read_payout_file
from bursar.identity.model import POLICY, Action, Role

EXAMPLES = Path(__file__).parents[2] / "examples"
PRODUCTION = {"BURSAR_MODE": "production", "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}


def bursar(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `bursar` with a clean environment of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BURSAR_")}
    clean.pop("DATABASE_URL", None)
    return subprocess.run(
        [sys.executable, "-m", "bursar", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean | environment,
    )


def test_help_names_every_command() -> None:
    """It loads nothing that a command needs."""
    done = bursar("--help")
    assert done.returncode == 0
    for command in ("up", "api", "worker", "sim", "pay", "verify", "doctor", "keys", "merchants"):
        assert f"\n  {command} " in done.stdout


def test_help_is_quick() -> None:
    """No driver, HTTP client or IBAN registry is imported for it."""
    code = "import sys, bursar.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"asyncpg", "httpx", "schwifty", "pydantic", "fastapi", "uvicorn"})


def test_the_help_of_a_key_says_what_each_role_may_do() -> None:
    """As the policy has it, or whoever believes the help makes a key that can't help."""
    groups: dict[frozenset[Action], list[str]] = {}
    for role in Role:
        if role is not Role.SYSTEM:
            groups.setdefault(POLICY[role], []).append(role.value)
    sentences = ROLES.removesuffix(".").split(". ")
    said = [sorted(sentence.partition(": ")[0].split(", ")) for sentence in sentences]
    assert sorted(said) == sorted(sorted(names) for names in groups.values())
    assert "merchant_admin: ask for payouts, fund, read" in ROLES
    assert not POLICY[Role.MERCHANT_ADMIN] & {
        *(Action.PAYOUTS_CANCEL, Action.PAYOUTS_RETRY, Action.PAYOUTS_RESOLVE)
    }


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "line"),
    [
        (("pay", "missing.csv"), {}, 2, "missing.csv cannot be read: No such file or directory"),
        (("pay",), {}, 2, "Missing argument 'FILE'"),
        (("pay", "x.csv", "--concurrency", "0"), {}, 2, "Invalid value for '--concurrency'"),
        (("verify", "--anchor", "/no"), {}, 2, "/no cannot be read: No such file or directory"),
        (("frobnicate",), {}, 2, "No such command 'frobnicate'"),
        (("doctor",), {"BURSAR_MODE": "x"}, 1, "BURSAR_MODE: "),
        (("up", "--api-port", "0"), {}, 1, "BURSAR_API_PORT: "),
        (("doctor",), {"BURSAR_MDOE": "x"}, 1, "BURSAR_MDOE: there is no such setting"),
        (("up",), {"BURSAR_SIMPORT": "1"}, 1, "the nearest is BURSAR_SIM_PORT"),
        (("api",), {"BURSAR_MODE": "production"}, 1, "DATABASE_URL must be set in production"),
        (("api",), PRODUCTION, 1, "BURSAR_BANK_WEBHOOK_SECRET must be set in production mode"),
        (("worker",), PRODUCTION, 1, "BURSAR_OFFRAMP_URL must be set in production mode"),
        (("migrate",), PRODUCTION, 1, "the database does not answer"),
        (("keys", "list"), PRODUCTION, 1, "the database does not answer"),
        (("keys", "create", "--person", "Ann"), {}, 2, "give either --merchant or --platform"),
        (
            ("keys", "create", "--person", "Ann", "--platform", "--merchant", "mer_1"),
            *({}, 2, "give either --merchant or --platform"),
        ),
        (("keys", "create", "--platform", "--person", ""), PRODUCTION, 2, "The name is blank."),
        (("keys", "create", "--platform", "--person", "Ann "), PRODUCTION, 2, "ends with a space"),
        (
            ("keys", "create", "--platform", "--person", "Ann", "--role", "king"),
            *(PRODUCTION, 2, "'king' is no role: there are operator, admin"),
        ),
        (("merchants", "create", "--name", "Shop"), {}, 2, "Missing option '--currency'"),
        (
            ("merchants", "create", "--name", " ", "--currency", "EUR"),
            *(PRODUCTION, 2, "The name is blank."),
        ),
        (
            ("merchants", "create", "--name", "Shop", "--currency", "eur"),
            *(PRODUCTION, 2, "'eur' is not a currency code"),
        ),
        (
            ("merchants", "create", "--name", "S", "--currency", "EUR", "--fee-bps", "10001"),
            *({}, 2, "Invalid value for '--fee-bps'"),
        ),
        (("verify",), {"BURSAR_MODE": "production"}, 1, "DATABASE_URL must be set in production"),
        (("pay", "no.csv"), {"BURSAR_MODE": "production"}, 2, "no.csv cannot be read"),
        (("migrate",), {"DATABASE_URL": "postgresql://u:1/x@h"}, 1, "DATABASE_URL: is no address"),
        (
            ("migrate", "--rotate-passwords"),
            {"DATABASE_URL": "postgresql://bursar_owner@127.0.0.1:1/bursar"},
            *(1, "DATABASE_URL must name an admin: bursar_owner may not give roles"),
        ),
        (("up", "--data-dir", "/dev/null/x"), {}, 1, "/dev/null/x cannot be used"),
    ],
)
def test_what_goes_wrong_is_told_without_a_traceback(
    arguments: tuple[str, ...], environment: dict[str, str], code: int, line: str, tmp_path: Path
) -> None:
    """Code 2 for usage and input, 1 for the rest."""
    done = bursar(*arguments, **{"BURSAR_DATA_DIR": str(tmp_path / "data"), **environment})
    assert done.returncode == code
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_an_api_whose_port_is_in_use_says_so(tmp_path: Path) -> None:
    """One line, and nothing of the server's own."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = bursar("api", "--data-dir", str(tmp_path), BURSAR_API_PORT=str(port))
    assert done.returncode == 1
    assert done.stderr == (
        f"bursar: port {port} on 127.0.0.1 is taken by another program;"
        " choose another with BURSAR_API_PORT\n"
    )


def test_a_bad_file_lists_its_faults(tmp_path: Path) -> None:
    """Lines on standard error, nothing on standard output."""
    path = tmp_path / "p.csv"
    path.write_bytes(b"reference,amount\nINV-1,-1\n")
    done = bursar("pay", str(path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "bursar: line 1: currency: this column is missing",
        "line 1: beneficiary_name: this column is missing",
        "line 1: beneficiary_iban: this column is missing",
        "line 2: amount: '-1' is negative",
        f"{path}: 4 faults, nothing moved",
    ]


def test_doctor_finds_what_up_needs(tmp_path: Path) -> None:
    """And shows no secret."""
    done = bursar("doctor", "--data-dir", str(tmp_path), BURSAR_BANK_API_KEY="k-6f1d")
    assert done.returncode == 0
    subjects = {line.split()[1] for line in done.stdout.splitlines()}
    assert subjects >= {"python", "postgres", "data", "api", "sim", "demo", "setting"}
    assert "k-6f1d" not in done.stdout


def test_the_example_is_what_its_script_makes(tmp_path: Path) -> None:
    """A thousand good rows, the same at every run."""
    script = tmp_path / "make_payouts.py"
    script.write_bytes((EXAMPLES / "make_payouts.py").read_bytes())
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
    assert (tmp_path / "payouts.csv").read_bytes() == (EXAMPLES / "payouts.csv").read_bytes()
    rows = read_payout_file(EXAMPLES / "payouts.csv")
    assert len(rows) == 1_000
    assert {row.body["currency"] for row in rows} == {"EUR", "USD", "GBP", "JPY", "KWD", "USDC"}


def test_the_log_is_on_standard_error_and_shows_no_locals() -> None:
    """F65: standard output is the command's answer alone, such as a key that was just made."""
    code = (
        "import structlog; from bursar.cli.main import _settings; _settings()\n"
        "def fail():\n"
        "    secret = 'hunter' + '2'\n"
        "    raise ValueError('no')\n"
        "log = structlog.get_logger()\n"
        "try: fail()\n"
        "except ValueError: log.exception('it_failed')\n"
        "log.warning('beware'); print('the answer')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "the answer\n"
    failed, warned = (json.loads(line) for line in done.stderr.splitlines())
    assert "ValueError: no" in failed["exception"]
    assert "hunter2" not in done.stderr
    assert (warned["event"], warned["level"]) == ("beware", "warning")
