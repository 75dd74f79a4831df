"""The routes of payouts, from request to rows and back."""

import asyncio
import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

from bursar.api.responses import AccountList, Payout, PayoutDetail, PayoutList, TransferList
from bursar.db.connection import connect
from bursar.payouts.machine import State
from tests.api.conftest import Api
from tests.conftest import Database


async def test_a_payout_is_made_and_its_funds_are_locked(api: Api) -> None:
    """F70, F71: the fee is 20 basis points, half up; amounts go in and out as integers."""
    answer = await api.post("/payouts", api.body(amount=12_345, metadata={"order": "77"}))

    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    made = Payout.model_validate_json(answer.content)
    assert (made.amount, made.fee, made.state) == (12_345, 25, "funds_locked")
    assert made.metadata == {"order": "77"}
    accounts = AccountList.model_validate_json((await api.get("/accounts")).content)
    available = next(a for a in accounts.data if (a.role, a.currency) == ("available", "EUR"))
    assert available.debits_pending == 12_345 + 25
    assert available.balance == 1_000_000
    book = next(b for b in accounts.books if b.currency == "EUR")
    assert (book.debits, book.credits, book.balanced) == (1_000_000, 1_000_000, True)


async def test_a_payout_is_shown_with_its_attempts_and_history(api: Api) -> None:
    """The detail says who did what under which correlation id."""
    answer = await api.post("/payouts", api.body(), X_Correlation_Id="my-trace.1")
    made = answer.json()

    found = PayoutDetail.model_validate_json((await api.get(f"/payouts/{made['id']}")).content)

    assert found.attempts == []
    assert [(line.from_, line.to) for line in found.history] == [("created", "funds_locked")]
    assert found.history[0].correlation_id == "my-trace.1"
    assert found.history[0].actor.startswith("per_")
    shown = (await api.get(f"/payouts/{made['id']}")).json()
    assert {name: shown[name] for name in made} == made


async def test_the_ledger_of_a_payout_by_id_and_by_reference(api: Api) -> None:
    """Both legs of the hold, whichever name is asked for; a reference may hold a slash."""
    made = await api.payout(reference="2026/INV 7")

    by_id = await api.get(f"/ledger/{made['id']}")
    by_reference = await api.get("/ledger/2026/INV%207")

    assert by_id.status_code == by_reference.status_code == 200
    assert by_id.content == by_reference.content
    legs = TransferList.model_validate_json(by_id.content).data
    assert [(leg.kind, leg.amount) for leg in legs] == [("pending", 12_345), ("pending", 25)]


async def test_pages_follow_each_other_without_gap_or_repetition(api: Api) -> None:
    """Payouts of one commit share their time; the cursor still tells them apart."""
    made = await asyncio.gather(*(api.payout(amount=100) for _ in range(7)))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = PayoutList.model_validate_json((await api.get("/payouts", params=params)).content)
        seen += [payout.id for payout in page.data]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert sorted(seen) == sorted(payout["id"] for payout in made)
    assert len(seen) == 7


async def test_filters_choose(api: Api) -> None:
    """State, reference and up to 100 ids."""
    made = [await api.payout(amount=100) for _ in range(3)]
    await api.post(f"/payouts/{made[0]['id']}/cancel", {"reason": "ordered twice"})

    async def ids(**params: object) -> set[str]:
        answer = await api.get("/payouts", params=params)
        assert answer.status_code == 200, answer.text
        return {payout["id"] for payout in answer.json()["data"]}

    assert await ids(state="cancelled") == {made[0]["id"]}
    assert await ids(reference=made[1]["reference"]) == {made[1]["id"]}
    assert await ids(id=[made[1]["id"], made[2]["id"]]) == {made[1]["id"], made[2]["id"]}
    assert await ids(id=made[1]["id"], state="cancelled") == set()


def _cursor(at: str) -> str:
    place = f"{at}|po_{1:032x}"
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


BAD_QUERIES: list[tuple[dict[str, Any], str]] = [
    ({"limit": "0"}, "limit"),
    ({"limit": "201"}, "limit"),
    ({"limit": "1_0"}, "limit"),
    ({"limit": " 10"}, "limit"),
    ({"limit": "1e1"}, "limit"),
    ({"limit": "٣"}, "limit"),
    ({"state": "gone"}, "state"),
    ({"sate": "settled"}, "sate"),
    ({"cursor": "x"}, "cursor"),
    ({"cursor": "é"}, "cursor"),
    ({"cursor": "MjAyNi0wMS0wMVQwMDowMDowMHxwb18x"}, "cursor"),
    ({"cursor": _cursor("0001-01-01T00:00:00+01:00")}, "cursor"),
    ({"cursor": _cursor("9999-12-31T23:59:59-01:00")}, "cursor"),
    ({"cursor": _cursor("2026-01-01T00:00:00")}, "cursor"),
    ({"reference": ""}, "reference"),
    ({"reference": "a\0b"}, "reference"),
    ({"id": "po_1"}, "id/0"),
    ({"id": ["po_" + "0" * 32] * 101}, "id"),
]


async def test_a_query_is_refused_by_the_name_of_its_parameter(api: Api) -> None:
    """F75, F77: nothing is guessed, and a misspelt filter does not list everything."""
    for params, parameter in BAD_QUERIES:
        answer = await api.get("/payouts", params=params)

        assert answer.status_code == 422, params
        assert answer.json()["code"] == "invalid_parameter"
        assert answer.json()["parameter"] == parameter


async def test_a_cursor_of_any_time_is_read(api: Api) -> None:
    """The calendar's ends and foreign offsets are places like others."""
    await api.payout()
    for at, found in (
        ("0001-01-01T00:00:00+00:00", 0),
        ("9999-12-31T23:59:59.999999+00:00", 1),
        ("2999-01-01T00:00:00+14:00", 1),
    ):
        answer = await api.get("/payouts", params={"cursor": _cursor(at)})
        assert answer.status_code == 200, at
        assert len(answer.json()["data"]) == found, at


async def test_cancelling_frees_the_funds_once(api: Api) -> None:
    """F34: the second cancel is told where the payout stands."""
    made = await api.payout()

    cancelled = await api.post(f"/payouts/{made['id']}/cancel")
    again = await api.post(f"/payouts/{made['id']}/cancel", {})

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert (again.status_code, again.json()["code"]) == (409, "already_dispatched")
    assert (again.json()["state"], again.json()["detail"]) == (
        "cancelled",
        "The payout is cancelled.",
    )
    accounts = (await api.get("/accounts")).json()["data"]
    assert all(account["debits_pending"] == 0 for account in accounts)


async def test_too_little_money_refuses_and_stores_nothing_but_the_answer(api: Api) -> None:
    """F37: the refusal is stored with its key; there is no payout and no hold."""
    answer = await api.post("/payouts", api.body(amount=1_000_000))

    assert (answer.status_code, answer.json()["code"]) == (422, "insufficient_funds")
    assert answer.headers["content-type"] == "application/problem+json"
    assert [await api.count(t) for t in ("payouts", "holds", "payout_references")] == [0, 0, 0]


async def test_a_reference_is_one_payout_for_ever(api: Api) -> None:
    """F43: another key does not help; the answer names the payout that there is."""
    made = await api.payout()

    again = await api.post("/payouts", api.body(reference=made["reference"]))

    assert (again.status_code, again.json()["code"]) == (409, "duplicate_reference")
    assert again.json()["payout_id"] == made["id"]
    assert again.json()["pointer"] == "/reference"


async def test_a_payout_can_wait_for_its_day_but_not_for_years(api: Api) -> None:
    """`due_at` is kept in UTC; more than a year ahead is refused."""
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    offset = soon.astimezone().isoformat() if soon.astimezone().utcoffset() else soon.isoformat()

    made = await api.payout(due_at=offset)
    body = api.body(due_at=(soon + timedelta(days=400)).isoformat())
    late = await api.post("/payouts", body, key="late")
    again = await api.post("/payouts", body, key="late")

    assert datetime.fromisoformat(made["due_at"]) == soon
    assert (late.status_code, late.json()["pointer"]) == (422, "/due_at")
    assert late.json()["code"] == "invalid_field"
    assert again.content == late.content
    assert again.headers["idempotency-replayed"] == "true"


async def test_currencies_of_other_exponents(api: Api) -> None:
    """F74: minor units are minor units; 0, 3 and 6 decimals make no difference here."""
    for currency in ("JPY", "KWD", "USDC"):
        await api.fund(currency, 10**15)
        made = await api.payout(currency=currency, amount=999_999_999_999)
        assert (made["amount"], made["fee"]) == (999_999_999_999, 2_000_000_000)


async def test_text_in_other_scripts_comes_back_unchanged(api: Api) -> None:
    """Names are not ASCII; escapes and bytes read the same."""
    name = "Жанна Müller 李雷"
    body = api.body(beneficiary={"name": name, "iban": "de89 3704 0044 0532 0130 00"})

    escaped = await api.post("/payouts", raw=json.dumps(body).encode())
    body["reference"] += "b"
    plain = await api.post("/payouts", raw=json.dumps(body, ensure_ascii=False).encode())

    for answer in (escaped, plain):
        assert answer.json()["beneficiary"] == {"name": name, "iban": "DE89370400440532013000"}


async def test_what_can_not_be_cancelled_has_one_code(api: Api, database: Database) -> None:
    """F34: too late is `already_dispatched`, whatever came in between; `state` says where it is."""
    made = await api.payout()
    owner = await connect(database.dsns.owner, name="tests")
    for state in sorted(set(State) - {State.FUNDS_LOCKED, State.IN_REVIEW}):
        await owner.execute("UPDATE payouts SET state = $1", state)

        answer = await api.post(f"/payouts/{made['id']}/cancel")

        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "already_dispatched"), state
        assert (problem["state"], problem["detail"]) == (state, f"The payout is {state}.")
        assert await api.pool.fetchval("SELECT state FROM payouts") == state
    await owner.close()


async def test_the_description_has_one_code_for_too_late(api: Api) -> None:
    """A client that branches on the code needs no list of states."""
    document = (await api.client.get("/openapi.json")).json()
    refused = document["paths"]["/payouts/{payout_id}/cancel"]["post"]["responses"]["409"]

    assert "`already_dispatched`" in refused["description"]
    assert "already_ended" not in str(document)
