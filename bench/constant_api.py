"""`python -m bench.constant_api`: the API's own process, whose engine answers at once.

Everything before and after the engine is the product's: server, parsing, key, validation, log.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from bursar import bootstrap
from bursar.cli.logs import configure_logging
from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.engine.model import Reply
from bursar.kit.crashpoints import CrashPoints
from bursar.settings import Settings, load_settings

_REPLY = Reply(201, b"{" + b" " * 640 + b"}", "po_0")


class _Constant:
    async def submit(self, _command: object) -> Any:
        return _REPLY


@asynccontextmanager
async def _open_constant(
    _settings: Settings,
    dsn: str,
    *,
    name: str,
    crash: CrashPoints | None = None,  # noqa: ARG001
) -> AsyncIterator[bootstrap.Wired]:
    pool = await open_pool(dsn, size=2, name=name)
    try:
        yield bootstrap.Wired(cast("Engine", _Constant()), pool)
    finally:
        await pool.close()


def main() -> None:
    """Serve as `bursar api` does, over the engine that answers at once."""
    settings = load_settings()
    configure_logging(settings.log_level)
    bootstrap.serve_api(settings, _open_constant)


if __name__ == "__main__":
    main()
