"""What `./dev soak` is asked: a mistake is told in a line, and a summary does not mislead."""

from pathlib import Path

import pytest

from soak.__main__ import main, report
from soak.tally import Tally

EMPTY = '{"seed": 1, "draws": {}, "dropped": []}'


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--schedules", "0"), "'0' is no whole number from 1 on"),
        (("--schedules=-5",), "'-5' is no whole number from 1 on"),
        (("--workers", "x"), "'x' is no whole number from 1 on"),
        (("--kills", "0"), "'0' is no whole number from 1 on"),
        (("--chaos", "0"), "'0' is no whole number from 1 on"),
        (("--postgres=-1",), "'-1' is no whole number from 1 on"),
        (("--kills", "3", "--chaos", "60"), "one run at a time, not --kills and --chaos"),
        (("--pairs", "--postgres", "1"), "one run at a time, not --pairs and --postgres"),
        (("--replay", "0", "--kills", "1"), "one run at a time, not --replay and --kills"),
        (("--schedules", "9", "--pairs"), "one run at a time, not --schedules and --pairs"),
        (("--tape", "{dir}/none"), "none cannot be read: No such file or directory"),
        (("--tape", "{dir}"), "cannot be read: Is a directory"),
        (("--tape", "{dir}/bad"), "bad is no tape: "),
        (("--tape", "{dir}/short"), "short is no tape: "),
    ],
)
def test_a_mistake_is_told_in_a_line(
    arguments: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is played, and the exit code is that of wrong usage."""
    tmp_path.joinpath("bad").write_bytes(b"\xff{")
    tmp_path.joinpath("short").write_text('{"seed": 1}')
    with pytest.raises(SystemExit) as caught:
        main([part.format(dir=tmp_path) for part in arguments])
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert line in last


def test_a_tape_is_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Draws that are not recorded are the harmless ones."""
    tmp_path.joinpath("tape.json").write_text(EMPTY)
    assert main(["--tape", str(tmp_path / "tape.json")]) == 0
    assert "violation: None" in capsys.readouterr().out


def test_a_summary_says_where_payouts_stand(capsys: pytest.CaptureFixture[str]) -> None:
    """Open ones did not end; and two schedules are too few to say anything of others."""
    tally = Tally(schedules=2)
    tally.ends.update({"settled": 3, "sending": 1})
    report(tally, 1.0)
    out = capsys.readouterr().out
    assert "payouts stand at the end: settled 3, sending 1" in out
    assert "confidence" not in out
