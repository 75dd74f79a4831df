"""What a wire is: how one provider's requests, answers and webhooks are spelled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bursar_sim.provider.model import Line, Notice, Order, Transfer
from bursar_sim.provider.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One provider's name, routes, terms and codec; the codec's functions are pure."""

    name: str
    "On webhooks, in paths and of its books' file."
    title: str
    'As in "The bank failed".'
    orders: str
    "The collection in its paths: `/bank/transfers`."
    thing: str
    'As in "The bank knows no such transfer".'
    created: int
    "Status of the answer to a new order."
    reused: tuple[str, str]
    "Code and reason where the key names another order."
    terms: Terms
    parse_key: Callable[[str], str]
    "The key in a path. Raises `BadRequest`."
    parse_order: Callable[[bytes, Sequence[str], str | None], Order]
    "Body, values of the header Idempotency-Key, correlation id. Raises `BadRequest`."
    answer_body: Callable[[Transfer, bool], bytes]
    "What an order is answered; whether it is the first answer."
    refusal_body: Callable[[Transfer, str], bytes]
    "An answer that refuses, for a code."
    status_body: Callable[[Transfer], bytes]
    "What inquiry answers."
    line_body: Callable[[int, Line], dict[str, object]]
    "A numbered line of the statement."
    event_body: Callable[[Notice], bytes]
    "A webhook, which is signed and sent as it stands."
