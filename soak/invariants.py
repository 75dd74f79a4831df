"""What must hold after every commit, by this file's own arithmetic.

The checker folds what each transaction wrote. It trusts no counter, state or proof of the rows:
it compares them with sums, steps and sends that it kept itself. Numbers are those of
docs/failures.md.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from bursar.engine import journal
from bursar.engine.memory import MemoryStore
from bursar.engine.model import JOURNAL, JournalHead, JournalLink
from bursar.ledger.model import ACCOUNTS, HOLDS, TRANSFERS, Account, Transfer
from bursar.payouts.model import ATTEMPTS, Attempt, Payout
from soak import alerts
from soak.promises import HOLD_LIVES_S, NOT_SENT, PROMISES
from soak.store import Commit
from soak.wire import Wire
from soak.world import World

HELD = frozenset({"funds_locked", "in_review", "sending", "sent"})
OPEN = frozenset({"sending", "unknown", "accepted"})
PAID = frozenset({"paid", "returned"})
SUBJECTS = {
    "transfers": "subject_id",
    "holds": "subject_id",
    "incidents": "subject_id",
    "attempts": "payout_id",
    "resolutions": "payout_id",
    "provider_keys": "payout_id",
    "payout_references": "payout_id",
}
"""Where the tables name the payout that a row belongs to."""
COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


def _legal_steps() -> frozenset[tuple[str, str]]:
    """The hand-written table of the payout's machine."""
    path = Path(__file__).parents[1] / "tests" / "tables" / "payout_machine.txt"
    lines = [
        line.split()
        for line in path.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return frozenset(
        (line[0], target) for line in lines[1:] for target in line[1:] if target != "."
    )


LEGAL = _legal_steps()


class Checker:
    """Sees every commit of a schedule."""

    def __init__(self, world: World, wire: Wire, memory: MemoryStore) -> None:
        self._world = world
        self._wire = wire
        self.memory = memory
        self.sums: dict[str, Counter[str]] = defaultdict(Counter)
        self.pending: dict[str, Transfer] = {}
        self.transfers: dict[str, list[Transfer]] = defaultdict(list)
        """By payout."""
        self.references: dict[tuple[str, str], str] = {}
        self.heads: dict[str, tuple[int, int, bytes]] = {}
        self.attempts: dict[str, dict[str, Attempt]] = defaultdict(dict)
        self.payouts: dict[str, Payout] = {}
        self.keys: dict[tuple[str, str], str] = {}
        """Whose a provider's key is: (provider, key) to payout."""
        self.reopened: dict[str, int] = {}
        """By payout: how many attempts it had when a person sent it again."""
        self.answered: set[str] = set()
        """Attempts that had ended, and of which the provider was asked once more and answered."""
        self.contradicted: set[str] = set()
        """Payouts with an attempt that was paid after it had been proven to have failed."""
        self.free: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
        """What was free of (merchant, currency), and since when."""
        self._now = self._world.database_clock.wall()
        self._before: dict[str, Attempt] = {}
        self._called_now: set[str] = set()
        self._said: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._known: set[str] = set()

    def commit(self, commit: Commit) -> None:
        """Take in one transaction and check all that it touched."""
        touched: set[str] = set()
        self._now = commit.now
        self._called_now = {row.id for table, row in commit.inserted if table.name == "incidents"}
        for table, row in commit.inserted:
            if table is JOURNAL:
                self._entry(commit, row)
        self._before = {
            row.id: before for table, before, row in commit.updated if table is ATTEMPTS
        }
        for table, before, row in commit.updated:
            if table is ATTEMPTS:
                self._moved(before, row)
                self.attempts[row.payout_id][row.id] = row
                touched.add(row.payout_id)
        for table, row in commit.inserted:
            self._insert(commit, table.name, row, touched)
        for table, before, row in commit.updated:
            self._update(table.name, before, row, touched)
        for payout_id in touched:
            self._payout(payout_id)
        self._accounts(commit)
        self._repaid(commit)
        self._owners(commit)

    def _insert(self, commit: Commit, table: str, row: Any, touched: set[str]) -> None:
        match table:
            case "transfers":
                self._transfer(row)
            case "accounts":
                self.sums[row.address] = Counter({c: getattr(row, c) for c in COUNTERS})
            case "payouts":
                self._reference(row)
                self._step(None, row)
                touched.add(row.id)
            case "attempts":
                self.keys[row.provider, row.provider_key] = row.payout_id
                self._goes_out(row)
                self._successor(row)
                self.attempts[row.payout_id][row.id] = row
                touched.add(row.payout_id)
            case "journal_links":
                self._link(commit, row)
            case "incidents":
                self._incident(row)
            case _:
                pass

    def _update(self, table: str, before: Any, row: Any, touched: set[str]) -> None:
        match table:
            case "payouts":
                self._step(before, row)
                touched.add(row.id)
            case "holds":
                if before.state != "active":
                    self._broken("I4", f"{row.id} ended as {before.state}, then as {row.state}")
                touched.add(row.subject_id)
            case _:
                pass

    def _broken(self, invariant: str, detail: str) -> None:
        self._world.broken(invariant, detail)

    # Books

    def _transfer(self, row: Transfer) -> None:
        accounts = self.memory.tables[ACCOUNTS.name]
        for side in (row.debit, row.credit):
            account: Account | None = accounts.get(side)
            if account is None or account.currency != row.currency:
                self._broken("I1", f"{row.id}: {side} is no account in {row.currency}")
        if row.amount <= 0 or row.debit == row.credit:
            self._broken("I1", f"{row.id} moves {row.amount} from {row.debit} to {row.credit}")
        self.transfers[row.subject_id].append(row)
        debit, credit = self.sums[row.debit], self.sums[row.credit]
        if row.kind == "pending":
            self.pending[row.id] = row
            debit["debits_pending"] += row.amount
            credit["credits_pending"] += row.amount
            return
        if row.pending_id is not None:
            reserved = self.pending.pop(row.pending_id, None)
            if reserved is None:
                self._broken("I4", f"{row.id} ends {row.pending_id} a second time")
                return
            self.sums[reserved.debit]["debits_pending"] -= reserved.amount
            self.sums[reserved.credit]["credits_pending"] -= reserved.amount
            if row.kind == "post" and row.amount > reserved.amount:
                self._broken("I3", f"{row.id} posts more than was held")
        if row.kind in {"post", "posted"}:
            debit["debits_posted"] += row.amount
            credit["credits_posted"] += row.amount

    def _accounts(self, commit: Commit) -> None:
        """I2, I3 and I26 of every account that this commit wrote."""
        for table, _, row in commit.updated:
            if table.name != ACCOUNTS.name:
                continue
            made = self.sums[row.address]
            for counter in COUNTERS:
                if getattr(row, counter) != made[counter]:
                    had = getattr(row, counter)
                    self._broken("I2", f"{row.address} {counter}: {had}, not {made[counter]}")
            if row.limited and row.debits_pending + row.debits_posted > row.credits_posted:
                self._broken("I3", f"{row.address} owes")
            if row.role == "available":
                held = sum(leg.amount for leg in self.pending.values() if leg.debit == row.address)
                if held != row.debits_pending:
                    self._broken("I3", f"{row.address} holds {row.debits_pending}, not {held}")
            if row.role == "receivable":
                self._receivable(row)

    def _repaid(self, commit: Commit) -> None:
        """I26: whoever owes has nothing free: what comes in, or is free again, repays first."""
        for table, _, row in commit.updated:
            if table.name == ACCOUNTS.name and row.role in {"available", "receivable"}:
                merchant, _, currency = row.address.split("/")
                owing = self.sums[f"{merchant}/receivable/{currency}"]
                own = self.sums[f"{merchant}/available/{currency}"]
                owed = owing["debits_posted"] - owing["credits_posted"]
                free = own["credits_posted"] - own["debits_posted"] - own["debits_pending"]
                if owed > 0 and free > 0:
                    self._broken("I26", f"{merchant} owes {owed}, and {free} is free")
                self.free[merchant, currency].append((self._world.loop.time(), free))

    def _receivable(self, row: Account) -> None:
        found = [
            incident
            for incident in self.memory.tables.get("incidents", {}).values()
            if incident.subject_id == row.address
            and incident.kind == "merchant_owes"
            and incident.closed_at is None
        ]
        owed = row.debits_posted - row.credits_posted
        told = [incident.amount for incident in found]
        if told != ([owed] if owed else []):
            self._broken("I26", f"{row.address} is {owed}, the open incidents say {told}")

    def _owners(self, commit: Commit) -> None:
        """I17: what belongs to a payout is its merchant's, the accounts that it moves included."""
        rows = [*commit.inserted, *((table, row) for table, _, row in commit.updated)]
        for table, row in rows:
            subject = getattr(row, SUBJECTS.get(table.name, ""), None)
            payout = self.payouts.get(subject or "")
            if payout is None:
                continue
            owners = {row.merchant_id} if hasattr(row, "merchant_id") else set()
            if table.name == "transfers":
                accounts = self.memory.tables[ACCOUNTS.name]
                sides = [side for side in (row.debit, row.credit) if side in accounts]
                owners |= {accounts[side].merchant_id for side in sides}
            if owners - {payout.merchant_id}:
                self._broken("I17", f"{table.name} of {payout.id} are of {sorted(owners)}")

    def least_free(self, merchant: str, currency: str, since: float) -> int:
        """The least that was free of a merchant's money at any time since then, in minor units."""
        seen = self.free[merchant, currency]
        last = max((number for number, (at, _) in enumerate(seen) if at <= since), default=0)
        return min((free for _, free in seen[last:]), default=0)

    # Payouts

    def _reference(self, row: Payout) -> None:
        owner = self.references.setdefault((row.merchant_id, row.reference), row.id)
        if owner != row.id:
            self._broken("I9", f"{row.reference} names {owner} and {row.id}")

    def _step(self, before: Payout | None, row: Payout) -> None:
        """I11: one step of the table at a time, versions without gaps."""
        self.payouts[row.id] = row
        came, version = (before.state, before.version) if before else ("created", 0)
        if row.version == version and row.state == came:
            return
        said = self._said.pop(row.id, [])
        for step in said:
            if (step["from"], step["to"]) not in LEGAL:
                self._broken("I11", f"{row.id}: {step['from']} to {step['to']}")
            if step["from"] != came or step["version"] != version + 1:
                self._broken("I11", f"{row.id}: version {step['version']} after {version}")
            came, version = step["to"], step["version"]
            self._stepped(row, step)
        if (came, version) != (row.state, row.version):
            self._broken("I12", f"{row.id} is {row.state} {row.version}, the journal {came}")

    def _stepped(self, row: Payout, step: dict[str, Any]) -> None:
        attempts = self.attempts[row.id]
        if step["from"] in {"failed", "dead_letter"} and step["to"] == "funds_locked":
            self.reopened[row.id] = len(attempts)
        expired = step.get("code") == "hold_expired"
        if step["to"] == "cancelled" or expired:
            self._given_back(row)
        if expired and row.updated_at < row.due_at + timedelta(seconds=HOLD_LIVES_S):
            self._broken("I4", f"the hold of {row.id} expires before its time")
        burned = self._burned(row)
        if step["to"] == "dead_letter" and burned <= row.max_retries:
            tries = f"{burned} failures of its own, {row.max_retries} retries allowed"
            self._broken("F90", f"{row.id} is given up after {tries}")

    def _given_back(self, row: Payout) -> None:
        """I4: nobody takes the hold back while people are called for another amount's sake."""
        if self._is_asked(row.id):
            self._broken("I4", f"{row.id} is {row.state}, and another amount may have left")

    def _goes_out(self, row: Attempt) -> None:
        """F18: nothing is sent while people are called for another amount's sake."""
        if self._is_asked(row.payout_id):
            self._broken("F18", f"{row.id} is sent, and another amount may have left")

    def _is_asked(self, payout_id: str) -> bool:
        """Whether people had been called for another amount's sake, before this commit."""
        return any(
            (incident.subject_id, incident.kind) == (payout_id, "amount_mismatch")
            and incident.closed_at is None
            and incident.id not in self._called_now
            for incident in rows_of(self.memory, "incidents")
        )

    def _entry(self, commit: Commit, row: Any) -> None:
        body = json.loads(row.body)
        if row.kind.startswith("payout.") and "to" in body:
            self._said[row.subject_id].append(body)
        if "answer" in body:
            self._answer(row, body)
        self._world.note(commit.node, f"{row.kind} {row.subject_id[-6:]} {_short(body)}")

    def _answer(self, row: Any, body: dict[str, Any]) -> None:
        """F26: silence is no answer to a question while the provider may still know one."""
        attempt = self.attempts[row.subject_id][body["attempt"]]
        self.answered.add(attempt.id)
        silent = body["answer"]["outcome"] == "unknown" and body["answer"]["amount_minor"] is None
        life = timedelta(seconds=PROMISES[attempt.provider].key_life_s)
        if silent and row.at < attempt.begun_at + life:
            self._broken("F26", f"{attempt.id} is not asked about again after {body['answer']}")

    def _payout(self, payout_id: str) -> None:
        """I4 and I6 of one payout."""
        payout = self.payouts.get(payout_id)
        if payout is None:
            return
        holds = [
            hold
            for hold in self.memory.tables[HOLDS.name].values()
            if hold.subject_id == payout_id and hold.state == "active"
        ]
        if len(holds) != (payout.state in HELD):
            self._broken("I4", f"{payout_id} is {payout.state} with {len(holds)} active holds")
        active = {hold.id for hold in holds}
        going = [row for row in self.attempts[payout_id].values() if row.state in OPEN]
        if len(going) > 1:
            self._broken("I6", f"{payout_id} has {len(going)} open attempts")
        for attempt in going:
            if attempt.hold_id not in active:
                self._broken("I4", f"{attempt.id} is {attempt.state}, its hold has ended")
        if (payout.state in {"sending", "sent"}) != bool(going):
            self._broken("I6", f"{payout_id} is {payout.state} with {len(going)} open attempts")

    def _moved(self, before: Attempt, row: Attempt) -> None:
        """An attempt has changed: what goes out, what failed, what was paid after all."""
        if row.sends > before.sends:
            self._goes_out(row)
        if before.state in OPEN and row.state == "failed":
            # Also of an attempt that no other follows: its hold goes back to the merchant.
            moment = self._world.database_clock.virtual(self._now)
            self._proven(row, moment, f"{row.id} has failed")
        if before.state == "failed" and row.state in PAID:
            self.contradicted.add(row.payout_id)

    def _successor(self, row: Attempt) -> None:
        """I7: a further attempt, only after proof about each earlier one, and retries left.

        An earlier one may have been paid in the same commit, but after this one began.
        """
        for earlier in self.attempts[row.payout_id].values():
            was = self._before.get(earlier.id, earlier).state
            if {earlier.state, was} <= OPEN | PAID:
                self._broken("I7", f"{row.id} follows {earlier.id}, which is {earlier.state}")
            begun = self._world.database_clock.virtual(row.begun_at)
            self._proven(earlier, begun, f"{row.id} follows {earlier.id}")
        payout = self.payouts[row.payout_id]
        if row.begun_at < payout.due_at:
            self._broken("I11", f"{row.id} begins before {payout.id} is due")
        if self._burned(payout) > payout.max_retries:
            self._broken("F90", f"{row.id} is one retry more than the {payout.max_retries} allowed")

    def _proven(self, attempt: Attempt, moment: float, what: str) -> None:
        """I7: what left, and whether it was refused, is the network's word, not the attempt's.

        All but a refusal of the only send waits for the end of the window.
        """
        key = (attempt.provider, attempt.provider_key)
        early = self._wire.too_early_s(*key, moment)
        if early > 0:
            self._broken("I7", f"{what} {early:.3f} s too early")

    def _burned(self, payout: Payout) -> int:
        """How many failures since it was sent by hand were the provider's or the payee's."""
        return sum(
            attempt.state == "failed" and _burns(attempt)
            for attempt in self.attempts[payout.id].values()
            if attempt.number > self.reopened.get(payout.id, 0)
        )

    # Chain

    def _link(self, commit: Commit, row: JournalLink) -> None:
        """I14: every link follows the one before, over what was written with it."""
        link, seq, before = self.heads.get(row.merchant_id, (0, 0, bytes(32)))
        if row.merchant_id in self.heads or row.link_seq == 1:
            follows = (link + 1, seq + 1, before)
            if (row.link_seq, row.first_seq, row.previous_hash) != follows:
                self._broken("I14", f"link {row.link_seq} of {row.merchant_id} follows {link}")
        self.heads[row.merchant_id] = (row.link_seq, row.last_seq, row.hash)
        own = [(table, one) for table, one in commit.inserted if _owner(one) == row.merchant_id]
        entries = sorted((one for table, one in own if table is JOURNAL), key=lambda one: one.seq)
        moved = sorted((one for table, one in own if table is TRANSFERS), key=lambda one: one.id)
        head = JournalHead(row.merchant_id, row.last_seq, row.link_seq, before)
        made = journal.link(head, row.link_seq, before, entries, moved)
        if row.link_seq > 1 and made.hash != row.hash:
            self._broken("I14", f"link {row.link_seq} of {row.merchant_id} is not of its rows")

    # People

    def _incident(self, row: Any) -> None:
        known = self.attempts.get(row.subject_id, {})
        before = [self._before[attempt_id] for attempt_id in known if attempt_id in self._before]
        alerts.check_opened(self._world, row, known.values(), before, self._now)


def _owner(row: Any) -> str | None:
    return getattr(row, "merchant_id", None)


def _burns(attempt: Attempt) -> bool:
    """Whether the attempt reached the provider and failed for no cause of ours (F90)."""
    return attempt.code != NOT_SENT and attempt.code not in PROMISES[attempt.provider].ours


def _short(body: dict[str, Any]) -> str:
    told = ("from", "to", "code", "reason", "amount", "provider_reference", "cost")
    return " ".join(f"{name}={body[name]}" for name in told if body.get(name) is not None)


def rows_of(memory: MemoryStore, table: str) -> list[Any]:
    """All rows of a table."""
    return list(memory.tables.get(table, {}).values())
