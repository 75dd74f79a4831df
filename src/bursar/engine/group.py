"""One group of commands in one transaction: resolve, claim, lock, decide, write.

`execute_group` runs the same over Postgres and over the in-memory twin. The result equals
running the commands one by one in the order given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import structlog

from bursar.engine import idempotency, journal
from bursar.engine.errors import CommandFailed, Undecided
from bursar.engine.model import (
    DELIVERIES,
    GROUP_COMMITS,
    IDEMPOTENCY_KEYS,
    JOURNAL,
    JOURNAL_HEADS,
    JOURNAL_LINKS,
    ChildSet,
    Command,
    Delivery,
    GroupCommit,
    JournalEntry,
    Key,
    Needs,
    Peeked,
    Reply,
    Row,
    Table,
)
from bursar.engine.store import Session
from bursar.engine.working_set import Changes, WorkingSet
from bursar.kit.errors import BursarError, Refusal
from bursar.kit.ids import Ids
from bursar.kit.problem import problem_bytes

log = structlog.get_logger(__name__)


class Done(msgspec.Struct, frozen=True):
    """Decided yes."""

    value: Any


class Failed(msgspec.Struct, frozen=True):
    """Decided no, or failed: the error to raise to the caller."""

    error: BursarError


class Again(msgspec.Struct, frozen=True):
    """Undecided: goes to the next group, which also loads `extra`."""

    extra: Needs


Verdict = Done | Failed | Again


class GroupRules(msgspec.Struct, frozen=True):
    """What the engine must know of the contexts above it."""

    tables: tuple[Table[Any], ...]
    child_sets: tuple[ChildSet[Any], ...] = ()
    attached: tuple[Table[Any], ...] = ()
    """Tables whose rows are hashed with the entry they name in (merchant_id, journal_seq)."""
    sinks: tuple[str, ...] = ()

    def extra(self, undecided: Undecided) -> Needs:
        """What to load so that an undecided command can be decided next time."""
        if not undecided.load:
            return Needs()
        for child in self.child_sets:
            if child.name == undecided.table:
                parents = (str(undecided.key), *undecided.more)
                return Needs(children=tuple((child, parent) for parent in parents))
        if undecided.table == JOURNAL_HEADS.name:
            return Needs(journals=(str(undecided.key),))
        for table in self.tables:
            if table.name == undecided.table:
                return Needs(locks=((table, undecided.key),))
        return Needs()


class Submission(msgspec.Struct):
    """A command on its way, with what earlier groups found that it also needs."""

    command: Command[Any]
    extra: tuple[Needs, ...] = ()


async def execute_group(
    submissions: Sequence[Submission],
    session: Session,
    *,
    group_id: str,
    ids: Ids,
    rules: GroupRules,
) -> tuple[list[Verdict], Changes]:
    """Decide and write a group; the caller commits. Verdicts are in the order of submissions."""
    ws = WorkingSet(session.now, ids)
    needs = await _resolve(submissions, session)
    await _claim(submissions, needs, session, ws)
    await _load(needs, session, ws)
    verdicts = [_decide(submission, ws, rules) for submission in submissions]
    changes = _seal(ws, group_id, rules)
    await session.write(changes)
    return verdicts, changes


async def _resolve(submissions: Sequence[Submission], session: Session) -> list[Needs]:
    wanted: dict[Table[Any], dict[Key, None]] = {}
    for submission in submissions:
        for table, key in submission.command.peeks():
            wanted.setdefault(table, {})[key] = None
    rows: dict[tuple[str, Key], Row] = {}
    for table, keys in sorted(wanted.items(), key=lambda item: item[0].rank):
        for row in await session.peek(table, list(keys)):
            rows[table.name, table.key_of(row)] = row
    peeked = Peeked(session.now, rows)
    needs: list[Needs] = []
    for submission in submissions:
        needs.append(submission.command.needs(peeked))
        needs.extend(submission.extra)
    return needs


async def _claim(
    submissions: Sequence[Submission], needs: Sequence[Needs], session: Session, ws: WorkingSet
) -> None:
    """Insert what may not exist yet; whoever loses reads the winner's row, locked."""
    wanted: dict[Table[Any], dict[Key, Row]] = {}
    for submission in submissions:
        request = submission.command.request
        if request is not None:
            own = idempotency.claimed(request, session.now)
            wanted.setdefault(IDEMPOTENCY_KEYS, {}).setdefault((own.merchant_id, own.key), own)
    for need in needs:
        for claim in need.claims:
            wanted.setdefault(claim.table, {}).setdefault(claim.table.key_of(claim.row), claim.row)
    for table, rows in sorted(wanted.items(), key=lambda item: item[0].rank):
        ordered = [rows[key] for key in sorted(rows)]
        won = set(await session.claim(table, ordered))
        for key, row in rows.items():
            if key in won:
                ws.add_claimed(table, row)
        lost = sorted(key for key in rows if key not in won)
        if lost:
            found = await session.lock(table, lost)
            ws.add_loaded(table, (), found)


async def _load(needs: Iterable[Needs], session: Session, ws: WorkingSet) -> None:
    """Lock each table once, parents first; read child sets after their parents' locks."""
    locks: dict[Table[Any], set[Key]] = {}
    children: dict[ChildSet[Any], set[str]] = {}
    heads: set[Key] = set()
    for need in needs:
        for table, key in need.locks:
            locks.setdefault(table, set()).add(key)
        for child, parent in need.children:
            children.setdefault(child, set()).add(parent)
        heads.update(need.journals)
    for table in sorted(locks, key=lambda table: table.rank):
        keys = sorted(locks[table])
        ws.add_loaded(table, keys, await session.lock(table, keys))
    for child in sorted(children, key=lambda child: (child.table.rank, child.name)):
        parents = sorted(children[child])
        ws.add_children(child, parents, await session.children(child, parents))
    if heads:
        keys = sorted(heads)
        ws.add_loaded(JOURNAL_HEADS, keys, await session.lock(JOURNAL_HEADS, keys))


def _decide(submission: Submission, ws: WorkingSet, rules: GroupRules) -> Verdict:
    command = submission.command
    mark = ws.mark()
    ws.origin = command.origin
    try:
        if command.request is not None:
            existing = ws.claim(IDEMPOTENCY_KEYS, idempotency.claimed(command.request, ws.now))
            if existing is not None:
                return Done(idempotency.replay(existing, command.request, ws.now))
            return _decide_request(command, ws)
        return Done(command.decide(ws))
    except Undecided as undecided:
        ws.rollback(mark)
        return Again(rules.extra(undecided))
    except Refusal as refusal:
        ws.rollback(mark)
        return Failed(refusal)
    except Exception:
        ws.rollback(mark)
        log.exception("command_failed", command=type(command).__name__)
        return Failed(CommandFailed("The request could not be carried out."))


def _decide_request(command: Command[Any], ws: WorkingSet) -> Verdict:
    """Decide a client's request and store its reply beside what it did, refusals included."""
    request = command.request
    assert request is not None  # noqa: S101 - narrows the type; the caller checked
    claimed_key = ws.get(IDEMPOTENCY_KEYS, (request.merchant_id, request.key))
    mark = ws.mark()
    try:
        reply: Reply = command.decide(ws)
        outcome = idempotency.EXECUTED
    except Refusal as refusal:
        ws.rollback(mark)
        reply = Reply(refusal.status, problem_bytes(refusal))
        outcome = idempotency.REFUSED
    ws.update(
        IDEMPOTENCY_KEYS,
        msgspec.structs.replace(
            claimed_key,
            outcome=outcome,
            status=reply.status,
            body=reply.body,
            resource_id=reply.resource_id,
        ),
    )
    return Done(reply)


def _seal(ws: WorkingSet, group_id: str, rules: GroupRules) -> Changes:
    """Chain the group's journal entries and add the rows that prove and deliver them."""
    entries: dict[str, list[JournalEntry]] = {}
    for entry in ws.inserted(JOURNAL):
        entries.setdefault(entry.merchant_id, []).append(entry)
        for sink in rules.sinks:
            ws.insert(DELIVERIES, Delivery(sink, entry.merchant_id, entry.seq))
    attached: dict[str, list[Row]] = {}
    for table in rules.attached:
        for row in sorted(ws.inserted(table), key=table.key_of):
            attached.setdefault(row.merchant_id, []).append(row)
    for merchant_id, lines in entries.items():
        head = ws.get(JOURNAL_HEADS, merchant_id)
        new = journal.link(head, head.link_seq + 1, head.hash, lines, attached.get(merchant_id, ()))
        ws.insert(JOURNAL_LINKS, new)
        ws.update(
            JOURNAL_HEADS, msgspec.structs.replace(head, link_seq=new.link_seq, hash=new.hash)
        )
    ws.insert(GROUP_COMMITS, GroupCommit(group_id, tombstone=False, at=ws.now))
    return ws.changes()


def raise_or_value(verdict: Done | Failed) -> Any:
    """The caller's end of a verdict."""
    if isinstance(verdict, Failed):
        raise verdict.error
    return verdict.value
