"""A payout file is judged whole: each fault by line, column and reason, and nothing else moves."""

import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.cli import payout_file
from bursar.cli.payout_file import PayoutFileRefused, PayoutRow, parse_payouts, read_payout_file

HEADER = "reference,amount,currency,beneficiary_name,beneficiary_iban"
IBAN = "DE89370400440532013000"
GOOD = f"INV-1,12.34,EUR,Jane Doe,{IBAN}"


def parse(data: bytes) -> list[PayoutRow]:
    """The rows of a good file."""
    return parse_payouts(io.BufferedReader(io.BytesIO(data)))


def faults(data: bytes) -> list[str]:
    """The lines that are printed for a bad file."""
    with pytest.raises(PayoutFileRefused) as refused:
        parse(data)
    return refused.value.lines()


def row(**cells: str) -> bytes:
    """A file of one row that is good but for these cells; cells of other columns are added."""
    good = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | cells
    quoted = [f'"{value.replace(chr(34), chr(34) * 2)}"' for value in good.values()]
    return f"{','.join(good)}\n{','.join(quoted)}\n".encode()


# --- what is accepted ----------------------------------------------------------------------------

SAME_FILE = {
    "LF": f"{HEADER}\n{GOOD}\n".encode(),
    "CRLF": f"{HEADER}\r\n{GOOD}\r\n".encode(),
    "lone CR": f"{HEADER}\r{GOOD}\r".encode(),
    "byte order mark": f"\ufeff{HEADER}\n{GOOD}\n".encode(),
    "no line end at the end": f"{HEADER}\n{GOOD}".encode(),
    "blank lines": f"\n{HEADER}\n\n{GOOD}\n   \n\n".encode(),
    "spaces around": f"{HEADER.replace(',', ' , ')}\n {GOOD.replace(',', ' , ')} \n".encode(),
    "all quoted": row(),
    "IBAN as printed": row(beneficiary_iban="de89 3704 0044 0532 0130 00"),
    "columns in another order": (
        "currency,beneficiary_iban,reference,amount,beneficiary_name\n"
        f"EUR,{IBAN},INV-1,12.34,Jane Doe"
    ).encode(),
    "empty optional columns": (f"{HEADER},description,metadata.team\n{GOOD},,\n").encode(),
}


@pytest.mark.parametrize("data", SAME_FILE.values(), ids=SAME_FILE.keys())
def test_spellings_of_one_file_mean_the_same_payout(data: bytes) -> None:
    """F82: the key is made of what a row says, so how it is written can't make it pay twice."""
    (same,) = parse(data)
    (plain,) = parse(SAME_FILE["LF"])
    assert same.body == plain.body
    assert same.key == plain.key


def test_a_full_row_becomes_the_body_of_a_request() -> None:
    """Amounts become minor units; an equal instant in another zone is equal text."""
    data = row(
        amount="1.5",
        currency="KWD",
        description="Käse, Öl",
        priority="instant",
        due_at="2026-03-29T02:30:00+01:00",
        **{"metadata.team": "north"},
    )
    (made,) = parse(data)
    assert made.line == 2
    assert made.body == {
        "reference": "INV-1",
        "amount": 1500,
        "currency": "KWD",
        "beneficiary": {"name": "Jane Doe", "iban": IBAN},
        "description": "Käse, Öl",
        "priority": "instant",
        "due_at": "2026-03-29T01:30:00Z",
        "metadata": {"team": "north"},
    }


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("1", "JPY", 1),  # no minor unit
        ("0.01", "EUR", 1),
        ("1", "EUR", 100),
        ("0.001", "KWD", 1),
        ("0.000001", "USDC", 1),
        ("10000000000000", "EUR", 10**15),  # the bound
    ],
)
def test_amounts_in_currencies_of_each_exponent(amount: str, currency: str, minor: int) -> None:
    """F74: the exponent is the currency's."""
    assert parse(row(amount=amount, currency=currency))[0].body["amount"] == minor


@pytest.mark.parametrize(
    "cells",
    [
        {"amount": "12.35"},
        {"currency": "USD"},
        {"beneficiary_name": "Jane Do"},
        {"beneficiary_iban": "GB82WEST12345698765432"},
        {"reference": "INV-2"},
        {"description": "x"},
        {"metadata.a": "x"},
    ],
)
def test_an_edited_row_has_another_key(cells: dict[str, str]) -> None:
    """F82: one line edited is another request; the reference then makes the server refuse it."""
    assert parse(row(**cells))[0].key != parse(row())[0].key


# --- what is refused, in one row -----------------------------------------------------------------

BAD_CELLS = [
    # F70, F73, F75: amounts
    ("amount", "", "is empty"),
    ("amount", "-5", "'-5' is negative"),
    ("amount", "0", "is zero"),
    ("amount", "0.00", "is zero"),
    ("amount", "1.234", "'1.234' has more decimals than EUR: 2"),
    ("amount", "10000000000000.01", "an amount is at most 1000000000000000 minor units"),
    ("amount", "9" * 5_000, "an amount has at most 16 digits"),
    ("amount", "1e3", "'1e3' is not a plain decimal such as 12.34"),
    ("amount", "1,000.00", "'1,000.00' is not a plain decimal such as 12.34"),
    ("amount", "1.", "'1.' is not a plain decimal such as 12.34"),
    ("amount", "+1", "'+1' is not a plain decimal such as 12.34"),
    ("amount", "NaN", "'NaN' is not a plain decimal such as 12.34"),
    ("amount", "\u0661", "'\\u0661' is not a plain decimal such as 12.34"),
    ("amount", "1\u00a0", "'1\\xa0' is not a plain decimal such as 12.34"),
    ("amount", "=1+1", "'=1+1' is not a plain decimal such as 12.34"),
    # currencies, F72
    ("currency", "", "is empty"),
    ("currency", "eur", "'eur' must be in capitals: EUR"),
    ("currency", "EURO", "'EURO' is not a known currency"),
    ("currency", "XXX", "'XXX' is not a known currency"),
    ("currency", "\u202eEUR", "'\\u202eEUR' is not a known currency"),
    # references
    ("reference", "", "is empty"),
    ("reference", "x" * 65, "has 65 characters, at most 64 are allowed"),
    ("reference", "a\tb", "'a\\tb' has characters that are not printable ASCII"),
    ("reference", "a\0b", "'a\\x00b' has characters that are not printable ASCII"),
    ("reference", "caf\u00e9", "'caf\\xe9' has characters that are not printable ASCII"),
    # F77: text for people and banks
    ("beneficiary_name", "", "is empty"),
    ("beneficiary_name", "\u00a0", "is empty"),
    ("beneficiary_name", "x" * 141, "has 141 characters, at most 140 are allowed"),
    ("beneficiary_name", "a\0b", "has the character U+0000, which is not allowed"),
    ("beneficiary_name", "a\x1b[2Jb", "has the character U+001B, which is not allowed"),
    ("beneficiary_name", "a\u202eb", "has the character U+202E, which is not allowed"),
    ("beneficiary_name", "a\u2066b", "has the character U+2066, which is not allowed"),
    ("beneficiary_name", "a\u200bb", "has the character U+200B, which is not allowed"),
    ("beneficiary_name", "a\ufeffb", "has the character U+FEFF, which is not allowed"),
    ("beneficiary_name", "a\u0085b", "has the character U+0085, which is not allowed"),
    ("beneficiary_name", "a\u2028b", "has the character U+2028, which is not allowed"),
    ("beneficiary_name", "a\uffffb", "has the character U+FFFF, which is not allowed"),
    ("description", "a\tb", "has the character U+0009, which is not allowed"),
    ("description", "x" * 141, "has 141 characters, at most 140 are allowed"),
    ("metadata.note", "x" * 501, "has 501 characters, at most 500 are allowed"),
    # IBANs
    ("beneficiary_iban", "", "is empty"),
    (
        "beneficiary_iban",
        "DE88370400440532013000",
        "'DE88370400440532013000' is not an IBAN: the check digits are wrong",
    ),
    (
        "beneficiary_iban",
        "DE8937040044053201300",
        "'DE8937040044053201300' is not an IBAN: the length is wrong for its country",
    ),
    (
        "beneficiary_iban",
        "ZZ89370400440532013000",
        "'ZZ89370400440532013000' is not an IBAN: the country has no IBANs",
    ),
    ("beneficiary_iban", "12345678", "'12345678' is not an IBAN: wrong form"),
    (
        "beneficiary_iban",
        "DE89-3704-0044-0532-0130-00",
        "'DE89-3704-0044-0532-0130-00' is not an IBAN: only A-Z, 0-9 and spaces are allowed",
    ),
    (  # F77: a Cyrillic capital Ie
        "beneficiary_iban",
        "D\u041589370400440532013000",
        "'D\\u041589370400440532013000' is not an IBAN: only A-Z, 0-9 and spaces are allowed",
    ),
    # the rest
    ("priority", "urgent", "'urgent' is none of batch, standard, instant"),
    (
        "due_at",
        "2026-01-31",
        "'2026-01-31' is not a time with an offset, such as 2026-01-31T09:00:00Z",
    ),
    (
        "due_at",
        "2026-01-31T09:00:00",
        "'2026-01-31T09:00:00' is not a time with an offset, such as 2026-01-31T09:00:00Z",
    ),
    (
        "due_at",
        "2026-02-30T09:00:00Z",
        "'2026-02-30T09:00:00Z' is not a date and time that exists",
    ),
    (
        "due_at",
        "0001-01-01T00:00:00+14:00",
        "'0001-01-01T00:00:00+14:00' is not a date and time that exists",
    ),
]


@pytest.mark.parametrize(("column", "value", "reason"), BAD_CELLS)
def test_a_bad_cell_is_named(column: str, value: str, reason: str) -> None:
    """F70-F77: one fault, with its line, its column and its reason; the message is plain ASCII."""
    assert faults(row(**{column: value})) == [f"line 2: {column}: {reason}"]


# --- what is refused, in the file ----------------------------------------------------------------

BAD_FILES = {
    "empty": (b"", ["the file is empty"]),
    "only line ends": (b"\r\n\n\r", ["the file is empty"]),
    "only a byte order mark": (b"\xef\xbb\xbf", ["the file is empty"]),
    "only column names": (HEADER.encode(), ["the file has column names but no rows"]),
    "UTF-16 with its mark": (
        f"{HEADER}\n{GOOD}".encode("utf-16"),
        ["the file is UTF-16, not UTF-8: save it as UTF-8"],
    ),
    "UTF-16 without": (
        f"{HEADER}\n{GOOD}".encode("utf-16-le"),
        ["line 1: row: has NUL bytes: save the file as UTF-8"],
    ),
    "Latin-1": (
        f"{HEADER}\n{GOOD}\nINV-2,1.00,EUR,Ren\u00e9,{IBAN}\n".encode("latin-1"),
        [
            (
                "line 3: row: byte 0xE9 at position 19 is not UTF-8: save the file as UTF-8"
                " (it may be Latin-1 or Windows-1252)"
            )
        ],
    ),
    "missing column": (
        HEADER.removesuffix(",beneficiary_iban").encode() + b"\nINV-1,-1,EUR,Jane\n",
        ["line 1: beneficiary_iban: this column is missing", "line 2: amount: '-1' is negative"],
    ),
    "unknown column": (
        f"{HEADER},iban\n{GOOD},x\n".encode(),
        ["line 1: iban: unknown column"],
    ),
    "capital letters in a column": (
        f"{HEADER.replace('amount', 'Amount')}\n{GOOD}\n".encode(),
        [
            "line 1: Amount: unknown column: did you mean amount?",
            "line 1: amount: this column is missing",
        ],
    ),
    "a column twice": (
        f"{HEADER},amount\n{GOOD},1\n".encode(),
        ["line 1: amount: is there twice"],
    ),
    "a column without a name": (
        f"{HEADER},\n{GOOD},\n".encode(),
        ["line 1: : a column has no name"],
    ),
    "a bad metadata column": (
        f"{HEADER},metadata.\n{GOOD},x\n".encode(),
        ["line 1: metadata.: unknown column"],
    ),
    "too many metadata columns": (
        f"{HEADER}{''.join(f',metadata.k{n}' for n in range(21))}\n{GOOD}{',' * 21}\n".encode(),
        ["line 1: metadata: 21 columns, at most 20 are allowed"],
    ),
    "a NUL in the column names": (
        f"{HEADER}\0\n{GOOD}\n".encode(),
        ["line 1: row: has NUL bytes: save the file as UTF-8"],
    ),
    "too few and too many fields": (
        f"{HEADER}\n{GOOD},x\nINV-2,1.00\n".encode(),
        [
            "line 2: row: has 6 fields, the header has 5",
            "line 3: row: has 2 fields, the header has 5",
        ],
    ),
    "a line break in quotes": (
        f'{HEADER}\nINV-1,1.00,EUR,"Jane\nDoe",{IBAN}\n'.encode(),
        [
            "line 2: row: a quoted field is not closed on its line",
            "line 3: row: has 2 fields, the header has 5",
        ],
    ),
    "a quote that never ends": (
        f'{HEADER}\n"INV-1,1.00,EUR,Jane,{IBAN}\n{GOOD}\n'.encode(),
        ["line 2: row: a quoted field is not closed on its line"],
    ),
    "a reference twice": (
        f"{HEADER}\n{GOOD}\n\n{GOOD}\n".encode(),
        ["line 4: reference: 'INV-1' is also on line 2"],
    ),
    "a huge field": (
        f"{HEADER}\nINV-1,1.00,EUR,{'x' * 200_000},{IBAN}\n{GOOD}\n".encode(),
        ["line 2: row: is longer than 16,384 bytes"],
    ),
    "several faults": (
        f"{HEADER}\n,-1,EURO,,x\n{GOOD}\n".encode(),
        [
            "line 2: reference: is empty",
            "line 2: currency: 'EURO' is not a known currency",
            "line 2: amount: '-1' is negative",
            "line 2: beneficiary_name: is empty",
            "line 2: beneficiary_iban: 'x' is not an IBAN: wrong form",
        ],
    ),
}


@pytest.mark.parametrize(("data", "lines"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_by_line(data: bytes, lines: list[str]) -> None:
    """F76, F77, F82: every fault of the file at once, in the order of its lines."""
    assert faults(data) == lines


def test_semicolons_get_a_hint() -> None:
    """What spreadsheets write in much of Europe."""
    assert faults(HEADER.replace(",", ";").encode())[0].endswith(
        "columns are separated by commas, not by semicolons or tabs"
    )


def test_all_faults_are_counted_and_fifty_are_shown() -> None:
    """The list stays readable."""
    rows = "".join(f"INV-{number},-1,EUR,Jane,{IBAN}\n" for number in range(1_234))
    with pytest.raises(PayoutFileRefused) as refused:
        parse(f"{HEADER}\n{rows}".encode())
    lines = refused.value.lines()
    assert len(lines) == 51
    assert lines[49] == "line 51: amount: '-1' is negative"
    assert lines[50] == "and 1,184 more"
    assert refused.value.count == 1_234


def test_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound itself is fine; one more is refused at once."""
    monkeypatch.setattr(payout_file, "ROWS_MAX", 3)
    rows = [GOOD.replace("INV-1", f"INV-{number}") for number in range(5)]
    assert len(parse("\n".join([HEADER, *rows[:3]]).encode())) == 3
    assert faults("\n".join([HEADER, *rows]).encode()) == [
        "line 5: row: the file has more than 3 rows: split it"
    ]


def test_a_line_at_the_limit_is_read() -> None:
    """The limit is in bytes, without the line's end."""
    padding = payout_file.LINE_BYTES_MAX - len(GOOD)
    data = f"{HEADER}\n{GOOD}{' ' * padding}\n{GOOD.replace('-1', '-2')}\n".encode()
    assert len(parse(data)) == 2
    assert faults(data.replace(b"  \n", b"   \n")) == ["line 2: row: is longer than 16,384 bytes"]


# --- what is refused before it is read -----------------------------------------------------------


def refusal(path: Path) -> str:
    """The one line that is printed for a path."""
    with pytest.raises(PayoutFileRefused) as refused:
        read_payout_file(path)
    (line,) = refused.value.lines()
    return line


def test_a_file_of_200_mb_is_refused_by_its_size(tmp_path: Path) -> None:
    """F76: not a byte of it is read, so neither time nor memory is spent."""
    path = tmp_path / "big.csv"
    with path.open("wb") as stream:
        stream.truncate(200 * 1024 * 1024)
    tracemalloc.start()
    line = refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert line == f"{path} has 200 MiB, at most 64 MiB are read: split it"
    assert peak < 1_000_000


def test_a_file_that_grows_while_it_is_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """F76: the size is also counted as it is read, over long lines too."""
    monkeypatch.setattr(payout_file, "BYTES_MAX", 100_000)
    assert faults(f"{HEADER}\n{'x' * 200_000}".encode()) == [
        "the file has more than 0 MiB: split it"
    ]


def test_what_is_no_readable_file(tmp_path: Path) -> None:
    """Each gets its own sentence."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert refusal(tmp_path) == f"{tmp_path} is a directory"
    assert refusal(fifo) == f"{fifo} is not a regular file"
    assert refusal(Path("/dev/zero")) == "/dev/zero is not a regular file"
    missing = tmp_path / "missing.csv"
    assert refusal(missing) == f"{missing} cannot be read: No such file or directory"
    assert refusal(Path("a\0b")) == "'a\\x00b' is not a file name"
    assert refusal(tmp_path / ("x" * 300)).endswith("File name too long")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file(tmp_path: Path) -> None:
    """Permissions."""
    path = tmp_path / "closed.csv"
    path.touch(mode=0o000)
    assert refusal(path) == f"{path} cannot be read: Permission denied"


@given(st.binary(max_size=600))
def test_no_bytes_make_anything_but_faults(data: bytes) -> None:
    """F76, F77: whatever is in the file, the answer is a list of faults."""
    assert faults(HEADER.encode() + b"\n" + data + b"\n,")


@given(st.text(max_size=200))
def test_messages_are_safe_in_a_terminal(text: str) -> None:
    """A file's content can't send escape sequences to the terminal of who checks it."""
    data = row(amount=text, beneficiary_iban=text, reference=text + "\u00e9", priority=text or "x")
    for line in faults(data):
        assert line.isascii()
        assert line.isprintable()
