"""`bursar doctor`: what this machine and these settings give, a line for each thing looked at."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from typing import Final

from bursar.cli.ports import bursar_on, port_fault
from bursar.db.binaries import choose_binaries, system_binaries, wheel_binaries
from bursar.db.errors import PostgresNotFound
from bursar.settings import SANDBOX_SECRETS, Settings, api_problems, reachable, worker_problems

_PYTHON_MIN: Final = (3, 11)
_DISK_FREE_MIN: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `ok`, `note` (works, but know it) or `bad`."""

    verdict: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict:<5} {self.subject:<10} {self.detail}"


def examine(settings: Settings) -> list[Finding]:
    """Everything that `bursar up` needs. Starts nothing, changes nothing."""
    return [
        _python(),
        _postgres(settings),
        _data_dir(settings),
        *_ports(settings),
        _demo(settings),
        *_production(settings),
        *_settings(settings),
    ]


def _python() -> Finding:
    verdict = "ok" if sys.version_info >= _PYTHON_MIN else "bad"
    where = f"{platform.python_version()} at {sys.executable} on {platform.platform(terse=True)}"
    return Finding(verdict, "python", where)


def _postgres(settings: Settings) -> Finding:
    if settings.database_url is not None:
        return Finding("ok", "postgres", "the server of DATABASE_URL (not contacted)")
    try:
        chosen = choose_binaries(None)
    except PostgresNotFound as error:
        return Finding("bad", "postgres", error.detail)
    others = len({item.bin_dir for item in (*system_binaries(), *wheel_binaries())}) - 1
    more = f", and {others} more" if others > 0 else ""
    return Finding("ok", "postgres", f"{chosen.major} ({chosen.origin}) in {chosen.bin_dir}{more}")


def _data_dir(settings: Settings) -> Finding:
    path = settings.data_dir.absolute()
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("bad", "data", f"{path} cannot be written")
    free = shutil.disk_usage(place).free
    verdict = "ok" if free >= _DISK_FREE_MIN else "bad"
    made = "" if path.exists() else ", will be made"
    return Finding(verdict, "data", f"{path} ({free / (1 << 30):.1f} GiB free{made})")


def _ports(settings: Settings) -> list[Finding]:
    """A port in use is fine if it is Bursar that uses it."""
    findings = []
    for name, host, port in (
        ("api", settings.api_host, settings.api_port),
        ("sim", settings.sim_host, settings.sim_port),
    ):
        fault = port_fault(host, port)
        if fault is None:
            findings.append(Finding("ok", name, f"port {port} on {host} is free"))
        elif (ours := bursar_on(reachable(host), port)) is not None:
            findings.append(Finding("ok", name, f"{ours} runs on port {port} of {host}"))
        else:
            findings.append(Finding("note", name, fault))
    return findings


def _demo(settings: Settings) -> Finding:
    if settings.demo_file.exists():
        return Finding("ok", "demo", f"key in {settings.demo_file}")
    return Finding("note", "demo", "no demo merchant yet: `bursar up` makes it")


def _production(settings: Settings) -> list[Finding]:
    """What an API or a worker would lack with these settings: each needs its own alone."""
    return [
        Finding("note", subject, f"{problem}, for `bursar {subject}`")
        for subject, problems in (("api", api_problems), ("worker", worker_problems))
        for problem in problems(settings)
    ]


def _settings(settings: Settings) -> list[Finding]:
    findings = []
    for name, value in settings:
        known = getattr(value, "get_secret_value", None)
        if known is None:
            findings.append(Finding("ok", "setting", f"{name} = {value}"))
        else:
            sandbox = known() in SANDBOX_SECRETS
            shown = "the public sandbox secret" if sandbox else "set (hidden)"
            findings.append(Finding("ok", "setting", f"{name} = {shown}"))
    return findings
