"""Errors of the engine.

BursarError
├── Overloaded               503  the queue is full; nothing happened, try again
├── OutcomeUnknown           503  the commit could not be settled; ask again with the same key
├── CommandFailed            500  a command raised something unexpected; nothing happened
└── Refusal
    ├── ConstraintViolated   409  the database refused this command alone
    ├── IdempotencyKeyReused 422  same key, other request
    ├── AlreadyExecuted      409  the key is past its reply's life and had executed
    └── AlreadyRefused       409  the key is past its reply's life and had been refused

Inside the engine only: `Undecided` (a row was not loaded), `CommitUnknown`,
`TransactionConflict` (the group can run again; `DatabaseAway` and `RowHeld` are such),
`ConstraintError`, `StaleRow`.
"""

from bursar.kit.errors import BursarError, Refusal


class Overloaded(BursarError):
    """The command queue is full."""

    code = "overloaded"
    status = 503
    title = "Overloaded"

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        """`retry_after_s` is sent as Retry-After."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class OutcomeUnknown(BursarError):
    """Whether the change was committed could not be found out in time."""

    code = "outcome_unknown"
    status = 503
    title = "Outcome unknown"


class CommandFailed(BursarError):
    """A command failed in a way nobody planned for. It changed nothing."""

    code = "internal_error"
    status = 500
    title = "Internal error"


class ConstraintViolated(Refusal):
    """A database constraint refused this command."""

    code = "constraint_violated"
    status = 409
    title = "Constraint violated"


class IdempotencyKeyReused(Refusal):
    """The key was used before with another request."""

    code = "idempotency_key_reused"
    status = 422
    title = "Idempotency key reused"


class AlreadyExecuted(Refusal):
    """The request was executed so long ago that its reply is no longer replayed."""

    code = "already_executed"
    status = 409
    title = "Already executed"


class AlreadyRefused(Refusal):
    """The request was refused so long ago that its reply is no longer replayed."""

    code = "already_refused"
    status = 409
    title = "Already refused"


class Undecided(Exception):
    """The decision touched a row that was not loaded; it goes to the next group."""

    def __init__(
        self,
        table: str,
        key: str | tuple[str, ...],
        *,
        load: bool = True,
        more: tuple[str, ...] = (),
    ) -> None:
        """`load` says whether to load (table, key) next time, or only to wait for it.

        `more` are further parents of a child set, to be loaded at once.
        """
        super().__init__(f"{table} {key}")
        self.table = table
        self.key = key
        self.load = load
        self.more = more


class TransactionConflict(Exception):
    """Deadlock, serialization failure, lock timeout or a lost connection before COMMIT."""


class DatabaseAway(TransactionConflict):
    """The database can't be reached, or let the connection go, before COMMIT."""


class RowHeld(TransactionConflict):
    """Somebody else holds a row longer than this transaction was to wait for it."""


class CommitUnknown(Exception):
    """COMMIT was sent and its answer was lost."""


class ConstraintError(Exception):
    """A constraint was violated by some command of the group."""

    def __init__(self, constraint: str, detail: str) -> None:
        """`constraint` is its name in the schema."""
        super().__init__(f"{constraint}: {detail}")
        self.constraint = constraint


class StaleRow(Exception):
    """An UPDATE touched fewer rows than it was given, though they were locked."""
