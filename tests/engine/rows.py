"""Two versions of a row of every table, each field with a value of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, get_args, get_type_hints

import msgspec

from bursar.bootstrap import TABLES as CONTEXT_TABLES
from bursar.engine.model import (
    DELIVERIES,
    GROUP_COMMITS,
    IDEMPOTENCY_KEYS,
    JOURNAL,
    JOURNAL_HEADS,
    JOURNAL_LINKS,
    Row,
    Table,
)
from tests.engine.wiring import T0

TABLES: tuple[Table[Any], ...] = (
    *CONTEXT_TABLES,
    *(JOURNAL, JOURNAL_LINKS, JOURNAL_HEADS, DELIVERIES, IDEMPOTENCY_KEYS, GROUP_COMMITS),
)

# Where the schema wants a value of its choice: a link to a parent, a word from a list, a sum.
FIXED: Mapping[str, Mapping[str, Any]] = {
    "merchants": {"id": "mer_{n}"},
    "api_keys": {"merchant_id": "mer_{n}", "person_id": "id_{n}", "role": "operator"},
    "accounts": {"limited": False},
    "holds": {"state": "active", "ended_at": None},
    "transfers": {"kind": "void"},
    "idempotency_keys": {"outcome": "claimed"},
    "journal_links": {"last_seq": 10**6},
    "payouts": {"id": "po_{n}", "amount_returned": 1, "metadata": '{"b": "1", "aa": "2"}'},
    "attempts": {"id": "pa_{n}", "payout_id": "po_{n}", "state": "paid"},
    "facts": {"attempt_id": "pa_{n}", "kind": "paid"},
    "resolutions": {"attempt_id": "pa_{n}", "verdict": "executed"},
    "group_commits": {"tombstone": False},
}
CHANGED: Mapping[str, Mapping[str, Any]] = {
    "holds": {"state": "voided", "ended_at": T0 + timedelta(days=9)},
    "idempotency_keys": {"outcome": "refused"},
    "payouts": {"amount_returned": 2},
    "attempts": {"state": "returned"},
}


def row_of(table: Table[Any], number: int, *, changed: bool = False) -> Row:
    """The row `number` of a table; `changed` differs from it in every field but the fixed ones."""
    hints = get_type_hints(table.row)
    fixed = {**FIXED.get(table.name, {}), **(CHANGED.get(table.name, {}) if changed else {})}
    values: dict[str, Any] = {}
    for place, name in enumerate(table.columns):
        if name in fixed:
            value = fixed[name]
            values[name] = value.format(n=number) if name.endswith("id") else value
        else:
            values[name] = _value(hints[name], name, place, number, changed=changed)
    made: Row = table.row(**values)
    return made


def changed_row(table: Table[Any], number: int, columns: set[str]) -> Row:
    """The row with these columns changed."""
    new = msgspec.structs.asdict(row_of(table, number, changed=True))
    return msgspec.structs.replace(row_of(table, number), **{name: new[name] for name in columns})


def _value(hint: Any, name: str, place: int, number: int, *, changed: bool) -> Any:
    kind = next((part for part in get_args(hint) if part is not type(None)), hint)
    step = 1 + place + 100 * number + (50 if changed else 0)
    if kind is datetime:
        return T0 + timedelta(seconds=step, microseconds=place)
    if kind is bool:
        return changed
    if kind is int:
        return step
    if kind is bytes:
        return step.to_bytes(32, "big")
    return f"{name}_{number}{'_new' if changed else ''}"
