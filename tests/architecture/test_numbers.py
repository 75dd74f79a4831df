"""The F and I numbers that code and tests cite are explained in one place."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_CITED = re.compile(r"(?<!noqa: )\b[FI][0-9]{1,3}\b")
_EXPLAINED = re.compile(r"^\| ([FI][0-9]{1,3}) \|", re.MULTILINE)
_FOLDERS = ("src", "tests", "docs/decisions")


def _explained() -> list[str]:
    return _EXPLAINED.findall((ROOT / "docs/failures.md").read_text(encoding="utf-8"))


def test_every_number_is_explained_once() -> None:
    """A number that stands twice would mean two things."""
    wanted = [f"F{n}" for n in range(1, 93)] + [f"I{n}" for n in range(1, 27)]

    assert wanted == _explained()


def test_every_cited_number_is_explained() -> None:
    """A reader can look up what a test is there for."""
    explained = set(_explained())
    texts = {
        path: path.read_text(encoding="utf-8")
        for folder in _FOLDERS
        for suffix in ("py", "sql", "md")
        for path in (ROOT / folder).rglob(f"*.{suffix}")
        if path != Path(__file__)
    }

    unknown = {
        f"{path.relative_to(ROOT)}: {number}"
        for path, text in texts.items()
        for number in _CITED.findall(text)
        if number not in explained
    }

    assert unknown == set()
