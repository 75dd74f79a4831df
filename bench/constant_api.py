"""`python -m bench.constant_api`: the API's own process, whose engine answers at once.

Everything before and after the engine is the product's: server, parsing, key, validation, log.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from bursar import bootstrap
from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.engine.model import Reply
from bursar.settings import Settings, load_settings

_REPLY = Reply(201, b"{" + b" " * 640 + b"}", "po_0")


class _Constant:
    async def submit(self, _command: object) -> Any:
        return _REPLY


@asynccontextmanager
async def _open_constant(
    _settings: Settings, dsn: str, *, name: str
) -> AsyncIterator[bootstrap.Wired]:
    pool = await open_pool(dsn, size=2, name=name)
    try:
        yield bootstrap.Wired(cast("Engine", _Constant()), pool)
    finally:
        await pool.close()


if __name__ == "__main__":
    bootstrap.open_engine = _open_constant  # type: ignore[assignment]
    bootstrap.serve_api(load_settings())
