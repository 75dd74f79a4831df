"""BURSAR_CRASH_AT: names a crash point, in the sandbox only."""

import pytest

from bursar.kit.crashpoints import Side, Step
from bursar.settings import SettingsInvalid, load_settings

PRODUCTION = {
    "BURSAR_MODE": "production",
    "BURSAR_BANK_URL": "https://bank.example",
    "BURSAR_BANK_API_KEY": "a key of its own",
    "BURSAR_BANK_WEBHOOK_SECRET": "a secret of its own",
    "BURSAR_OFFRAMP_URL": "https://offramp.example",
    "BURSAR_OFFRAMP_API_KEY": "another key",
    "BURSAR_OFFRAMP_WEBHOOK_SECRET": "another secret",
    "DATABASE_URL": "postgresql://bursar@db.example/bursar",
}


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("times", ["", ":1", ":12"])
def test_every_crash_point_can_be_named(
    step: Step, side: Side, times: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STEP:SIDE and STEP:SIDE:TIMES."""
    monkeypatch.setenv("BURSAR_CRASH_AT", f"{step}:{side}{times}")
    assert load_settings().crash_at == f"{step}:{side}{times}"


@pytest.mark.parametrize(
    "text",
    [
        *("", "api.reply", "api.reply:", "api.reply:during", "nowhere:before"),
        *("api.reply:before:0", "api.reply:before:-1", "api.reply:before:x"),
        "api.reply:before:1:1",
    ],
)
def test_what_names_no_crash_point_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the variable."""
    monkeypatch.setenv("BURSAR_CRASH_AT", text)
    with pytest.raises(SettingsInvalid, match="BURSAR_CRASH_AT: a crash point is"):
        load_settings()


def test_production_has_no_crash_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in production makes a process die on purpose."""
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    assert load_settings().crash_at is None
    monkeypatch.setenv("BURSAR_CRASH_AT", "payout.submit:before")
    with pytest.raises(SettingsInvalid, match="BURSAR_CRASH_AT is refused in production"):
        load_settings()
