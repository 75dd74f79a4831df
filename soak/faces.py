"""The product's own HTTP application, one for each place a process may stand in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from bursar.api.app import create_app
from bursar.api.deps import Deps, WebhookSource
from bursar.identity.model import Principal, Role, issue_key
from bursar.identity.store import KeyCache
from bursar.rails.port import WebhookVerifier
from soak import asgi
from soak.process import Node
from soak.world import World

MODE = "sandbox"
SECRETS = {name: f"sandbox-{name}-webhook-secret" for name in ("bank", "offramp")}
KEYS = [issue_key(MODE, f"{number:043d}") for number in range(8)]
"""API keys: number `n` is of merchant `n` modulo `MERCHANTS`, each of another person."""
MERCHANTS = 4


def merchant_id(number: int) -> str:
    """The merchant of this number."""
    return f"mer_{number + 1:032x}"


class Place:
    """An application that outlives processes and schedules: making it costs too much.

    It acts for the process that stands here now.
    """

    def __init__(self) -> None:
        self.node: Node | None = None
        self._app: Any = None

    # The application's clock and identifiers, at its outermost layer.

    def monotonic(self) -> float:
        """The process's."""
        return self._here.clock.monotonic()

    def wall(self) -> datetime:
        """The process's."""
        return self._here.clock.wall()

    async def sleep(self, seconds: float) -> None:
        """The process's."""
        await self._here.clock.sleep(seconds)

    def new(self, prefix: str) -> str:
        """The process's."""
        return self._here.ids.new(prefix)

    @property
    def _here(self) -> Node:
        if self.node is None:
            raise RuntimeError("no process stands here")
        return self.node

    def occupy(self, node: Node, verifiers: Mapping[str, WebhookVerifier], fee_bps: int) -> None:
        """Let `node` serve from here."""
        self.node = node
        principals = {
            key.key_hash: Principal(
                f"per_{n}", f"key_{n}", Role.FINANCE_OPS, merchant_id(n % MERCHANTS), fee_bps
            )
            for n, key in enumerate(KEYS)
        }

        async def find(key_hash: bytes) -> Principal | None:
            return principals.get(key_hash)

        sources = {name: WebhookSource(SECRETS[name], module) for name, module in verifiers.items()}
        deps = Deps(
            engine=node.engine,
            pool=node.platform.database.pool,
            keys=KeyCache(find, node.clock),
            clock=node.clock,
            ids=node.ids,
            webhooks=sources,
            mode=MODE,
            crash=node,
        )
        if self._app is None:
            self._app = create_app(
                msgspec.structs.replace(deps, clock=self, ids=self)  # the outermost layer's
            )
        self._app.state.deps = deps

    async def serve(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> asgi.Answer | None:
        """A request to the process that stands here; None if it dies before it has answered."""
        node = self._here
        if not node.alive:
            return None
        world: World = node.world
        working = world.go(asgi.call(self._app, method, path, headers, body))
        dying = world.go(node.died.wait())
        await asyncio.wait({working, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not node.alive or not working.done():
            return None
        if working.exception() is not None:
            world.broken("F76", f"{method} {path} was not answered: {working.exception()!r}")
            return None
        answer: asgi.Answer = working.result()
        return answer


PLACES = {"A": Place(), "B": Place()}
