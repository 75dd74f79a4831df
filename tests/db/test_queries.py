"""The loader of named queries."""

from pathlib import Path

import pytest

from bursar.db.errors import QueryFileInvalid
from bursar.db.queries import Queries, load_queries, parse_queries

_GOOD = """\
-- What this file is for.

-- name: first
-- Why it is so.
SELECT 1;

-- name: second
SELECT $1::text
  FROM t;
"""


def test_a_statement_keeps_its_comment_and_loses_its_semicolon() -> None:
    """The comment reaches the server's log; a prepared statement takes no semicolon's rest."""
    found = parse_queries(_GOOD, source="x.sql")

    assert found == {
        "first": "-- Why it is so.\nSELECT 1",
        "second": "SELECT $1::text\n  FROM t",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;\n-- name: a\nSELECT 1;", r"x\.sql:1: text before"),
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", r"x\.sql:3: 'a' stands twice"),
        ("-- name: Camel\nSELECT 1;", "not a lower_case_name"),
        ("-- name: a-b\nSELECT 1;", "not a lower_case_name"),
        ("-- name: keys\nSELECT 1;", "a method's name"),
        ("-- name: a\n-- only words\n", "'a' has no statement"),
        ("-- name: a\n\n-- name: b\nSELECT 1;", "'a' has no statement"),
    ],
)
def test_a_doubtful_file_is_refused(text: str, complaint: str) -> None:
    """A query that is silently dropped or replaced would surface in production only."""
    with pytest.raises(QueryFileInvalid, match=complaint):
        parse_queries(text, source="x.sql")


def test_queries_are_read_beside_the_module_and_frozen(tmp_path: Path) -> None:
    """Access by name, by index and by attribute; no change, no typing error unnoticed."""
    tmp_path.joinpath("queries.sql").write_text(_GOOD, encoding="utf-8")

    queries = load_queries(str(tmp_path / "store.py"))

    assert list(queries) == ["first", "second"]
    assert queries.second == queries["second"]
    with pytest.raises(KeyError):
        queries["third"]
    with pytest.raises(AttributeError):
        _ = queries.third
    with pytest.raises(TypeError):
        queries.first = "DROP TABLE t"
    assert isinstance(queries, Queries)
