"""The transfers behind a payout."""

import re
from typing import Any, Final

from fastapi import FastAPI, Response

from bursar.api.admission import access
from bursar.api.errors import NotFound
from bursar.api.replies import document_response
from bursar.api.responses import TransferList
from bursar.api.route import Admitted
from bursar.identity.model import Action
from bursar.ledger.model import Transfer
from bursar.ledger.store import list_transfers
from bursar.payouts.fields import REFERENCE_CHARS_MAX

_REF: Final = re.compile(rf"[\x20-\x7e]{{1,{REFERENCE_CHARS_MAX}}}\Z")


@access(Action.LEDGER_READ, refuses=(NotFound,))
async def transfers(call: Admitted, ref: str) -> Response:
    """All transfers about a payout, by its id or your reference, in the order they were made."""
    found = []
    if _REF.match(ref):
        found = await list_transfers(call.deps.pool, call.merchant_id, ref)
    if not found:
        raise NotFound("There are no transfers about this.")
    return document_response({"data": [_transfer(transfer) for transfer in found]})


def _transfer(transfer: Transfer) -> dict[str, Any]:
    return {
        "id": transfer.id,
        "kind": transfer.kind,
        "recipe": transfer.recipe,
        "subject_id": transfer.subject_id,
        "debit": transfer.debit,
        "credit": transfer.credit,
        "amount": transfer.amount,
        "currency": transfer.currency,
        "hold_id": transfer.hold_id,
        "pending_id": transfer.pending_id,
        "journal_seq": transfer.journal_seq,
        "at": transfer.at,
    }


def add_routes(app: FastAPI) -> None:
    """Add the routes of the ledger. A reference may hold slashes."""
    app.add_api_route(
        "/ledger/{ref:path}",
        transfers,
        methods=["GET"],
        response_model=TransferList,
        tags=["ledger"],
    )
