"""The ledger's table, which an accountant can read, played against the real commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.tabletalk import NotUnderstood, Scenario, parse, play

TABLE = Path(__file__).parents[1] / "tables" / "ledger.txt"
SCENARIOS = parse(TABLE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def test_scenario(scenario: Scenario) -> None:
    """I1, I2, I3, I4, I8, I26 after each line; F25, F37, F72, F80 by what the lines say."""
    play(scenario)


_FUNDED = "scenario one\nfund EUR 10.00\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("expect EUR: bank 10.00", "available is 10.00, not 0"),
        ("expect EUR: bank 10.00, available 9.99", "available is 10.00, not 9.99"),
        ("expect EUR: bank 10.00, available 10.00, held 0.01", "held is 0.00, not 0.01"),
        ("expect owed EUR 0.01", "incidents of 0.00"),
        ("payout P1 EUR 10.01", "refused: insufficient_funds"),
        ("payout P1 EUR 10.00 -> insufficient_funds", "ended in held"),
    ],
)
def test_a_wrong_line_is_found(line: str, complaint: str) -> None:
    """A table that could not fail would prove nothing."""
    (scenario,) = parse(_FUNDED + line)
    with pytest.raises(AssertionError, match=f"line 3: .*{complaint}"):
        play(scenario)


@pytest.mark.parametrize(
    "text",
    [
        "fund EUR 10.00",
        _FUNDED + _FUNDED,
    ],
)
def test_a_table_out_of_shape_is_refused(text: str) -> None:
    """A line before any scenario; one title twice."""
    with pytest.raises(NotUnderstood):
        parse(text)


@pytest.mark.parametrize(
    "line", ["funds EUR 1", "fund EUR", "expect EUR: cash 1", "settle P7", "expect nothing"]
)
def test_an_unknown_word_is_refused(line: str) -> None:
    """A line that is not understood is never skipped."""
    (scenario,) = parse(_FUNDED + line)
    with pytest.raises(NotUnderstood):
        play(scenario)
