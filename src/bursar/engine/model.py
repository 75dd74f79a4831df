"""What a command is: what it needs, how it decides, and whose request it answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from bursar.engine.working_set import WorkingSet

Key = str | tuple[str, ...]


class Row(msgspec.Struct, frozen=True):
    """One stored row. The fields stand in the order of the columns in the table's SQL."""


R = TypeVar("R", bound=Row)
Result_co = TypeVar("Result_co", covariant=True)


class Table(Generic[R]):
    """A table as the engine sees it.

    Its statements are found by name in the context's SQL: `peek_<name>`, `lock_<name>`,
    `insert_<name>`, `update_<name>`, `claim_<name>`, `release_<name>`; each table has those it
    uses.
    """

    def __init__(
        self,
        name: str,
        row: type[R],
        *,
        key: tuple[str, ...],
        rank: int,
        load: Callable[..., R] | None = None,
    ) -> None:
        """Describe a table.

        `rank` is the place in the lock order, parents first; `load` builds a row from the
        columns in order, where the row type alone can't.
        """
        self.name = name
        self.row = row
        self.key = key
        self.rank = rank
        self.load: Callable[..., R] = load or row
        self.columns = row.__struct_fields__
        self.key_of: Callable[[R], Key] = attrgetter(*key)
        """The primary key of a row: a string, or a tuple where it has several columns."""

    def __repr__(self) -> str:
        return f"Table({self.name})"


class ChildSet(Generic[R]):
    """The rows of `table` that belong to one parent key; read after the parent is locked.

    The statement is `children_<name>` in the SQL of the table's context.
    """

    def __init__(self, name: str, table: Table[R], parent: Callable[[R], str | None]) -> None:
        """`parent` gives the parent key of a row, or None if the row is not in the set."""
        self.name = name
        self.table = table
        self.parent = parent

    def __repr__(self) -> str:
        return f"ChildSet({self.name})"


class Claim(msgspec.Struct, frozen=True):
    """A row that may not exist yet. It is inserted before any lock is taken."""

    table: Table[Any]
    row: Row


class Needs(msgspec.Struct, frozen=True):
    """All that a command's decision may touch, known before any lock."""

    locks: tuple[tuple[Table[Any], Key], ...] = ()
    children: tuple[tuple[ChildSet[Any], str], ...] = ()
    claims: tuple[Claim, ...] = ()
    journals: tuple[str, ...] = ()


class Origin(msgspec.Struct, frozen=True):
    """Who asked, for the journal: a person's or process's id, and the correlation id.

    A worker has none of its own: it acts under that of the request that it carries on.
    """

    actor: str
    correlation_id: str = ""


class Request(msgspec.Struct, frozen=True):
    """The client's request behind a command: the scope and content of its idempotency key."""

    merchant_id: str
    key: str
    fingerprint: bytes


class Reply(msgspec.Struct, frozen=True):
    """What a client is answered: HTTP status, body bytes, and the id of what was made."""

    status: int
    body: bytes
    resource_id: str = ""
    replayed: bool = False


class Peeked:
    """Rows read without locks, and the database's time: what `needs` may look at."""

    def __init__(self, now: datetime, rows: Mapping[tuple[str, Key], Row]) -> None:
        """`rows` by (table name, key)."""
        self.now = now
        self._rows = rows

    def find(self, table: Table[R], key: Key) -> R | None:
        """The row as it was a moment ago; trust only columns that never change."""
        return cast("R | None", self._rows.get((table.name, key)))


class Command(Protocol[Result_co]):
    """A change of state. Decides without I/O, clock or randomness of its own."""

    @property
    def origin(self) -> Origin:
        """Who asked."""
        ...

    @property
    def request(self) -> Request | None:
        """The idempotent request that this command answers, if a client sent it."""
        ...

    def peeks(self) -> tuple[tuple[Table[Any], Key], ...]:
        """Rows whose never-changing columns tell what else is needed; read without locks."""
        ...

    def needs(self, peeked: Peeked) -> Needs:
        """What to claim, lock and read, as far as `peeked` tells."""
        ...

    def decide(self, ws: WorkingSet) -> Result_co:
        """Change the working set and answer, or raise `Refusal` and change nothing."""
        ...


class CommandBase(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that every command has, and the defaults of a command without peeks."""

    origin: Origin
    request: Request | None = None

    def peeks(self) -> tuple[tuple[Table[Any], Key], ...]:
        """No rows to look at first."""
        return ()


class JournalEntry(Row, frozen=True):
    """One line of a merchant's journal. `body` is canonical JSON."""

    merchant_id: str
    seq: int
    kind: str
    subject_id: str
    actor: str
    correlation_id: str
    at: datetime
    body: str


class JournalHead(Row, frozen=True):
    """The end of a merchant's chain: last entry, last link, and the last link's hash."""

    merchant_id: str
    seq: int
    link_seq: int
    hash: bytes


class JournalLink(Row, frozen=True):
    """One hash over all that one group wrote for one merchant, chained to the link before."""

    merchant_id: str
    link_seq: int
    first_seq: int
    last_seq: int
    previous_hash: bytes
    hash: bytes


class Delivery(Row, frozen=True):
    """A journal entry that a sink has not taken yet; the sink's relay deletes the row."""

    sink: str
    merchant_id: str
    seq: int


class IdempotencyKey(Row, frozen=True):
    """A client's key and, once decided, its reply. `outcome` is claimed, executed or refused."""

    merchant_id: str
    key: str
    fingerprint: bytes
    outcome: str
    status: int
    body: bytes
    resource_id: str
    claimed_at: datetime


class GroupCommit(Row, frozen=True):
    """Proof that a group committed, or a tombstone that says it never can."""

    group_id: str
    tombstone: bool
    at: datetime


JOURNAL = Table("journal", JournalEntry, key=("merchant_id", "seq"), rank=90)
JOURNAL_LINKS = Table("journal_links", JournalLink, key=("merchant_id", "link_seq"), rank=91)
DELIVERIES = Table("deliveries", Delivery, key=("sink", "merchant_id", "seq"), rank=92)
JOURNAL_HEADS = Table("journal_heads", JournalHead, key=("merchant_id",), rank=99)
IDEMPOTENCY_KEYS = Table("idempotency_keys", IdempotencyKey, key=("merchant_id", "key"), rank=1)
GROUP_COMMITS = Table("group_commits", GroupCommit, key=("group_id",), rank=100)

PLATFORM = "platform"
