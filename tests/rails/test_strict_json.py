"""Reading what providers send."""

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.rails.strict_json import Unreadable, decode_object, plain_text


class Shape(msgspec.Struct):
    """What the tests expect."""

    n: Annotated[int, msgspec.Meta(ge=1)]
    s: str = ""


def test_an_object_is_read_and_extra_fields_are_let_by() -> None:
    """Providers add fields without notice."""
    assert decode_object(b'{"n": 7, "s": "x", "new": [1]}', Shape) == Shape(7, "x")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        *((body, "$") for body in (b"", b" ", b"{", b"null", b"[]", b'"n"', b"7", b'{"n":1}x')),
        *((body, "$") for body in (b"\xff", b'{"n":1,"s":"\xff"}', b'\xef\xbb\xbf{"n":1}')),
        *((body, "$") for body in (b'{"n":1,"n":2}', b'{"n":1,"x":{"a":1,"a":1}}')),
        *((body, "$") for body in (b'{"n":NaN}', b'{"n":1,"x":Infinity}', b'{"n":-Infinity}')),
        *((body, "$") for body in (b'{"n":' + b"9" * 5000 + b"}", b"[" * 99_999)),
        *((body, "$") for body in (b'{"x":' * 99_999, b"{}", b'{"s":"n"}')),
        *((body, "$.n") for body in (b'{"n":true}', b'{"n":1.0}', b'{"n":1e2}', b'{"n":"1"}')),
        *((body, "$.n") for body in (b'{"n":null}', b'{"n":0}', b'{"n":-1}')),
        (b'{"n":1,"s":2}', "$.s"),
    ],
)
def test_anything_else_is_unreadable(body: bytes, path: str) -> None:
    """F75, F76, F77: one error, whatever the trouble, naming the field where there is one."""
    with pytest.raises(Unreadable) as refused:
        decode_object(body, Shape)

    assert refused.value.path == path


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """F76."""
    try:
        decode_object(body, Shape)
    except Unreadable:
        return


@given(st.text(alphabet=st.characters(), max_size=400) | st.none())
def test_text_can_be_stored(text: str | None) -> None:
    """F77: no NUL, no surrogate, no line break, no bidirectional override, at most 140."""
    kept = plain_text(text)

    assert kept.encode().decode() == kept
    assert kept.isprintable()
    assert len(kept) <= 140


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Account closed", "Account closed"),
        ("a\x00b\r\nc", "a b  c"),
        ("\ud800x", "?x"),
        ("pay\u202eeur", "pay eur"),
        ("Zoë 東京", "Zoë 東京"),
        (None, ""),
        ("x" * 999, "x" * 140),
    ],
)
def test_text_examples(text: str | None, kept: str) -> None:
    """F77."""
    assert plain_text(text) == kept
