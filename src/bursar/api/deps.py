"""What the API works with, handed in by whoever starts it."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

import msgspec

from bursar.api.currencies import HeldCurrencies
from bursar.db.pool import Pool
from bursar.engine.model import Command
from bursar.identity.store import KeyCache
from bursar.kit.clock import Clock
from bursar.kit.crashpoints import CrashPoints, NoCrash
from bursar.kit.ids import Ids
from bursar.rails.port import WebhookVerifier

Result = TypeVar("Result")


class Submits(Protocol):
    """The engine, as a face sees it."""

    async def submit(self, command: Command[Result]) -> Result:
        """Answer once the command is committed. Raises its refusal."""
        ...


class WebhookSource(msgspec.Struct, frozen=True):
    """A provider that may send events: the secret it signs with, and how."""

    secret: str
    verifier: WebhookVerifier

    def __repr__(self) -> str:
        """Without the secret."""
        return "WebhookSource(…)"


class Deps(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that routes use. `mode` is sandbox or production; sizes are in bytes."""

    engine: Submits
    pool: Pool
    keys: KeyCache
    clock: Clock
    ids: Ids
    webhooks: Mapping[str, WebhookSource]
    mode: str
    body_bytes_max: int = 65_536
    currencies: HeldCurrencies = msgspec.field(default_factory=HeldCurrencies)
    crash: CrashPoints = NoCrash()

    @property
    def sandbox(self) -> bool:
        """Whether money is play money."""
        return self.mode == "sandbox"
