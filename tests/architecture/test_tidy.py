"""The house rules, held over the whole repository; the baseline is a ratchet."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.rules import CONTEXTS, check_grammar, check_python, check_text

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("src", "tests", "bench", "docs", "examples", ".ci")
_TEXT = {".py", ".sql", ".md", ".toml", ".sh", ".txt", ".in", ""}
_LINE = re.compile(r"(\S+ \S+ \S+) (\d+)  # \S.*\Z")


def _files() -> Iterator[Path]:
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in _TEXT and path.name != "LICENSE":
            yield path
    for folder in _FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            hidden = any(part.endswith((".egg-info", "__pycache__")) for part in path.parts)
            if path.is_file() and path.suffix in _TEXT and not hidden:
                yield path


def _found() -> dict[str, int]:
    found: dict[str, int] = {}
    for path in _files():
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        findings = [*check_text(name, text), *check_grammar(name)]
        if path.suffix == ".py":
            findings += check_python(name, text)
        found |= {finding.key: finding.measure for finding in findings}
    return found


def _baseline() -> dict[str, int]:
    known = {}
    for line in (ROOT / "tests/architecture/baseline.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            match = _LINE.match(line)
            assert match is not None, f"no measure or no reason: {line}"
            known[match[1]] = int(match[2])
    return known


def test_every_file_keeps_the_rules() -> None:
    """What is not in the baseline, or has grown beyond it, is an error."""
    known = _baseline()

    broken = [f"{key} {size}" for key, size in _found().items() if size > known.get(key, 0)]

    assert not broken, "\n" + "\n".join(broken)


def test_the_baseline_only_shrinks() -> None:
    """An entry whose finding is gone or smaller must follow it, so that it can't grow back."""
    found = _found()

    stale = {key: size for key, size in _baseline().items() if found.get(key, 0) != size}

    assert stale == {}


def test_every_context_has_a_readme() -> None:
    """Nouns, invariants and states stand beside the code."""
    folders = [ROOT / "src/bursar" / name for name in CONTEXTS]

    lacking = [path.name for path in folders if path.is_dir() and not (path / "README.md").exists()]

    assert lacking == []
