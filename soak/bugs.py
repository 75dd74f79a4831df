"""Planted bugs: what the schedules must catch, as patches of the product's source.

A patch is applied in memory while its module is imported, in a process of its own; nothing on
disk changes. `python -m soak.bugs NAME` plays seeds until the bug is caught.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

SEEDS = 600
"""How many seeds a bug has at most."""


@dataclass(frozen=True)
class Patch:
    """Replace `old`, which stands exactly once in the module's source, by `new`."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """One planted bug. `bias` forces rates and knobs, where the bug's moment is rare."""

    name: str
    patches: tuple[Patch, ...]
    bias: dict[str, float] = field(default_factory=dict)
    seeds: int = SEEDS


class NotApplied(Exception):
    """A patch does not fit the source any more: it has to be written anew."""


def _bug(
    name: str, module: str, old: str, new: str, *, bias: dict[str, float] | None = None
) -> Bug:
    return Bug(name, (Patch(module, old, new),), bias or {})


LATE = {"bank.worse": 0.4, "bank.worse_s": 4.0, "bank.late": 0.0}
"""Payments after the window: the only ones that come after a payout was given up."""
OWING = LATE | {"funds": 260.0, "merchants": 1.0, "client.retries": 0.0}
"""And the money of some of them is spent by then."""

BUGS: Sequence[Bug] = (
    # Proof
    _bug(
        "failover on a timeout",
        "bursar.rails.proof",
        "    if not isinstance(outcome, NotExecuted):\n        return outcome\n    if not (first",
        "    if isinstance(outcome, Unknown):\n"
        '        return NotExecuted(code="lost", reason="lost", retryable=True, sent=True)\n'
        "    if not isinstance(outcome, NotExecuted):\n        return outcome\n    if not (first",
    ),
    _bug(
        "a decline on the retry is proof",
        "bursar.rails.proof",
        "if not (first_send or (conclusive and outcome.sent)):",
        "if not (first_send or outcome.sent):",
        bias={"offramp.repeat_declined": 0.8, "offramp.late": 0.5, "net.reply_lost": 0.5},
    ),
    _bug(
        "not sent again is not sent at all",
        "bursar.rails.proof",
        "if not (first_send or (conclusive and outcome.sent)):",
        "if not (first_send or conclusive or not outcome.sent):",
        bias={"net.connect_refused": 0.4, "offramp.late": 0.5, "net.reply_lost": 0.5},
    ),
    Bug(
        "the window runs from the first send",
        (
            Patch(
                "bursar.payouts.silence",
                "            lease_until=ended,\n            ambiguous_at=ended,\n",
                "            lease_until=attempt.ambiguous_at or ended,\n"
                "            ambiguous_at=attempt.ambiguous_at or ended,\n",
            ),
            # The pauses are longer than the window before a later send would show the bug.
            Patch("bursar.rails.contracts", " * (1 << min(sends - 1, _DOUBLINGS_MAX))", ""),
        ),
        {"offramp.late": 0.5, "offramp.lost": 0.5, "offramp.repeat_declined": 0.8},
    ),
    _bug(
        "not found is failed",
        "bursar.rails.proof",
        "if closed and contract.absence_is_proof:",
        "if contract.absence_is_proof:",
    ),
    _bug(
        "any provider's not found is proof",
        "bursar.rails.proof",
        "if closed and contract.absence_is_proof:",
        "if closed:",
        bias={"offramp.not_found": 0.8, "offramp.not_found_s": 60.0, "net.reply_lost": 0.6},
    ),
    _bug(
        "a rejection in the window is proof",
        "bursar.rails.proof",
        "            if closed:\n                return listed(",
        "            if True:\n                return listed(",
        bias={"bank.flip": 0.4, "bank.late": 0.3, "net.reply_lost": 0.4},
    ),
    _bug(
        "no finality window",
        "bursar.rails.proof",
        "    return last_byte_at + contract.finality_window\n",
        "    return last_byte_at - contract.request_deadline\n",
    ),
    _bug(
        "a lost connection means that nothing was sent",
        "bursar.rails.http_rail",
        "            if failure.request_bytes_written:\n",
        "            if False:\n",
    ),
    _bug(
        "an error status means that it was not taken",
        "bursar.rails.bank.codec",
        '    return Unknown(f"http_{status}")\n',
        "    from bursar.rails.outcomes import NotExecuted\n\n"
        '    return NotExecuted(code="http", reason="", retryable=True, sent=False)\n',
        bias={"bank.error_executed": 0.3},
    ),
    # Leases
    Bug(
        "a lease that ends sends the payout elsewhere",
        (
            Patch(
                "bursar.payouts.attempts",
                'learn(ws, payout, attempt, Unknown("lease_expired"), ',
                "learn(ws, payout, attempt, NotExecuted("
                'code="lease", reason="", retryable=True, sent=True), ',
            ),
            Patch(
                "bursar.payouts.attempts",
                "from bursar.rails.outcomes import Executed,",
                "from bursar.rails.outcomes import NotExecuted, Executed,",
            ),
        ),
    ),
    _bug(
        "no look at the lease before the first byte",
        "bursar.payouts.jobs",
        "must_start_before=lease_ends - rail.contract.request_deadline_s,",
        "must_start_before=None,",
        bias={"net.stall_before": 0.5},
    ),
    _bug(
        "no fencing token",
        "bursar.payouts.attempts",
        "if attempt.lease_token == self.lease_token and attempt.state == AttemptState.SENDING:",
        "if attempt.state == AttemptState.SENDING:",
        bias={"net.stall_after": 0.5, "offramp.decline": 0.3, "offramp.lost": 0.4},
    ),
    _bug(
        "a zombie's reply is believed",
        "bursar.payouts.attempts",
        "if attempt.lease_token == self.lease_token and attempt.state == AttemptState.SENDING:",
        "if attempt.state in OPEN_ATTEMPT:",
        bias={"net.stall_after": 0.5, "offramp.decline": 0.3, "offramp.lost": 0.4},
    ),
    _bug(
        "sent again after the key's life",
        "bursar.rails.contracts",
        "return self.resend_after_s is not None and last_byte_at < begun_at + self.key_lifetime",
        "return self.resend_after_s is not None",
        bias={"outage": 1.0, "offramp.lost": 0.6},
    ),
    _bug(
        "another key for the same attempt",
        "bursar.payouts.attempts",
        "        key=attempt.provider_key,\n",
        "        key=attempt.provider_key if attempt.sends == 1 else attempt.provider_key[::-1],\n",
        bias={"net.reply_lost": 0.4},
    ),
    # Facts
    _bug(
        "effects are keyed by event, not by fact",
        "bursar.payouts.inbox",
        "            return_id=event.return_id or event.event_id,\n",
        "            return_id=event.event_id,\n",
        bias={"bank.return_rate": 0.5, "bank.return_parts": 0.8, "bank.webhook_new_id": 0.5},
    ),
    _bug(
        "a late payment is dropped",
        "bursar.payouts.outcomes",
        "        case Executed():\n            return _executed(",
        "        case Executed():\n"
        "            if attempt.state == AttemptState.FAILED:\n"
        "                return False\n"
        "            return _executed(",
        bias=LATE,
    ),
    _bug(
        "failed beats paid",
        "bursar.payouts.facts",
        "        paid=left,\n",
        "        paid=left and not failed,\n",
        bias=LATE,
    ),
    _bug(
        "a second reference is ignored",
        "bursar.payouts.outcomes",
        "another = bool(known) and outcome.provider_ref not in known",
        "another = False",
        bias={"bank.double": 0.3},
    ),
    _bug(
        "another amount is accepted",
        "bursar.payouts.inbox",
        "return (amount, self.event.currency) != (attempt.amount, attempt.currency)",
        "return False",
        bias={"bank.wrong_amount": 0.3},
    ),
    _bug(
        "an inquiry's amount is not looked at",
        "bursar.rails.proof",
        "if isinstance(outcome, Executed) and (outcome.amount_minor, outcome.currency) != (",
        "if isinstance(outcome, Executed) and not outcome and (1, 1) != (",
        bias={"bank.wrong_amount": 0.3, "bank.webhook_lost": 0.5},
    ),
    _bug(
        "a return is taken for a payment",
        "bursar.payouts.inbox",
        "        if event.kind == EventKind.RETURNED:\n",
        "        if False:\n",
    ),
    _bug(
        "a return ends the payout as failed",
        "bursar.payouts.facts",
        "        returned=amount if undone_by is not None else min(told_back, amount),\n",
        "        returned=amount if undone_by is not None else 0,\n",
    ),
    _bug(
        "an event that nobody knows is forgotten without a word",
        "bursar.payouts.inbox",
        '    open_incident(\n        ws,\n        entry,\n        kind=f"{result}_event",\n',
        '    dict(\n        ws=ws,\n        entry=entry,\n        kind=f"{result}_event",\n',
    ),
    # Holds and books
    Bug(
        "a hold ends while its money is under way",
        (
            Patch(
                "bursar.payouts.commands",
                "if payout.state != State.FUNDS_LOCKED or payout.expires_at > ws.now:",
                "if payout.expires_at > ws.now:",
            ),
            Patch(
                "bursar.payouts.commands",
                "RETRY_BUDGET = timedelta(days=7)",
                "RETRY_BUDGET = timedelta(seconds=2)",
            ),
            Patch(
                "bursar.payouts.machine",
                "        S.SENDING: {\n",
                "        S.SENDING: {\n            E.EXPIRE: S.FAILED,\n",
            ),
            Patch(
                "bursar.payouts.memory",
                "        if row.state == State.FUNDS_LOCKED:\n",
                "        if row.state in (State.FUNDS_LOCKED, State.SENDING):\n",
            ),
        ),
    ),
    Bug(
        "cancelled while it is being sent",
        (
            Patch(
                "bursar.payouts.commands",
                "if payout.state not in (State.FUNDS_LOCKED, State.IN_REVIEW):",
                "if False:",
            ),
            Patch(
                "bursar.payouts.machine",
                "        S.SENDING: {\n",
                "        S.SENDING: {\n            E.CANCEL: S.CANCELLED,\n",
            ),
        ),
    ),
    _bug(
        "the fee is charged twice on a late payment",
        "bursar.ledger.recipes",
        "(Role.PROVIDER_CLEARING, payout.amount), (Role.FEES, payout.fee))",
        "(Role.PROVIDER_CLEARING, payout.amount), (Role.FEES, payout.fee * 2))",
        bias=LATE,
    ),
    _bug(
        "a late payment waits for funds",
        "bursar.ledger.recipes",
        "        taken = min(amount, free)\n",
        "        taken = amount\n",
        bias=OWING,
    ),
    _bug(
        "what comes in does not repay what is owed",
        "bursar.ledger.recipes",
        "    return min(amount, max(0, book.account(Role.RECEIVABLE).balance))\n",
        "    return 0\n",
        bias=OWING | {"bank.return_rate": 0.5},
    ),
    _bug(
        "nobody is told what a merchant owes",
        "bursar.ledger.recipes",
        "    if any(leg.amount and Role.RECEIVABLE in (leg.debit, leg.credit) for leg in legs):\n",
        "    if False:\n",
        bias=OWING,
    ),
    _bug(
        "an account may owe",
        "bursar.ledger.book",
        "if new.limited and taken > 0 and new.free < 0:",
        "if False:",
    ),
    _bug(
        "a cause of ours burns a retry",
        "bursar.rails.proof",
        "burns_retry=retry and proof.sent and not proof.ours",
        "burns_retry=retry",
    ),
    # People
    _bug(
        "one person is enough",
        "bursar.payouts.operations",
        "        if known.proposed_by == said.proposed_by:\n",
        "        if False:\n",
        bias={"deaf": 1.0, "people": 1.0},
    ),
    # The engine
    _bug(
        "a key that is not claimed with its work",
        "bursar.engine.group",
        "        if command.request is not None:\n            existing = ws.claim(",
        "        if False:\n            existing = ws.claim(",
    ),
    _bug(
        "a reply that is not stored with its work",
        "bursar.engine.group",
        "    ws.update(\n        IDEMPOTENCY_KEYS,\n",
        "    dict(\n        IDEMPOTENCY_KEYS=",
    ),
    _bug(
        "the same key with another body is replayed",
        "bursar.engine.idempotency",
        "if row.fingerprint != request.fingerprint:",
        "if False:",
    ),
    _bug(
        "a tombstone is taken for a commit",
        "bursar.engine.engine",
        "                return committed\n",
        "                return True\n",
    ),
    _bug(
        "the answer leaves before the commit",
        "bursar.engine.engine",
        '                raise TransactionConflict("the lost commit never happened") from None\n',
        "                return\n",
    ),
    _bug(
        "a broken chain",
        "bursar.engine.group",
        "head.link_seq + 1, head.hash, lines",
        "head.link_seq + 1, head.hash[::-1], lines",
    ),
)


class _Loader(importlib.abc.SourceLoader):
    """Loads a module from its patched source."""

    def __init__(self, path: str, patches: Sequence[Patch]) -> None:
        self._path = path
        self._patches = patches

    def get_filename(self, _fullname: str) -> str:
        return self._path

    def get_data(self, path: str | bytes) -> bytes:
        if str(path) != self._path:
            raise OSError("no compiled file: it would not be of this source")
        source = Path(self._path).read_text(encoding="utf-8")
        for patch in self._patches:
            if source.count(patch.old) != 1:
                raise NotApplied(f"{patch.module} has {source.count(patch.old)} of {patch.old!r}")
            source = source.replace(patch.old, patch.new)
        return source.encode()


class Planter(importlib.abc.MetaPathFinder):
    """Finds the modules that a bug patches."""

    def __init__(self, bug: Bug) -> None:
        self._patches: dict[str, list[Patch]] = {}
        for patch in bug.patches:
            self._patches.setdefault(patch.module, []).append(patch)
        self.left = set(self._patches)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The patched module's spec; None for all others."""
        patches = self._patches.get(fullname)
        if patches is None:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            raise NotApplied(f"there is no {fullname}")
        self.left.discard(fullname)
        return importlib.util.spec_from_loader(fullname, _Loader(found.origin, patches))


def named(name: str) -> Bug:
    """The bug of this name."""
    return next(bug for bug in BUGS if bug.name == name)


def hunt(bug: Bug) -> tuple[int, str] | None:
    """The seed that catches the bug, and how; None if none does. For a fresh process."""
    planter = Planter(bug)
    sys.meta_path.insert(0, planter)
    from soak.schedule import run, silence  # noqa: PLC0415 - only now, so that the patch is in

    if planter.left:
        raise NotApplied(f"nobody imports {planter.left}")
    with silence():
        for seed in range(bug.seeds):
            result = run(seed, bias=bug.bias)
            if result.violation is not None:
                return seed, str(result.violation)
    return None


def main(arguments: list[str]) -> int:
    """Hunt one bug by name, or list them."""
    if not arguments:
        print("\n".join(bug.name for bug in BUGS))
        return 0
    caught = hunt(named(arguments[0]))
    if caught is None:
        print("survived")
        return 1
    print(f"caught at seed {caught[0]} by {caught[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
