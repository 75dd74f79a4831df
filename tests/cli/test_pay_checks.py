"""What `bursar pay` checks beyond the form of each row, before the first payout is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from bursar.api import fields as api_fields
from bursar.cli import payout_fields
from tests.cli.fake_api import FakeApi, in_days
from tests.cli.test_pay import HEADER, IBAN, refused, run, write


def _read_name(text: str) -> str:
    return payout_fields.read_text(text, chars_max=140, required=True)


def rows(path: Path, *lines: str) -> Path:
    """A file with these values of currency and due date."""
    made = [
        f"INV-{number},10,{currency},Jane Doe,{IBAN},{due}"
        for number, (currency, _, due) in enumerate(line.partition(" ") for line in lines)
    ]
    path.write_text("\n".join([f"{HEADER},due_at", *made]) + "\n", encoding="utf-8")
    return path


def test_dates_that_the_api_would_refuse_reach_no_server(tmp_path: Path) -> None:
    """More than a year ahead: each line is named beside the other faults, and nothing moves."""
    late = in_days(366)
    path = rows(tmp_path / "p.csv", "EUR", f"EUR {late}", "XXX", f"EUR {in_days(364)}")
    api = FakeApi()

    error = refused(api, path)

    assert error.code == 2
    assert error.lines == (
        f"line 3: due_at: '{late}' is more than 365 days ahead",
        "line 4: currency: 'XXX' is not a known currency",
        f"{path}: 2 faults, nothing moved",
    )
    assert not api.calls


_NAMES = TypeAdapter(api_fields.Name)
_IBANS = TypeAdapter(api_fields.Iban)
_INSTANTS = TypeAdapter(api_fields.Instant)
_REFERENCES = TypeAdapter(api_fields.Reference)


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        *(
            (payout_fields.read_due_at, _INSTANTS, f"2026-01-31{rest}")
            for rest in ("T09:00:00Z", " 09:00:00Z", "t09:00:00z", "T09:00:00", "T24:00:00Z")
        ),
        *(
            (payout_fields.read_due_at, _INSTANTS, f"2026-01-31T09:00:00.{'1' * digits}+01:00")
            for digits in (1, 6, 7, 9, 10)
        ),
        *(
            (payout_fields.read_iban, _IBANS, text)
            for text in (
                *(IBAN, IBAN.lower(), f"{IBAN[:4]} {IBAN[4:]}", f"{IBAN}\u00df", f"{IBAN}0", " "),
                *("XX89370400440532013000", "DE88370400440532013000", f"{IBAN}-", "DE"),
            )
        ),
        *(
            (_read_name, _NAMES, text)
            for text in ("Jane", "\u0646\u200c\u0647", "a\u200bb", "a\tb", " ", "\u202ea", "\ue000")
        ),
        *(
            (payout_fields.read_reference, _REFERENCES, text)
            for text in ("INV 1", "INV\u00e9", "INV\n", "x" * 64, "x" * 65, "", "x", "x\u00a0")
        ),
    ],
)
def test_the_file_and_the_api_agree_on_what_a_field_may_hold(
    ours: Callable[[str], Any], theirs: TypeAdapter[Any], text: str
) -> None:
    """Else a file passes the check and half of it is refused, or cannot be paid at all."""

    def taken(read: Callable[[str], Any]) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    assert taken(ours) == taken(theirs.validate_python)


@pytest.mark.parametrize("text", [" ", "  ", " INV-1", "INV-1 ", "I ", " I"])
def test_a_reference_has_no_space_at_either_end(text: str) -> None:
    """Nobody sees it: a payout of that name could not be found by what people read."""
    for read in (payout_fields.read_reference, _REFERENCES.validate_python):
        with pytest.raises(ValueError, match=r"begins or ends with a space|should match"):
            read(text)


def test_a_date_within_the_year_is_paid(tmp_path: Path) -> None:
    """The last day counts."""
    assert run(FakeApi(), rows(tmp_path / "p.csv", f"EUR {in_days(365)}"), wait=False) == 0


def test_a_currency_without_an_account_stops_the_whole_file(tmp_path: Path) -> None:
    """F72: the lines are named, with what the merchant has; the good rows do not move either."""
    path = rows(tmp_path / "p.csv", "EUR", "CHF", "USD", "BTC", "CHF")
    api = FakeApi(funds={"USD": 10**9, "EUR": 10**9})

    error = refused(api, path)

    assert error.code == 2
    assert error.lines == (
        "line 3: currency: the merchant has no accounts in CHF: it has EUR, USD",
        "line 5: currency: the merchant has no accounts in BTC: it has EUR, USD",
        "line 6: currency: the merchant has no accounts in CHF: it has EUR, USD",
        f"{path}: 3 faults, nothing moved",
    )
    assert dict(api.calls) == {"GET /accounts": 1}


def test_a_merchant_without_accounts(tmp_path: Path) -> None:
    """Of many faults the first are shown, and the rest are counted."""
    error = refused(FakeApi(funds={}), write(tmp_path / "p.csv", 60))

    assert error.code == 2
    assert error.lines[0] == (
        "line 2: currency: the merchant has no accounts in EUR: it has none at all"
    )
    assert error.lines[50] == "and 10 more"


def test_an_account_without_funds_is_an_account(tmp_path: Path) -> None:
    """F37: a shortage is decided row by row, by the server."""
    api = FakeApi(funds={"EUR": 0})

    assert run(api, write(tmp_path / "p.csv", 2)) == 1
    assert api.calls["POST /payouts"] == 2
