"""Every fault strikes in every thousand seeds, or it is improbable that it should have."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from soak.tally import (
    BY_CHANCE,
    CHUNK,
    THOUSAND,
    Tally,
    Thousands,
    chance_of_missing,
    lacking,
    missing_lines,
)

FIRST = 77


def played(count: int, struck: Iterable[int]) -> tuple[Thousands, Tally]:
    """A run of `count` seeds, in parts that come in any order; a fault fires in some of them."""
    seeds = set(struck)
    thousands, tally = Thousands(FIRST, ("f",)), Tally()
    starts = list(range(0, count, CHUNK))
    random.Random(1).shuffle(starts)
    for start in starts:
        end = min(start + CHUNK, count)
        part = Tally(schedules=end - start)
        times = len(seeds & set(range(start, end)))
        if times:
            part.struck["f"] += times
        tally.add(part)
        thousands.add(FIRST + start, part)
    return thousands, tally


@pytest.mark.parametrize(
    ("count", "struck", "fails"),
    [
        (999, (), False),  # too few to say anything
        (1000, (), True),
        (1000, (999,), False),
        (1999, range(1000, 1999), True),  # only in what is no whole thousand
        (2000, (), True),
        (2000, (3, 1500), False),
        (2000, range(5), False),  # one seed in 16 such runs
        (2000, range(30), True),  # one in 2**29
        (3000, (*range(40), *range(2000, 2040)), True),
        (5000, range(0, 1000, 400), False),
        (5000, range(0, 1000, 100), True),  # four thousands without any of ten
        (5000, range(0, 4000, 80), False),  # one of five without any of fifty
        (5000, range(0, 4000, 40), True),
    ],
)
def test_a_fault_is_lacking_unless_chance_explains_it(
    count: int, struck: Iterable[int], *, fails: bool
) -> None:
    """Missing in all thousands; or in so many that by chance it would hardly ever be."""
    thousands, tally = played(count, struck)
    assert lacking(thousands, tally) == (["f"] if fails else [])
    assert any(line.startswith("LACKING: f") for line in missing_lines(thousands, tally)) == fails


def test_the_thousands_of_a_long_run_are_forgotten() -> None:
    """Only what was missing is kept, so that a run of any length needs no more memory."""
    thousands, _ = played(20_500, range(0, 20_500, 2))
    assert (thousands.whole, thousands.missing) == (20, {})
    assert thousands.unfinished == 1
    one, _ = played(20_000, (number for number in range(20_000) if number // THOUSAND != 3))
    assert one.missing == {"f": [FIRST + 3 * THOUSAND]}


def test_the_chance_is_no_smaller_than_it_is() -> None:
    """Runs drawn at random are without a fault at least as seldom as is said."""
    chance, runs, whole, struck = random.Random(5), 4000, 5, 9
    counts = [0] * (whole + 1)
    for _ in range(runs):
        met = {seed // THOUSAND for seed in chance.sample(range(whole * THOUSAND), struck)}
        for missing in range(1, whole - len(met) + 1):
            counts[missing] += 1
    for missing in range(1, whole):
        said = chance_of_missing(missing, whole, struck=struck, schedules=whole * THOUSAND)
        assert counts[missing] / runs <= said * 1.2 + 0.005
    assert chance_of_missing(whole, whole, struck=struck, schedules=whole * THOUSAND) == 0
    assert (
        BY_CHANCE
        < chance_of_missing(1, 2, struck=5, schedules=2000)
        == pytest.approx(2 * 0.5**5, rel=0.05)
    )
