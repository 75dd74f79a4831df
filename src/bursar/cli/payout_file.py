"""Reads a file of payouts and judges every row before anything moves.

The format: CSV (RFC 4180) in UTF-8, comma separated, first line the column names, in any order.

    reference          1 to 64 printable ASCII characters, unique in the file and for the merchant
    amount             major units with a decimal point: 12.34
    currency           ISO 4217 code, or USDC, USDT, BTC
    beneficiary_name   1 to 140 characters
    beneficiary_iban   ISO 13616; spaces are allowed
    description        optional: up to 140 characters
    priority           optional: batch, standard, instant
    due_at             optional: RFC 3339 time with offset, at most 365 days ahead; the payout is
                       not sent before it
    metadata.<key>     optional, repeatable: your own values, up to 500 characters each

CRLF, LF and lone CR end a line; a byte order mark and blank lines are skipped. A field never
holds a line break, so a row is a line and each fault has one line number. Memory is bounded: at
most 64 MiB, 100,000 rows and 16 KiB in a line; the size is known before the first byte is read.
"""

import csv
import hashlib
import io
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from bursar.cli import payout_fields as fields
from bursar.cli.payout_fields import FieldInvalid, shown
from bursar.kit.canonical import canonical_json
from bursar.payouts.fields import METADATA_VALUE_CHARS_MAX, TEXT_CHARS_MAX

BYTES_MAX: Final = 64 * 1024 * 1024
ROWS_MAX: Final = 100_000
LINE_BYTES_MAX: Final = 16 * 1024
FAULTS_SHOWN_MAX: Final = 50

REQUIRED: Final = ("reference", "amount", "currency", "beneficiary_name", "beneficiary_iban")
OPTIONAL: Final = ("description", "priority", "due_at")
METADATA_PREFIX: Final = "metadata."
METADATA_COLUMNS_MAX: Final = 20
_METADATA_COLUMN: Final = re.compile(r"metadata\.[A-Za-z0-9_.-]{1,40}\Z")
_WIDE_MARKS: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00": "UTF-32"}
_UTF8_MARK: Final = "\xef\xbb\xbf"
_Readers: TypeAlias = Mapping[str, Callable[[str], str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the file. Line 0 means the file as a whole."""

    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.column}: {self.reason}" if self.line else self.reason


class PayoutFileRefused(Exception):
    """The file is not usable. `faults` are the first ones in order; `count` counts all."""

    def __init__(self, faults: Sequence[Fault], count: int) -> None:
        super().__init__(f"{count} faults, the first: {faults[0]}")
        self.faults = tuple(faults)
        self.count = count

    def lines(self) -> list[str]:
        """What to print: one line for each fault shown, then how many more there are."""
        more = self.count - len(self.faults)
        return [str(fault) for fault in self.faults] + ([f"and {more:,} more"] if more else [])


@dataclass(frozen=True, slots=True)
class PayoutRow:
    """One row: its line in the file and the body of its `POST /payouts`, in minor units."""

    line: int
    body: Mapping[str, Any]

    @property
    def reference(self) -> str:
        """What the business calls the payout."""
        return str(self.body["reference"])

    @property
    def key(self) -> str:
        """The idempotency key: a hash of all that the row says, so the same row never pays twice.

        An edited row has another key, but its reference is taken: no second payout is made.
        """
        return f"pay-{hashlib.sha256(canonical_json(self.body)).hexdigest()}"


@dataclass(slots=True)
class _Faults:
    kept: list[Fault] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, column: str, reason: str) -> None:
        self.count += 1
        if len(self.kept) < FAULTS_SHOWN_MAX:
            self.kept.append(Fault(line, column, reason))

    def check(self) -> None:
        if self.count:
            raise PayoutFileRefused(self.kept, self.count)


def read_payout_file(path: Path, *, latest_due: datetime | None = None) -> list[PayoutRow]:
    """All rows of the file, each valid, references unique, none due after `latest_due`.

    Raises `PayoutFileRefused`.
    """
    if "\0" in str(path):
        raise _whole_file(f"{shown(str(path))} is not a file name")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            what = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise _whole_file(f"{path} is {what}")
        if found.st_size > BYTES_MAX:
            size = f"{found.st_size / 1024 / 1024:,.0f} MiB"
            raise _whole_file(
                f"{path} has {size}, at most {BYTES_MAX >> 20} MiB are read: split it"
            )
        with path.open("rb") as stream:
            return parse_payouts(stream, latest_due=latest_due)
    except OSError as error:
        raise _whole_file(f"{path} cannot be read: {error.strerror or error}") from error


def parse_payouts(
    stream: io.BufferedReader, *, latest_due: datetime | None = None
) -> list[PayoutRow]:
    """The rows of an open binary stream, which is closed. `read_payout_file` without the file."""
    start = stream.peek(2)[:2]
    # Latin-1 keeps every byte as it is, so that a fault can name the byte.
    with io.TextIOWrapper(stream, encoding="latin-1", newline=None) as text:
        if start in _WIDE_MARKS:
            raise _whole_file(f"the file is {_WIDE_MARKS[start]}, not UTF-8: save it as UTF-8")
        due_at = partial(fields.read_due_at, latest=latest_due)
        return _judge(text, {**_OPTIONAL_READERS, "due_at": due_at})


def require_accounts(rows: Iterable[PayoutRow], held: Collection[str]) -> None:
    """Raise `PayoutFileRefused` for the rows in a currency that is not one of `held`."""
    faults = _Faults()
    has = f"it has {', '.join(sorted(held))}" if held else "it has none at all"
    for row in rows:
        if (code := row.body["currency"]) not in held:
            faults.add(row.line, "currency", f"the merchant has no accounts in {code}: {has}")
    faults.check()


def _judge(text: io.TextIOWrapper, optional: _Readers) -> list[PayoutRow]:
    """The rows, if nothing is wrong with any of them or with the file."""
    faults = _Faults()
    lines = _decoded(_physical_lines(text), faults)
    header = next(lines, None)
    if header is None:
        faults.check()
        raise _whole_file("the file is empty")
    columns = _read_header(header[1], faults)
    rows: list[PayoutRow] = []
    first_seen: dict[str, int] = {}
    count = 0
    for number, line in lines:
        count += 1
        if count > ROWS_MAX:
            faults.add(number, "row", f"the file has more than {ROWS_MAX:,} rows: split it")
            break
        values = _split(number, line, len(columns), faults)
        if values is not None:
            cells = dict(zip(columns, values, strict=True))
            body = _read_row(number, cells, optional, faults)
            _check_unique(number, body.get("reference"), first_seen, faults)
            rows.append(PayoutRow(number, body))
        if faults.count:
            rows.clear()  # nothing will be returned: keep judging, not storing
    if not count and not faults.count:
        raise _whole_file("the file has column names but no rows")
    faults.check()
    return rows


def _whole_file(reason: str) -> PayoutFileRefused:
    return PayoutFileRefused([Fault(0, "", reason)], 1)


def _physical_lines(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; a long one is cut one byte after the limit."""
    number, total = 0, 0
    while line := text.readline(LINE_BYTES_MAX + 1):
        number += 1
        rest, total = line, total + len(line)
        while len(rest) > LINE_BYTES_MAX and not rest.endswith("\n") and total <= BYTES_MAX:
            rest = text.readline(LINE_BYTES_MAX + 1)
            total += len(rest)
        if total > BYTES_MAX:
            raise _whole_file(f"the file has more than {BYTES_MAX >> 20} MiB: split it")
        yield number, line.removesuffix("\n")


def _decoded(lines: Iterable[tuple[int, str]], faults: _Faults) -> Iterator[tuple[int, str]]:
    """The lines that are UTF-8, of bounded length and not blank; the others become faults."""
    for number, latin in lines:
        raw = latin.removeprefix(_UTF8_MARK) if number == 1 else latin
        if len(raw) > LINE_BYTES_MAX:
            faults.add(number, "row", f"is longer than {LINE_BYTES_MAX:,} bytes")
            continue
        try:
            text = raw.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError as error:
            faults.add(
                number,
                "row",
                f"byte 0x{error.object[error.start]:02X} at position {error.start + 1} is not"
                " UTF-8: save the file as UTF-8 (it may be Latin-1 or Windows-1252)",
            )
            continue
        if text.strip(" "):
            yield number, text


def _read_header(text: str, faults: _Faults) -> list[str]:
    """The column names; a fault for each that is unknown, there twice or missing."""
    if "\0" in text:
        raise PayoutFileRefused([Fault(1, "row", "has NUL bytes: save the file as UTF-8")], 1)
    cells = _split(1, text, None, faults)
    faults.check()
    columns: list[str] = []
    for cell in cells or []:
        known = cell in REQUIRED or cell in OPTIONAL or _METADATA_COLUMN.match(cell)
        if not known:
            faults.add(1, shown(cell).strip("'"), _unknown_column(cell))
        elif cell in columns:
            faults.add(1, cell, "is there twice")
        columns.append(cell)
    for name in REQUIRED:
        if name not in columns:
            faults.add(1, name, "this column is missing")
    metadata = sum(column.startswith(METADATA_PREFIX) for column in columns)
    if metadata > METADATA_COLUMNS_MAX:
        faults.add(1, "metadata", f"{metadata} columns, at most {METADATA_COLUMNS_MAX} are allowed")
    if not set(columns) & set(REQUIRED):
        faults.check()
    return columns


def _unknown_column(cell: str) -> str:
    if not cell:
        return "a column has no name"
    if ";" in cell or "\t" in cell:
        return "columns are separated by commas, not by semicolons or tabs"
    if cell.lower() in REQUIRED or cell.lower() in OPTIONAL:
        return f"unknown column: did you mean {cell.lower()}?"
    return "unknown column"


def _split(number: int, text: str, width: int | None, faults: _Faults) -> list[str] | None:
    """The fields of one line without the spaces around them, or None and a fault."""
    try:
        values = next(csv.reader([text], strict=True))
    except csv.Error as error:
        reason = "a quoted field is not closed on its line" if _unclosed(error) else str(error)
        faults.add(number, "row", reason)
        return None
    if width is not None and len(values) != width:
        faults.add(number, "row", f"has {len(values)} fields, the header has {width}")
        return None
    return [value.strip(" ") for value in values]


def _unclosed(error: csv.Error) -> bool:
    return "unexpected end of data" in str(error)


def _read_row(
    number: int, cells: dict[str, str], optional: _Readers, faults: _Faults
) -> dict[str, Any]:
    """The body of the row's request; what is wrong becomes a fault and is left out."""

    def take(column: str, read: Callable[[str], Any]) -> Any:
        try:
            return read(cells[column])
        except FieldInvalid as error:
            faults.add(number, column, str(error))
            return None

    body: dict[str, Any] = {}
    if "reference" in cells:
        body["reference"] = take("reference", fields.read_reference)
    code = take("currency", fields.read_currency) if "currency" in cells else None
    if "amount" in cells:
        body["amount"] = take("amount", lambda text: fields.read_amount(text, code))
    body["currency"] = code.code if code else None
    body["beneficiary"] = {
        "name": take("beneficiary_name", _name) if "beneficiary_name" in cells else None,
        "iban": take("beneficiary_iban", fields.read_iban) if "beneficiary_iban" in cells else None,
    }
    for column, read in optional.items():
        if cells.get(column):
            body[column] = take(column, read)
    metadata = {
        column.removeprefix(METADATA_PREFIX): take(column, _metadata)
        for column, value in cells.items()
        if value and _METADATA_COLUMN.match(column)
    }
    if metadata:
        body["metadata"] = metadata
    return body


def _name(text: str) -> str:
    return fields.read_text(text, chars_max=TEXT_CHARS_MAX, required=True)


def _description(text: str) -> str:
    return fields.read_text(text, chars_max=TEXT_CHARS_MAX, required=False)


def _metadata(text: str) -> str:
    return fields.read_text(text, chars_max=METADATA_VALUE_CHARS_MAX, required=False)


_OPTIONAL_READERS: Final[_Readers] = {
    "description": _description,
    "priority": fields.read_priority,
}


def _check_unique(
    number: int, reference: str | None, first_seen: dict[str, int], faults: _Faults
) -> None:
    if reference is None:
        return
    first = first_seen.setdefault(reference, number)
    if first != number:
        faults.add(number, "reference", f"{shown(reference)} is also on line {first}")
