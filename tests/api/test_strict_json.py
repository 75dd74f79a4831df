"""Reading JSON: what two readers could take differently is refused, with its place."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.api.errors import MalformedJson
from bursar.api.strict_json import read_json

REFUSED = [
    (b"", None),
    (b"{", None),
    (b"{}}", None),
    (b"{'a': 1}", None),
    (b'{"a": 1,}', None),
    (b'\xef\xbb\xbf{"a": 1}', None),
    (b'{"a": "\xff"}', None),
    (b'{"a": "\xc0\xaf"}', None),
    (b'{"a": "\xed\xa0\x80"}', None),
    (b'{"a": 01}', None),
    (b'{"a": +1}', None),
    (b'{"a": 0x1}', None),
    (b'{"a": "\n"}', None),
    (b'{"a": "\0"}', None),
    (b'{"a": NaN}', "/a"),
    (b'{"a": [1, -Infinity]}', "/a/1"),
    (b'{"a": {"b": Infinity}}', "/a/b"),
    (b'{"a": 1, "a": 1}', ""),
    (b'{"b": {"a": 1, "\\u0061": 2}}', "/b"),
    (b'{"a": 12345678901234567890}', "/a"),
    (b'{"a": -12345678901234567890}', "/a"),
    (b'{"a": ' + b"9" * 5_000 + b"}", "/a"),
    (b'{"a": "\\u0000"}', "/a"),
    (b'{"a": ["ok", "\\ud800"]}', "/a/1"),
    (b'{"a": "\\udc00\\ud800"}', "/a"),
    (b'{"\\ud800": 1}', ""),
    (b'{"a/b~c": NaN}', "/a~1b~0c"),
    (b"[" * 60_000, None),
    (b"[" * 30_000 + b"]" * 30_000, None),
    (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, None),
    (b'{"' + b"n" * 500 + b'": NaN}', "/" + "n" * 64),
]


@pytest.mark.parametrize(("raw", "place"), REFUSED, ids=lambda value: str(value)[:40])
def test_malformed_json_is_refused_with_its_place(raw: bytes, place: str | None) -> None:
    """F76, F77: never another exception, never a value."""
    with pytest.raises(MalformedJson) as refused:
        read_json(raw)

    assert refused.value.pointer == place


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b' {"a": 1} ', {"a": 1}),
        (b'{"a": -9223372036854775808}', {"a": -(2**63)}),
        (b'{"a": 9223372036854775807}', {"a": 2**63 - 1}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (b'{"a": "\\u00e9\\\\u0000"}', {"a": "é\\u0000"}),
        (b"null", None),
        (b"1e400", float("inf")),
    ],
)
def test_what_is_plain_is_read(raw: bytes, value: object) -> None:
    """The quick reading and the slow one agree."""
    assert read_json(raw) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.booleans(),
)
def test_whatever_we_write_is_read_back_or_refused_for_a_nul(value: object, ascii_: bool) -> None:  # noqa: FBT001
    """F76: a round trip, except for U+0000, which no database text can hold."""
    raw = json.dumps(value, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    if "\\u0000" in json.dumps(value) and "\0" in repr_chars(value):
        with pytest.raises(MalformedJson):
            read_json(raw)
    else:
        assert read_json(raw) == value


def repr_chars(value: object) -> str:
    """All characters of all strings in a value, keys included."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(repr_chars(key) + repr_chars(child) for key, child in value.items())
    if isinstance(value, list):
        return "".join(repr_chars(child) for child in value)
    return ""


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_malformed(raw: bytes) -> None:
    """F76: there is no third way out."""
    with contextlib.suppress(MalformedJson):
        read_json(raw)
