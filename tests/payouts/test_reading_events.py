"""Stored events are read as what they were stored as, or not at all."""

from __future__ import annotations

import json

import pytest

from bursar.payouts.jobs import _read, _why
from bursar.rails.bank import webhooks
from bursar.rails.errors import ProviderEventInvalid

EVENT = {
    "event_id": "evt_1",
    "type": "transfer.settled",
    "data": {"transfer_id": "bt_1", "end_to_end_id": "pa-1", "amount": 1, "currency": "EUR"},
}


def test_an_event_is_read_under_its_own_id() -> None:
    """F45: bytes that were no text, written out, may read as another event."""
    body = json.dumps(EVENT)
    assert _read(webhooks, "evt_1", body).event_id == "evt_1"
    with pytest.raises(ProviderEventInvalid) as refused:
        _read(webhooks, "sha256:00", body)
    assert _why(refused.value) == (
        "It can't be read: another event than it was stored as, at /event_id."
    )


def test_people_are_told_what_can_not_be_read() -> None:
    """F45: by the field; what else goes wrong stands in the log."""
    with pytest.raises(ProviderEventInvalid) as refused:
        _read(webhooks, "evt_1", json.dumps(EVENT | {"type": "unheard_of"}))
    assert _why(refused.value).endswith(", at /type.")
    assert _why(KeyError("x")) == "It could not be applied; the log says why."
