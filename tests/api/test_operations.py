"""Alerts, retries and resolutions over HTTP."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from bursar.api.responses import PayoutDetail, Resolution
from bursar.engine.model import PLATFORM
from bursar.identity.model import Role
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.rails.port import EventKind
from tests.api.conftest import MERCHANTS, ORIGIN, Api, make_key
from tests.api.test_bad_input import problem_of
from tests.engine.wiring import reply
from tests.payouts.story import DECLINED, told

ALERTS = "/payouts/ops/alerts"
EXECUTED = {"verdict": "executed", "provider_reference": "bt_1", "evidence": "the bank's letter"}
NOT_EXECUTED = {"verdict": "not_executed", "evidence": "the bank's letter"}


async def second_person(api: Api, person: str = "Barbara") -> str:
    """What the key of another person of merchant A is sent as."""
    key = await make_key(api.owner, MERCHANTS[0], Role.FINANCE_OPS, person=person)
    return f"Bearer {key}"


async def platform(
    api: Api, method: str, path: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    """A request with the platform's key."""
    headers = {
        "Authorization": f"Bearer {api.platform_key}",
        "Idempotency-Key": f"platform-{api.next_number()}",
    }
    return await api.client.request(method, path, json=body, headers=headers)


async def test_a_failed_payout_is_sent_again(api: Api) -> None:
    """Back to `funds_locked`; the same request again gets the same bytes (I10)."""
    made = await api.failed(amount=500)

    first = await api.post(f"/payouts/{made['id']}/retry", {"reason": "new date"}, key="again")
    second = await api.post(f"/payouts/{made['id']}/retry", {"reason": "new date"}, key="again")

    assert (first.status_code, first.json()["state"]) == (200, "funds_locked")
    assert first.json()["failure"] is None
    assert (second.content, second.headers["idempotency-replayed"]) == (first.content, "true")
    history = (await api.get(f"/payouts/{made['id']}")).json()["history"]
    assert (history[-1]["from"], history[-1]["to"]) == ("failed", "funds_locked")
    assert history[-1]["reason"] == "new date"
    assert len((await api.get(f"/ledger/{made['id']}")).json()["data"]) == 6


async def test_what_has_not_failed_is_not_sent_again(api: Api) -> None:
    """409 with the state; a retry needs no body."""
    made = await api.payout()

    problem = problem_of(await api.post(f"/payouts/{made['id']}/retry"))

    assert (problem["status"], problem["code"]) == (409, "not_retryable")
    assert problem["state"] == "funds_locked"


async def test_a_retry_within_the_window_is_told_when(api: Api) -> None:
    """F11: `closes_at` is a time to come back at."""
    made = await api.begun()
    await api.owners_pool.execute(
        "UPDATE attempts SET state = 'failed' WHERE payout_id = $1", made["id"]
    )
    await api.owners_pool.execute("UPDATE payouts SET state = 'failed' WHERE id = $1", made["id"])

    problem = problem_of(await api.post(f"/payouts/{made['id']}/retry"))

    assert (problem["status"], problem["code"]) == (409, "finality_window_open")
    assert problem["closes_at"] > made["created_at"]


async def test_a_retry_without_funds(api: Api) -> None:
    """422, and nothing is changed."""
    made = await api.failed(amount=900_000)
    await api.payout(amount=900_000)

    problem = problem_of(await api.post(f"/payouts/{made['id']}/retry"))

    assert (problem["status"], problem["code"]) == (422, "insufficient_funds")
    assert (await api.get(f"/payouts/{made['id']}")).json()["state"] == "failed"


async def test_two_persons_resolve(api: Api) -> None:
    """F68: 202, then 200 from another person; two keys of one person are one person."""
    made = await api.begun()
    where = f"/payouts/{made['id']}/resolve"
    await api.long_ago()

    before = (await api.get(f"/payouts/{made['id']}")).json()["resolution"]
    proposed = await api.post(where, EXECUTED)
    seen = (await api.get(f"/payouts/{made['id']}")).json()["resolution"]
    same_person = problem_of(await api.post(where, EXECUTED, role=Role.ADMIN))
    other = await second_person(api)
    agreed = {**EXECUTED, "evidence": "the bank's statement"}
    confirmed = await api.post(where, agreed, Authorization=other)
    late = problem_of(await api.post(where, EXECUTED, Authorization=other))

    assert (proposed.status_code, proposed.json()["state"]) == (202, "proposed")
    assert (same_person["status"], same_person["code"]) == (409, "second_person_required")
    assert (confirmed.status_code, confirmed.json()["state"]) == (200, "confirmed")
    assert confirmed.json()["payout_state"] == "settled"
    assert confirmed.json()["confirmed_by"] != confirmed.json()["proposed_by"]
    assert (late["status"], late["code"], late["state"]) == (409, "nothing_to_resolve", "settled")
    shown = PayoutDetail.model_validate_json((await api.get(f"/payouts/{made['id']}")).content)
    assert shown.resolution is not None
    assert (before, seen) == (None, proposed.json())
    assert shown.resolution.model_dump(mode="json") == Resolution.model_validate_json(
        confirmed.content
    ).model_dump(mode="json")
    assert (shown.resolution.evidence, shown.resolution.confirming_evidence) == (
        "the bank's letter",
        "the bank's statement",
    )
    assert (shown.state, shown.provider_reference) == ("settled", "bt_1")
    kinds = [line.kind for line in shown.history]
    assert {"attempt.resolution_proposed", "attempt.resolved"} <= set(kinds)


async def test_another_person_under_the_same_key_is_another_request(api: Api) -> None:
    """F40, F68: who takes over the first one's key is not shown the first one's answer."""
    made = await api.begun()
    where = f"/payouts/{made['id']}/resolve"
    await api.long_ago()
    other = await second_person(api)

    proposed = await api.post(where, EXECUTED, key="said")
    again = await api.post(where, EXECUTED, key="said")
    copied = problem_of(await api.post(where, EXECUTED, key="said", Authorization=other))
    confirmed = await api.post(where, EXECUTED, key="said-2", Authorization=other)

    assert (proposed.status_code, again.content) == (202, proposed.content)
    assert (copied["status"], copied["code"]) == (422, "idempotency_key_reused")
    assert confirmed.status_code == 200


@pytest.mark.parametrize(("said", "state"), [(EXECUTED, "settled"), (NOT_EXECUTED, "failed")])
async def test_people_wait_for_window_and_key(api: Api, said: dict[str, Any], state: str) -> None:
    """F11, F13: whatever they say; then it is applied, as the API's own role."""
    made = await api.begun()
    where = f"/payouts/{made['id']}/resolve"

    early = problem_of(await api.post(where, said))
    await api.long_ago()
    proposed = await api.post(where, said)
    confirmed = await api.post(where, said, Authorization=await second_person(api))

    assert (early["status"], early["code"]) == (409, "finality_window_open")
    assert early["closes_at"] > made["created_at"]
    assert (proposed.status_code, confirmed.status_code) == (202, 200)
    assert confirmed.json()["payout_state"] == state


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"verdict": "executed", "evidence": "x"}, "/provider_reference"),
        ({**NOT_EXECUTED, "provider_reference": "bt_1"}, "/provider_reference"),
        ({**EXECUTED, "provider_reference": ""}, "/provider_reference"),
        ({**EXECUTED, "provider_reference": "bt 1"}, "/provider_reference"),
        ({**EXECUTED, "provider_reference": "b" * 129}, "/provider_reference"),
        ({**EXECUTED, "provider_reference": "bt_é"}, "/provider_reference"),
        ({**EXECUTED, "verdict": "perhaps"}, "/verdict"),
        ({**EXECUTED, "evidence": " "}, "/evidence"),
        ({**EXECUTED, "evidence": "x" * 1001}, "/evidence"),
        ({**EXECUTED, "amount": 1}, "/amount"),
        ({}, "/verdict"),
    ],
)
async def test_bad_words_about_a_payout(api: Api, body: dict[str, Any], pointer: str) -> None:
    """F75: 422 with the field, and nothing is stored."""
    made = await api.begun()

    problem = problem_of(await api.post(f"/payouts/{made['id']}/resolve", body))

    assert (problem["status"], problem["code"]) == (422, "invalid_field")
    assert problem["pointer"] == pointer
    assert await api.pool.fetchval("SELECT count(*) FROM resolutions") == 0


async def owed(api: Api) -> dict[str, Any]:
    """Merchant A owes all of a payout that turned out to be paid: its alert."""
    made = await api.begun(amount=900_000)
    await api.owner.submit(reply(made["attempt"], DECLINED))
    await api.payout(amount=990_000)
    paid = told(EventKind.PAID, attempt=made["attempt"], amount=900_000, cost=0)
    stored: dict[str, Any] = {"origin": ORIGIN, "provider": "bank"}
    await api.owner.submit(ReceiveEvent(**stored, event_id=paid.event_id, body="{}"))
    await api.owner.submit(ApplyEvent(**stored, event=paid, retry_delay=timedelta(0)))
    (alert,) = (await api.get(ALERTS, params={"kind": "merchant_owes"})).json()["data"]
    found: dict[str, Any] = alert
    return found


async def test_alerts_are_listed_page_by_page(api: Api) -> None:
    """Newest first; filtered by state and kind; a cursor goes on where the page ended."""
    made = [await api.alert(kind=kind) for kind in ("amount_mismatch", "paid_and_failed")]
    made += [await api.alert() for _ in range(3)]
    await api.post(f"{ALERTS}/{made[0]}/resolve", {"note": "A typo."})

    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = (await api.get(ALERTS, params={"limit": 2, **cursor})).json()
        seen += [alert["id"] for alert in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == sorted(made, reverse=True) or set(seen) == set(made)
    assert len(seen) == len(made)
    for params, wanted in (
        ({"state": "open"}, set(made[1:])),
        ({"state": "closed"}, {made[0]}),
        ({"kind": "paid_and_failed"}, {made[1]}),
        ({"kind": "paid_and_failed", "state": "closed"}, set()),
        ({"kind": "nothing_like_it"}, set()),
    ):
        found = (await api.get(ALERTS, params=params)).json()["data"]
        assert {alert["id"] for alert in found} == wanted, params


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"state": "ajar"}, "state"),
        ({"kind": "A"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1e1"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": ""}, "cursor"),
    ],
)
async def test_bad_questions_for_alerts(api: Api, params: dict[str, str], name: str) -> None:
    """F75: 422 with the parameter."""
    problem = problem_of(await api.get(ALERTS, params=params))

    assert (problem["status"], problem["code"]) == (422, "invalid_parameter")
    assert problem["parameter"] == name


async def test_a_payouts_cursor_is_none_of_alerts(api: Api) -> None:
    """A cursor belongs to its list."""
    for _ in range(2):
        await api.payout(amount=1)
    cursor = (await api.get("/payouts?limit=1")).json()["next_cursor"]

    assert problem_of(await api.get(ALERTS, params={"cursor": cursor}))["parameter"] == "cursor"


async def test_an_alert_is_taken_up_and_closed(api: Api) -> None:
    """Who looks at it, who closed it and why; once."""
    alert_id = await api.alert()
    where = f"{ALERTS}/{alert_id}"

    taken = await api.post(f"{where}/assign")
    closed = await api.post(f"{where}/resolve", {"note": "A typo."}, key="close")
    again = await api.post(f"{where}/resolve", {"note": "A typo."}, key="close")
    late = problem_of(await api.post(f"{where}/resolve", {"note": "No."}))

    me = taken.json()["assigned_to"]
    assert (taken.status_code, taken.json()["state"]) == (200, "open")
    assert closed.json()["state"] == "closed"
    assert (closed.json()["closed_by"], closed.json()["note"]) == (me, "A typo.")
    assert again.content == closed.content
    assert (late["status"], late["code"]) == (409, "already_closed")
    assert await api.count("incidents") == 1


async def test_an_alert_is_given_to_a_person_of_the_merchant(api: Api) -> None:
    """Nobody else: 422 at the field."""
    alert_id = await api.alert()
    where = f"{ALERTS}/{alert_id}/assign"
    await second_person(api, "Barbara")
    found = await api.owners_pool.fetch("SELECT name, id FROM persons")
    persons = {row["name"]: row["id"] for row in found}

    given = await api.post(where, {"person_id": persons["Barbara"]})
    stranger = problem_of(await api.post(where, {"person_id": persons["Eve"]}))
    nobody = problem_of(await api.post(where, {"person_id": "per_0"}))
    nonsense = problem_of(await api.post(where, {"person_id": "Barbara"}))

    assert given.json()["assigned_to"] == persons["Barbara"]
    for problem in (stranger, nobody):
        assert (problem["status"], problem["code"]) == (422, "unknown_person")
        assert problem["pointer"] == "/person_id"
    assert (nonsense["code"], nonsense["pointer"]) == ("invalid_field", "/person_id")


@pytest.mark.parametrize("body", [{}, {"note": ""}, {"note": "\u202e"}, {"note": 1}, {"x": 1}])
async def test_an_alert_is_not_closed_without_a_word(api: Api, body: dict[str, Any]) -> None:
    """F75, F77: the note says what was done."""
    alert_id = await api.alert()

    problem = problem_of(await api.post(f"{ALERTS}/{alert_id}/resolve", body))

    assert (problem["status"], problem["code"]) == (422, "invalid_field")


async def test_a_debt_is_not_closed_by_a_word(api: Api) -> None:
    """I26: it changes with the balance, and ends when it is paid."""
    alert = await owed(api)

    refused = problem_of(await api.post(f"{ALERTS}/{alert['id']}/resolve", {"note": "fine"}))
    await api.fund(amount=1)
    changed = (await api.get(ALERTS, params={"kind": "merchant_owes"})).json()["data"]
    await api.fund(amount=alert["amount"])
    closed = (await api.get(ALERTS, params={"kind": "merchant_owes"})).json()["data"]

    assert (refused["status"], refused["code"]) == (409, "still_owed")
    assert refused["amount"] == alert["amount"]
    assert [one["amount"] for one in changed] == [alert["amount"] - 1]
    assert [(one["id"], one["state"]) for one in closed] == [(alert["id"], "closed")]


async def test_the_platform_sees_its_own_alerts(api: Api) -> None:
    """What belongs to no merchant; and nobody else sees that."""
    theirs = await api.alert(merchant_id=PLATFORM, kind="unmatched_event")
    own = await api.alert()

    listed = (await platform(api, "GET", ALERTS)).json()["data"]
    merchants = (await api.get(ALERTS)).json()["data"]
    foreign = problem_of(
        await platform(api, "POST", f"{ALERTS}/{own}/resolve", {"note": "not mine"})
    )
    hidden = problem_of(await api.post(f"{ALERTS}/{theirs}/resolve", {"note": "not mine"}))
    taken = await platform(api, "POST", f"{ALERTS}/{theirs}/assign", {})
    closed = await platform(api, "POST", f"{ALERTS}/{theirs}/resolve", {"note": "A test."})

    assert [alert["id"] for alert in listed] == [theirs]
    assert [alert["id"] for alert in merchants] == [own]
    assert foreign["code"] == hidden["code"] == "alert_not_found"
    assert taken.json()["assigned_to"]
    assert closed.json()["state"] == "closed"
