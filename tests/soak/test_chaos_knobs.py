"""Chaos fails if a knob that is on has no effect, where that is improbable."""

import pytest

from bursar_sim.provider.knobs import RATES
from soak.chaos import NEED_REPEATS, calm_knobs, every_knob, idle_faults, idle_knobs

EXECUTED = {"bank": 6_600, "offramp": 1_650}
"""Of 10,000 payouts."""


@pytest.mark.parametrize("name", EXECUTED)
def test_in_a_long_run_every_knob_has_its_effect(name: str) -> None:
    """Each that is on, but those which need an order that is sent again in time."""
    knobs = set(calm_knobs(name))
    idle = idle_knobs(name, {}, EXECUTED[name])
    assert set(idle) == {f"{name}.{knob}" for knob in knobs}
    found = {fault.split()[0].partition(".")[2] for fault in idle_faults(idle)}
    assert found == knobs - NEED_REPEATS
    assert idle_knobs(name, dict.fromkeys(RATES, 1), EXECUTED[name]) == {}


def test_in_a_short_run_a_knob_may_have_none() -> None:
    """It is listed, with how often it was to have its effect."""
    idle = idle_knobs("offramp", {"lost": 3}, 80)
    assert "offramp.lost" not in idle
    assert idle["offramp.double"] == pytest.approx(1.2)
    assert idle_faults(idle) == []


def test_every_rate_is_turned_on_and_off() -> None:
    """What is on before calm is off after it."""
    on = {text.partition("=")[0] for text in every_knob()}
    assert set(calm_knobs("bank")) <= on
    assert {f"offramp.{knob}" for knob in calm_knobs("offramp")} <= on
