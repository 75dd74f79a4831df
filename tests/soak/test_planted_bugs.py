"""Every planted bug is caught: a simulator that finds nothing proves nothing about its checker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from soak.bugs import BUGS, named
from soak.schedule import run, silence

ROOT = Path(__file__).parents[2]
BUGS_MIN = 55
CHECKS = ("clients", "faces", "invariants", "judgement", "schedule", "wire")


@pytest.mark.parametrize("name", [bug.name for bug in BUGS])
def test_it_is_caught(name: str) -> None:
    """Its patch fits the source exactly once, and some seed breaks an invariant that it names.

    That seed breaks none without the bug.
    """
    hunt = subprocess.run(
        [sys.executable, "-m", "soak.bugs", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert hunt.returncode == 0, f"{hunt.stdout[-2000:]}\n{hunt.stderr[-3000:]}"
    caught = re.match(r"caught at seed (\d+) by (\w+): ", hunt.stdout)
    assert caught is not None, hunt.stdout
    assert caught[2] in named(name).by
    with silence():
        assert run(int(caught[1]), bias=named(name).bias).violation is None


def test_there_are_enough_of_them() -> None:
    """Each under a name of its own."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= BUGS_MIN


def test_no_check_is_without_a_bug() -> None:
    """Every invariant that the schedules check is what some planted bug must be caught by."""
    sources = [(ROOT / "soak" / f"{name}.py").read_text(encoding="utf-8") for name in CHECKS]
    checked = {number for source in sources for number in re.findall(r'"([FI]\d+)"', source)}
    assert checked
    assert checked <= {bug.by[0] for bug in BUGS}
