"""The coverage table of crash points has no gap, and would show one."""

from collections.abc import Mapping

import pytest

import bursar.api.app
import bursar.bootstrap
import bursar.payouts.jobs  # noqa: F401 - the commands of all processes
from bursar.kit.crashpoints import Step
from tests.crash.aim import WRITES
from tests.crash.cases import API_DEATHS, CUTS, STORIES, WORKER_DEATHS
from tests.crash.table import ANY, EQUAL, commands, commits, passed, passed_in, table, wanted

DEATHS = (*API_DEATHS, *WORKER_DEATHS)
INSIDE: Mapping[str, frozenset[str]] = {
    Step.ENGINE_COMMIT: frozenset({ANY}),
    Step.INBOX_STORE: frozenset({"ReceiveEvent"}),
    Step.INBOX_APPLY: frozenset({"ApplyEvent"}),
    Step.PAYOUT_BEGIN: frozenset({"BeginAttempt"}),
    Step.PAYOUT_RECORD: frozenset({"RecordReply"}),
    Step.PAYOUT_RESEND: frozenset({"ResendAttempt"}),
    Step.PAYOUT_LEARN: frozenset({"RecordInquiry"}),
    Step.PAYOUT_TAKE_OVER: frozenset({"ExpireLease"}),
    Step.PAYOUT_EXPIRE: frozenset({"ExpirePayout"}),
}


def test_no_cell_of_the_table_is_empty() -> None:
    """Point x {before, after, cut}: a step, or a command that commits, without a case."""
    assert wanted() - set(table(DEATHS, CUTS)) == set()
    assert {*(death.story for death in DEATHS), *(cut.story for cut in CUTS)} == set(STORIES)


def test_the_steps_that_commit_are_read_from_the_source() -> None:
    """A command in a step that is not found there would need no case."""
    assert commits() == INSIDE
    # It is told of at two places, with the framework's sending in between.
    assert set(passed()) == set(Step) - {Step.API_REPLY}


def test_every_command_is_cut_or_equal_to_one_that_is() -> None:
    """A new command is in neither list."""
    cut = {part.partition(".")[0] for severing in CUTS for part in severing.commands}
    assert cut | set(EQUAL) == commands()
    assert not cut & set(EQUAL)
    assert set(WRITES) == {part for severing in CUTS for part in severing.commands}


@pytest.mark.parametrize("step", Step)
def test_a_step_without_its_cases_is_told(step: Step) -> None:
    """The table must be able to fail."""
    deaths = [death for death in DEATHS if death.step != step]
    assert wanted() - set(table(deaths, CUTS)) == {(step, "before"), (step, "after")}


@pytest.mark.parametrize("command", sorted(commands() - set(EQUAL)))
def test_a_command_without_its_cuts_is_told(command: str) -> None:
    """Both ways, at every step that its COMMIT is in."""
    cuts = [one for one in CUTS if command not in {part.partition(".")[0] for part in one.commands}]
    told = {kind for _, kind in wanted() - set(table(DEATHS, cuts)) if kind.endswith(command)}
    assert {f"cut.answer {command}", f"cut.request {command}"} <= told


def test_a_new_step_is_told() -> None:
    """With what it commits, if anything."""
    source = """
async def hold(jobs, key):
    command = HoldPayout(payout_id=key)
    with passing(jobs.crash, Step.PAYOUT_SUBMIT):
        await jobs.engine.submit(command)
"""
    ((step, inside),) = passed_in(source)
    assert step == Step.PAYOUT_SUBMIT
    assert inside == {"HoldPayout"}
    cells = wanted([*Step, "payout.hold"], {**commits(), "payout.hold": inside})
    assert cells - set(table(DEATHS, CUTS)) == {
        ("payout.hold", "before"),
        ("payout.hold", "after"),
        ("payout.hold", "cut.answer HoldPayout"),
        ("payout.hold", "cut.request HoldPayout"),
    }
