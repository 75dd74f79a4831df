"""Builds a simulated provider from its parts; nothing here reads the environment or real time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from starlette.types import ASGIApp

from bursar_sim.bank.codec import WIRE as BANK
from bursar_sim.callback import Poster
from bursar_sim.clock import Clock
from bursar_sim.offramp.codec import WIRE as OFFRAMP
from bursar_sim.provider.face import Face
from bursar_sim.provider.knobs import Knobs
from bursar_sim.provider.messenger import WORKERS, Messenger
from bursar_sim.provider.model import Line
from bursar_sim.provider.processor import Processor
from bursar_sim.provider.store import Store
from bursar_sim.provider.wire import Wire

WIRES: Final[Mapping[str, Wire]] = {BANK.name: BANK, OFFRAMP.name: OFFRAMP}
"Every provider by its name."
_LINES_MAX: Final = 2**31


@dataclass(frozen=True, slots=True)
class Truth:
    """What a provider truly did under one key of ours; amounts in minor units."""

    debits: tuple[Line, ...]
    "Executions. More than one under a key is a double execution."
    returns: tuple[Line, ...]
    known: bool
    "Whether the provider has the order in its books."
    stuck: bool
    "Whether it will be pending for ever."


class Provider(Protocol):
    """A provider at work inside one process.

    `app` is its HTTP face and needs no lifespan: `start` and `close` do that work. Each
    request's scope carries `extensions["bursar_sim.cut"]["abort"]`, a function that cuts the
    connection; after it was called, `receive` must give `http.disconnect`.
    """

    name: str
    app: ASGIApp
    knobs: Knobs

    def start(self) -> None:
        """Begin to work; needs the running event loop."""
        ...

    async def close(self) -> None:
        """Stop. Held requests end, what is undelivered stays undelivered, the books close."""
        ...

    def release(self) -> None:
        """End every hold and delay of a request now, and all later ones at once."""
        ...

    def statement(self) -> list[Line]:
        """Every line, in order of booking; before `close`."""
        ...

    def truth(self, key: str) -> Truth:
        """What was truly done under one key; before `close`."""
        ...

    def fired(self) -> Counter[str]:
        """How often each knob truly had its effect since the start, by the knob's name."""
        ...


class _Built:
    def __init__(
        self, name: str, store: Store, processor: Processor, messenger: Messenger, face: Face
    ) -> None:
        self.name = name
        self.app: ASGIApp = face.app
        self._store = store
        self._processor = processor
        self._messenger = messenger
        self._face = face

    @property
    def knobs(self) -> Knobs:
        return self._processor.knobs

    @knobs.setter
    def knobs(self, knobs: Knobs) -> None:
        self._processor.knobs = knobs

    def start(self) -> None:
        self._processor.start()
        self._messenger.start()

    async def close(self) -> None:
        self._face.release()
        await self._messenger.close()
        self._processor.close()
        self._store.close()

    def release(self) -> None:
        self._face.release()

    def statement(self) -> list[Line]:
        lines, _more = self._processor.statement(0, _LINES_MAX)
        return [line for _number, line in lines]

    def truth(self, key: str) -> Truth:
        lines = self._processor.lines_of(key)
        transfer = self._store.find(key)
        return Truth(
            tuple(line for line in lines if line.kind == "debit"),
            tuple(line for line in lines if line.kind == "return"),
            known=transfer is not None,
            stuck=transfer is not None and transfer.stuck,
        )

    def fired(self) -> Counter[str]:
        return Counter(self._processor.fired)


def build(
    name: str,
    *,
    data: Path | None,
    seed: int,
    knobs: Knobs,
    clock: Clock,
    poster: Poster,
    api_key: str | None = None,
    secret: str | None = None,
    workers: int = WORKERS,
) -> Provider:
    """A provider by name: `bank` or `offramp`. Raises `ValueError` for another.

    With `data` its books are a file in that directory; without, they are in memory and no file
    is made. The same seed and the same calls at the same times give the same answers and
    webhooks, byte for byte. `workers` is how many webhooks may be under way at once. Key and
    secret default to the public ones of the wire's page. Raises `OSError` or `sqlite3.Error`
    if the books cannot be opened.
    """
    wire = WIRES.get(name)
    if wire is None:
        raise ValueError(f"no such provider: {name}")
    store = Store(data, wire)
    processor = Processor(store, wire, seed=seed, knobs=knobs, clock=clock)
    messenger = Messenger(
        store,
        processor,
        provider_id=name,
        poster=poster,
        secret=secret or f"sandbox-{name}-webhook-secret",
        clock=clock,
        workers=workers,
    )
    face = Face(wire, processor, api_key=api_key or f"sandbox-{name}-key")
    return _Built(name, store, processor, messenger, face)
