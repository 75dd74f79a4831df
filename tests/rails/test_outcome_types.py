"""Failing over without proof does not type-check (F16)."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import bursar
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Outcome, Unknown

SOURCE = Path(next(iter(bursar.__path__))).parent

PREAMBLE = """
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Outcome, Unknown
from bursar.rails.proof import judge_submit, retry_elsewhere
def provider_says() -> Outcome: raise NotImplementedError
said = provider_says()
"""

SNIPPETS = {
    "proven": ("if isinstance(said, NotExecuted): retry_elsewhere(said)", True),
    "narrowed": (
        """match said:
    case NotExecuted(): retry_elsewhere(said)
    case Executed() | Accepted() | Unknown(): pass""",
        True,
    ),
    "unjudged": ("retry_elsewhere(said)", False),
    "unknown": ("retry_elsewhere(Unknown('deadline_exceeded'))", False),
    "accepted": ("retry_elsewhere(Accepted('bt_1'))", False),
    "executed": (
        "retry_elsewhere(Executed(provider_ref='b', amount_minor=1, currency='EUR'))",
        False,
    ),
    "wrong_branch": ("if isinstance(said, Unknown): retry_elsewhere(said)", False),
    "not_executed_or_unknown": (
        "if not isinstance(said, (Executed, Accepted)): retry_elsewhere(said)",
        False,
    ),
    "without_proof": ("retry_elsewhere()", False),
    "relabelled": ("retry_elsewhere(NotExecuted('timeout'))", False),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says about each snippet, all in one run."""
    folder = tmp_path_factory.mktemp("snippets")
    for name, (code, _) in SNIPPETS.items():
        (folder / f"case_{name}.py").write_text(PREAMBLE + code + "\n")
    mypy = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--config-file=", "--cache-dir=cache", "--follow-imports=silent"),
            *(f"case_{name}.py" for name in SNIPPETS),
        ],
        cwd=folder,
        env={"MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert mypy.returncode in {0, 1}, mypy.stderr
    found: dict[str, list[str]] = {name: [] for name in SNIPPETS}
    for line in mypy.stdout.splitlines():
        name = line.partition(".py:")[0].removeprefix("case_")
        found[name].append(line)
    return found


@pytest.mark.parametrize("name", SNIPPETS)
def test_only_proof_opens_the_door(verdicts: dict[str, list[str]], name: str) -> None:
    """F16: `retry_elsewhere` takes proof; every other outcome is refused by type."""
    _, allowed = SNIPPETS[name]

    if allowed:
        assert verdicts[name] == []
    else:
        assert verdicts[name]
        assert all(line.endswith(("[arg-type]", "[call-arg]")) for line in verdicts[name])


@pytest.mark.parametrize(
    "outcome",
    [
        Executed(provider_ref="bt_1", amount_minor=1, currency="EUR", cost_minor=2),
        Accepted("bt_1"),
        NotExecuted(code="AC04", reason="closed", retryable=False, sent=True),
        Unknown("connection_reset"),
    ],
)
def test_a_stored_outcome_reads_back_as_itself(outcome: Outcome) -> None:
    """The tag keeps an `Accepted` from reading back as an `Executed`."""
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
