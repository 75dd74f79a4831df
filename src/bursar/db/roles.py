"""The roles a Bursar database has, and the files that keep their passwords.

| role           | may                                                                     |
|----------------|-------------------------------------------------------------------------|
| bursar_owner   | own the schema and migrate; make merchants and keys (command line only) |
| bursar_api     | what the API's commands need                                            |
| bursar_worker  | what the worker's commands need                                         |
| bursar_auditor | read everything: `bursar verify`                                        |

What each may touch is granted table by table in the migrations.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bursar.kit.ids import new_secret

ADMIN = "postgres"
OWNER = "bursar_owner"
API = "bursar_api"
WORKER = "bursar_worker"
AUDITOR = "bursar_auditor"

DATABASE = "bursar"


@dataclass(frozen=True)
class Timeouts:
    """Limits that the server itself puts on a role's work, as Postgres writes intervals."""

    statement: str
    lock: str
    idle_in_transaction: str


# Short limits keep a stuck process from holding locks that money waits for. An audit reads
# for minutes, and a migration may rewrite a table.
ROLE_TIMEOUTS: Mapping[str, Timeouts] = {
    OWNER: Timeouts("15min", "10s", "60s"),
    API: Timeouts("5s", "3s", "5s"),
    WORKER: Timeouts("5s", "3s", "5s"),
    AUDITOR: Timeouts("15min", "3s", "60s"),
}


@dataclass(frozen=True)
class Dsns:
    """How each role reaches the database. Never shown: they hold passwords."""

    owner: str = field(repr=False)
    api: str = field(repr=False)
    worker: str = field(repr=False)
    auditor: str = field(repr=False)


def load_or_make_passwords(path: Path) -> dict[str, str]:
    """The password of every role and of the admin, from a file only its owner can read.

    Made with random passwords where it is absent. Of two processes that make it at once, one
    wins and both get the winner's.
    """
    if not path.exists():
        made = {role: new_secret() for role in (ADMIN, *ROLE_TIMEOUTS)}
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(made, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, does not replace a rival's file.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    passwords: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return passwords
