"""Golden scenarios over the twin: every single crash here, every pair in `./dev soak`."""

import pytest

from bursar.kit.crashpoints import Side, Step
from soak.pairs import (
    CUTS,
    PASSINGS,
    SCENARIOS,
    SEEN,
    Digest,
    Scenario,
    all_pairs,
    differences,
    play,
)
from soak.schedule import silence

POINTS = {*(f"{step}:{side}" for step in Step for side in Side), *CUTS}


@pytest.mark.timeout(120)
def test_every_golden_scenario_survives_every_single_crash() -> None:
    """F1 to F6, F8, I25: it ends as without a crash, and no invariant breaks on the way.

    That is the same payout, balances, holds, incidents and statements. Every point is met, and so
    are the cuts of COMMIT; what every group passes is met in group after group.
    """
    report = all_pairs(pairs=False)
    assert not report.faults, "\n".join(report.lines())
    assert report.calm == len(SCENARIOS)
    assert report.points == POINTS
    in_every_group = {point for point in POINTS if point.startswith("engine.")}
    often = {f"{point}:{number}" for point in in_every_group for number in range(1, PASSINGS + 1)}
    assert often <= set(report.reached)


def test_a_golden_scenario_survives_every_pair_of_crashes() -> None:
    """As above, with a second crash at every point that comes after the first."""
    scenario = next(one for one in SCENARIOS if one.name == "executed at once")
    report = all_pairs([scenario], passings=2)
    assert not report.faults, "\n".join(report.lines())
    assert report.pairs > MANY


MANY = 300


def test_a_crash_comes_at_the_passing_that_is_named() -> None:
    """The count begins anew after each; one that never comes is told."""
    scenario = next(one for one in SCENARIOS if one.name == "executed at once")
    with silence():
        calm = play(scenario)
        point = "engine.commit:cut_lost"
        times = calm.passed[point]
        last = play(scenario, [f"{point}:{times}"])
        assert last.crashes == 1
        assert last.passed[point] == 1, "the group is committed again, and nothing comes after"
        assert play(scenario, [f"{point}:{times + 1}"]).crashes == 0
        assert play(scenario, [f"{point}:{times}", f"{point}:1"]).crashes == 2


def test_another_end_is_told() -> None:
    """The runner must be able to fail."""
    right = SCENARIOS[0]
    wrong = Scenario(right.name, "cancelled", right.bias)
    report = all_pairs([wrong], pairs=False)
    assert report.faults[0] == f"{right.name}, calm: it ended ['settled'], not cancelled"


def test_a_digest_holds_all_that_the_business_sees() -> None:
    """Nothing in it is empty for a reason of its own, and each part of it is compared."""
    with silence():
        digest = play(SCENARIOS[0]).digest
    assert set(digest) == {*SEEN, "open attempts", "statements"}
    assert {name for name, rows in digest.items() if not rows} == {"incidents", "open attempts"}
    assert any(row.startswith("bank, debit, ") for row in digest["statements"])
    assert differences(digest, digest) is None


@pytest.mark.parametrize("part", [*SEEN, "open attempts", "statements"])
def test_another_digest_is_told(part: str) -> None:
    """A balance, a hold or an incident too many or too few is a fault."""
    calm: Digest = {name: ["as it was"] for name in (*SEEN, "open attempts", "statements")}
    for rows in ([], ["as it was", "as it was"], ["otherwise"]):
        told = differences(calm | {part: rows}, calm)
        assert told is not None
        assert told.startswith(f"{part}: ")
