"""`bursar`: the commands. Each imports what it needs when it runs, so that --help is quick.

Exit codes: 0 done, 1 something is wrong, 2 the input or the usage is wrong, 3 payouts are still
open, 130 interrupted. What is expected to go wrong is told in a line, never by a traceback.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bursar.cli.errors import CommandRefused

if TYPE_CHECKING:
    from bursar.settings import Settings

_DRIVER: Final = "asyncpg"
_INPUT: Final = frozenset({"name_invalid", "unknown_role", "unknown_currency"})
"Codes of errors in what was given; the other errors exit with 1."
ROLES: Final = (
    "admin, operator, finance_ops, treasury_ops: everything, with cancel, retry, resolve."
    " merchant_admin: ask for payouts, fund, read. billing_ops: read."
)

app = typer.Typer(
    name="bursar",
    help="Payouts that are never lost and never sent twice.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys_app, name="keys")
merchants_app = typer.Typer(help="Merchants.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(merchants_app, name="merchants")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Postgres, logs, demo key. BURSAR_DATA_DIR, else ./data."),
]


def main() -> None:
    """Run the command line; the process's exit code says how it went."""
    try:
        app()
    except CommandRefused as refused:
        _end(refused.lines, refused.code)
    except KeyboardInterrupt:
        _end(("interrupted",), 130)
    except Exception as error:
        lines = _expected(error)
        if lines is None:
            raise
        _end(lines, 2 if getattr(error, "code", None) in _INPUT else 1)


def _expected(error: Exception) -> list[str] | None:
    """What to say about an error that is no bug of ours, or None if it may be one."""
    from bursar.kit.errors import BursarError
    from bursar.settings import SettingsInvalid

    if isinstance(error, SettingsInvalid):
        return error.problems
    if isinstance(error, BursarError):
        return [error.detail]
    if isinstance(error, ConnectionRefusedError):
        return [f"the database does not answer: is `bursar up` running? ({error})"]
    if isinstance(error, OSError):
        known = error.filename is not None and error.strerror
        return [f"{error.filename}: {error.strerror}" if known else str(error)]
    if type(error).__module__.split(".")[0] == _DRIVER:
        return [f"database: {error}"]
    return None


def _end(lines: tuple[str, ...] | list[str], code: int) -> None:
    first, *rest = lines
    print(f"bursar: {first}", file=sys.stderr)
    for line in rest:
        print(line, file=sys.stderr)
    sys.exit(code)


@app.command()
def up(
    data_dir: DataDir = None,
    api_port: Annotated[int | None, typer.Option(help="BURSAR_API_PORT, else 8026.")] = None,
    sim_port: Annotated[int | None, typer.Option(help="BURSAR_SIM_PORT, else 8028.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulator's chance.")] = 1,
    sim_knob: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Rate of a fault, such as timeout=0.05; repeat."),
    ] = None,
) -> None:
    """Run everything here: Postgres, API, worker and simulated bank, until Ctrl-C."""
    from bursar.cli.up import SimOptions
    from bursar.cli.up import up as run

    settings = _settings(data_dir=data_dir, api_port=api_port, sim_port=sim_port)
    sys.exit(run(settings, SimOptions(seed=seed, knobs=tuple(sim_knob or ()))))


@app.command()
def migrate(
    *,
    rotate_passwords: Annotated[
        bool,
        typer.Option(
            "--rotate-passwords",
            help="Give roles that are there the passwords of this data directory's roles.json.",
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make roles and schema on the Postgres of DATABASE_URL; `up` does so by itself."""
    import asyncio

    from bursar import bootstrap

    settings = _settings(data_dir=data_dir)
    if settings.database_url is None:
        why = "DATABASE_URL must name the Postgres to migrate, as an admin or as bursar_owner"
        raise CommandRefused(why, code=2)
    number = asyncio.run(bootstrap.migrate_database(settings, rotate=rotate_passwords))
    print(f"the database is at migration {number}")


@app.command()
def api(data_dir: DataDir = None) -> None:
    """Run one API process."""
    _hold_lifeline()
    from bursar import bootstrap
    from bursar.cli.ports import port_fault
    from bursar.settings import api_problems

    settings = _settings(data_dir=data_dir)
    fault = port_fault(settings.api_host, settings.api_port)
    if fault and not api_problems(settings):
        raise CommandRefused(f"{fault}; choose another with BURSAR_API_PORT")
    bootstrap.serve_api(settings)


@app.command()
def worker(data_dir: DataDir = None) -> None:
    """Run one worker process."""
    _hold_lifeline()
    from bursar import bootstrap

    bootstrap.serve_worker(_settings(data_dir=data_dir))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def sim(context: typer.Context) -> None:
    """Run the simulated bank alone; `bursar sim --help` lists its options."""
    _hold_lifeline()
    import runpy

    sys.argv = ["bursar_sim", *context.args]
    runpy.run_module("bursar_sim", run_name="__main__", alter_sys=True)


@app.command()
def pay(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="CSV of payouts; its columns are in examples/README.md."
        ),
    ],
    *,
    url: Annotated[str | None, typer.Option(envvar="BURSAR_API_URL", help="The API.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="BURSAR_API_KEY", help="A key for it.")
    ] = None,
    data_dir: DataDir = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Requests in flight.")] = 32,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow them.")] = False,
    timeout: Annotated[float, typer.Option(min=1, max=604_800, help="Seconds to follow.")] = 600,
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Ask anew for rows that lacked funds.")
    ] = False,
) -> None:
    """Pay every row of a file and follow the payouts to their end.

    All rows are checked before anything moves. Running the same file again never pays twice: it
    replays what exists and makes the rest.
    """
    from bursar.cli.pay import PayOptions
    from bursar.cli.pay import pay as run

    options = PayOptions(
        path=file,
        url=url,
        api_key=api_key,
        demo_file=_settings(data_dir=data_dir).demo_file,
        concurrency=concurrency,
        wait=not no_wait,
        timeout_s=timeout,
        retry_refused=retry_refused,
    )
    sys.exit(run(options))


@app.command()
def verify(
    data_dir: DataDir = None,
    anchor: Annotated[
        Path | None, typer.Option(help="Checkpoints that were exported earlier.")
    ] = None,
) -> None:
    """Replay the books and the journal; name the first row that disagrees."""
    import asyncio

    from bursar import bootstrap

    if anchor is not None:
        try:
            anchor.open("rb").close()
        except OSError as error:
            why = f"--anchor: {anchor} cannot be read: {error.strerror}"
            raise CommandRefused(why, code=2) from error
    verdict = asyncio.run(bootstrap.verify_books(_settings(data_dir=data_dir), anchor=anchor))
    for line in verdict.lines:
        print(line)
    if verdict.disagreement is not None:
        raise CommandRefused(verdict.disagreement)


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Look at what this machine and these settings give."""
    from bursar.cli.doctor import examine

    findings = examine(_settings(data_dir=data_dir))
    for finding in findings:
        print(finding)
    sys.exit(any(finding.verdict == "bad" for finding in findings))


@merchants_app.command("create")
def merchants_create(
    name: Annotated[str, typer.Option(help="What people call it.")],
    currency: Annotated[
        list[str], typer.Option(metavar="CODE", help="Such as EUR; repeat for more.")
    ],
    *,
    fee_bps: Annotated[
        int, typer.Option(min=0, max=10_000, help="Our fee, in 1/10000 of a payout's amount.")
    ] = 0,
    data_dir: DataDir = None,
) -> None:
    """Make a merchant with accounts in these currencies, and print its id."""
    import asyncio

    from bursar import bootstrap

    settings = _settings(data_dir=data_dir)
    making = bootstrap.create_merchant(settings, name=name, currencies=currency, fee_bps=fee_bps)
    print(asyncio.run(making))


@merchants_app.command("list")
def merchants_list(data_dir: DataDir = None) -> None:
    """List merchants with their currencies and fees."""
    import asyncio

    from bursar import bootstrap

    for merchant in asyncio.run(bootstrap.all_merchants(_settings(data_dir=data_dir))):
        codes, made = ",".join(merchant.currencies), f"{merchant.created_at:%Y-%m-%d %H:%M}"
        fee = f"{merchant.payout_fee_bps} bps"
        print(f"{merchant.id}  {merchant.name}  {codes}  {fee}  {made}")


@keys_app.command("create")
def keys_create(
    person: Annotated[str, typer.Option(help="Name of who it belongs to.")],
    *,
    merchant: Annotated[str | None, typer.Option(help="mer_…: a key of this merchant.")] = None,
    platform: Annotated[
        bool, typer.Option("--platform", help="A key for what belongs to no merchant.")
    ] = False,
    role: Annotated[
        str | None,
        typer.Option(help=f"{ROLES} Unless given: merchant_admin, or admin with --platform."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key, of a merchant or of the platform. It is shown now and never again."""
    import asyncio

    from bursar import bootstrap

    if platform == (merchant is not None):
        raise CommandRefused("give either --merchant or --platform", code=2)
    making = bootstrap.create_key(
        _settings(data_dir=data_dir),
        merchant_id=merchant,
        person=person,
        role=role or ("admin" if platform else "merchant_admin"),
    )
    print(asyncio.run(making))


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="key_…, as in `keys list`.")],
    data_dir: DataDir = None,
) -> None:
    """Make a key useless within a second."""
    import asyncio

    from bursar import bootstrap

    asyncio.run(bootstrap.revoke_key(_settings(data_dir=data_dir), key_id))
    print(f"{key_id} is revoked")


@keys_app.command("list")
def keys_list(
    merchant: Annotated[str | None, typer.Option(help="Only this merchant's.")] = None,
    data_dir: DataDir = None,
) -> None:
    """List keys, without the keys themselves."""
    import asyncio

    from bursar import bootstrap

    lines = asyncio.run(bootstrap.list_keys(_settings(data_dir=data_dir), merchant_id=merchant))
    for key in lines:
        ended = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "active"
        made = f"{key.created_at:%Y-%m-%d %H:%M}"
        whose = key.merchant_id or "platform"
        who = f"{key.person_id}  {key.person_name}"
        print(f"{key.id}  {key.prefix}…  {whose}  {who}  {key.role}  {made}  {ended}")


def _settings(**overrides: Any) -> "Settings":
    """What the environment and the options say; from here on the log is as they want it."""
    from bursar.cli.logs import configure_logging
    from bursar.settings import load_settings

    settings = load_settings(**overrides)
    configure_logging(settings.log_level)
    return settings


def _hold_lifeline() -> None:
    from bursar.cli.lifeline import hold_lifeline

    hold_lifeline()
