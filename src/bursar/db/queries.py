"""SQL kept in `.sql` files, each statement under a `-- name: what_it_does` line.

Comments after the marker belong to the statement and are sent with it, where they help
whoever reads the server's log. Before the first marker only comments may stand.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bursar.db.errors import QueryFileInvalid

_MARKER = re.compile(r"--\s*name:\s*(\S+)\s*\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class Queries(Mapping[str, str]):
    """The statements of one file: `queries["lock_accounts"]`, or `queries.lock_accounts`.

    Frozen. An unknown name is a KeyError or AttributeError.
    """

    __slots__ = ("_texts",)
    _texts: dict[str, str]

    def __init__(self, texts: Mapping[str, str]) -> None:
        object.__setattr__(self, "_texts", dict(texts))

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __getattr__(self, name: str) -> str:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        message = "named queries are frozen"
        raise TypeError(message)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def load_queries(package_file: str, name: str = "queries.sql") -> Queries:
    """Read the named queries beside `package_file` (a module's `__file__`).

    Raises QueryFileInvalid with the file and line for a duplicate or malformed name, an empty
    statement, or text before the first name.
    """
    path = Path(package_file).with_name(name)
    return Queries(parse_queries(path.read_text(encoding="utf-8"), source=name))


def parse_queries(text: str, *, source: str) -> dict[str, str]:
    """Split `text` into name -> statement; `source` stands in the errors. See `load_queries`."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        marker = _MARKER.match(line.strip())
        if marker is not None:
            current = found.setdefault(_new_name(marker[1], found, f"{source}:{number}"), [])
        elif current is not None:
            current.append(line)
        elif line.strip() and not line.lstrip().startswith("--"):
            raise QueryFileInvalid(f"{source}:{number}: text before the first `-- name:` line")
    return {name: _statement(name, lines, source) for name, lines in found.items()}


def _new_name(name: str, found: Mapping[str, object], place: str) -> str:
    if not _NAME.match(name):
        raise QueryFileInvalid(f"{place}: {name!r} is not a lower_case_name")
    if name in found:
        raise QueryFileInvalid(f"{place}: {name!r} stands twice")
    if name in dir(Queries):
        raise QueryFileInvalid(f"{place}: {name!r} is a method's name")
    return name


def _statement(name: str, lines: list[str], source: str) -> str:
    text = "\n".join(lines).strip().removesuffix(";").rstrip()
    if not any(line.strip() and not line.lstrip().startswith("--") for line in lines):
        raise QueryFileInvalid(f"{source}: {name!r} has no statement")
    return text
