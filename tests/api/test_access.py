"""Who may do what: every route x no key, bad keys, every role, another merchant, the platform."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi.routing import APIRoute

from bursar.api.admission import Access, access
from bursar.api.route import Route
from bursar.identity.commands import CreateApiKey, RevokeApiKey
from bursar.identity.model import Action, Role, allowed, issue_key
from bursar.identity.store import TTL_S
from bursar.kit.ids import SystemIds, new_secret
from tests.api.conftest import ORIGIN, Api

PUBLIC = {("POST", "/webhooks/provider"), ("GET", "/health"), ("GET", "/openapi.json")}


def routes(api: Api) -> Iterator[tuple[str, str, Access]]:
    """Method, path and access of every route."""
    for route in api.app.routes:
        assert isinstance(route, Route)
        for method in route.methods or ():
            yield method, route.path_format, route.access


async def call(
    api: Api, method: str, path: str, key: str | None, payout_id: str, alert_id: str = ""
) -> httpx.Response:
    """A good request to a route."""
    alert_id = alert_id or payout_id.replace("po_", "inc_")
    body = {
        "/payouts": api.body(amount=10),
        "/payouts/{payout_id}/cancel": {},
        "/payouts/{payout_id}/retry": {},
        "/payouts/{payout_id}/resolve": {
            "verdict": "executed",
            "provider_reference": "bt_1",
            "evidence": "a letter",
        },
        "/payouts/ops/alerts/{alert_id}/resolve": {"note": "seen to"},
        "/payouts/ops/alerts/{alert_id}/assign": {},
        "/accounts/{currency}/fund": {"amount": 10},
    }.get(path)
    where = path.format(payout_id=payout_id, alert_id=alert_id, currency="EUR", ref=payout_id)
    headers = {"Idempotency-Key": f"matrix-{api.next_number()}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    if method == "GET":
        return await api.client.get(where, headers=headers)
    return await api.client.request(method, where, json=body, headers=headers)


async def test_every_route_names_an_action_or_is_known_to_be_public(api: Api) -> None:
    """F67: a route that nobody thought about does not exist."""
    public = {(method, path) for method, path, asked in routes(api) if asked.action is None}
    named = {asked.action for _, _, asked in routes(api)} - {None}

    assert public == PUBLIC
    assert named == set(Action)


def test_a_route_without_access_can_not_be_made() -> None:
    """F67: forgetting it fails at start, not in production."""

    async def endpoint() -> None: ...

    with pytest.raises(TypeError, match="who may call"):
        Route("/x", endpoint)
    assert isinstance(Route("/x", access(None)(endpoint)), APIRoute)


async def test_no_key_and_bad_keys_are_401_on_every_route(api: Api) -> None:
    """F67: and all bad keys get the same answer."""
    made = await api.payout()
    good = api.keys[Role.ADMIN]
    bad: list[str | None] = [
        None,
        "",
        "sk_sandbox_",
        "sk_sandbox_" + "A" * 43,
        good[:-1],
        good + "A",
        good.replace("sandbox", "production"),
        good.upper(),
        "a" * 5_000,
    ]
    for method, path, asked in routes(api):
        if asked.action is None:
            continue
        details = set()
        for key in bad:
            answer = await call(api, method, path, key, made["id"])
            assert answer.status_code == 401, (method, path, key)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["code"] == "unauthorized"
            if key is not None:
                details.add(answer.json()["detail"])
        assert len(details) == 1
    assert await api.count("payouts") == 1


async def test_other_schemes_are_401(api: Api) -> None:
    """Only Bearer is known, whatever follows it."""
    for header in ("Basic dTpw", "Bearer", "bearer x y", "sk_sandbox_x", "Bearer \xe9"):
        headers = {b"authorization": header.encode("latin-1")}
        answer = await api.client.get("/accounts", headers=headers)

        assert answer.status_code == 401


async def test_two_authorization_headers_are_401(api: Api) -> None:
    """A proxy and we could read different ones."""
    good = ("Authorization", f"Bearer {api.keys[Role.ADMIN]}")

    answer = await api.client.get("/accounts", headers=[good, good])

    assert answer.status_code == 401


async def test_roles_may_do_what_the_policy_says_and_no_more(api: Api) -> None:
    """F67: routes x roles; a forbidden one is 403 and does nothing."""
    for role in Role:
        for method, path, asked in routes(api):
            if asked.action is None:
                continue
            payout_id, alert_id = await _fit_for(api, path)
            before = await api.count("journal")
            answer = await call(api, method, path, api.keys[role], payout_id, alert_id)
            if allowed(role, asked.action):
                assert answer.is_success, (role, path, answer.text)
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
                assert await api.count("journal") == before


async def _fit_for(api: Api, path: str) -> tuple[str, str]:
    """The ids of a payout and an alert that a route can do its work on."""
    if path.endswith("{payout_id}/retry"):
        made = await api.failed(amount=10)
    elif path.endswith("{payout_id}/resolve"):
        made = await api.begun(amount=10)
        await api.long_ago()
    else:
        made = await api.payout(amount=10)
    return made["id"], await api.alert()


async def test_another_merchants_objects_are_not_there(api: Api) -> None:
    """F67: 404 as if they did not exist, lists without them, and no effect."""
    made = await api.payout()
    alert_id = await api.alert()
    for method, path, asked in routes(api):
        if asked.action is None or "{" not in path or "currency" in path:
            continue
        own = await call(api, method, path, api.other_key, made["id"], alert_id)
        nobodys = await call(api, method, path, api.other_key, f"po_{'0' * 32}")
        assert own.status_code == nobodys.status_code == 404, (method, path)
        assert own.json()["code"] == nobodys.json()["code"]

    listed = await call(api, "GET", "/payouts", api.other_key, made["id"])
    asked_for = await api.client.get(
        "/payouts", params={"id": made["id"]}, headers={"Authorization": f"Bearer {api.other_key}"}
    )
    alerts = await call(api, "GET", "/payouts/ops/alerts", api.other_key, made["id"])
    accounts = await call(api, "GET", "/accounts", api.other_key, made["id"])
    by_reference = await api.client.get(
        f"/ledger/{made['reference']}", headers={"Authorization": f"Bearer {api.other_key}"}
    )

    assert alerts.json()["data"] == []
    assert listed.json()["data"] == asked_for.json()["data"] == []
    assert all(account["balance"] == 0 for account in accounts.json()["data"])
    assert by_reference.status_code == 404
    assert (await api.get(f"/payouts/{made['id']}")).json()["state"] == "funds_locked"


async def test_the_merchant_comes_from_the_key_alone(api: Api) -> None:
    """F67: headers, query and body can't name another merchant."""
    made = await api.payout()

    answer = await api.client.get(
        f"/payouts/{made['id']}",
        headers={
            "Authorization": f"Bearer {api.other_key}",
            "X-Merchant-Id": f"mer_{10:032x}",
            "X-Role": "admin",
            "X-User-Id": "per_1",
        },
    )
    in_body = await api.post("/payouts", api.body(merchant_id=f"mer_{11:032x}"))

    assert answer.status_code == 404
    assert (in_body.status_code, in_body.json()["pointer"]) == (422, "/merchant_id")


async def test_a_platform_key_does_not_act_for_a_merchant(api: Api) -> None:
    """It has no merchant, so there is nothing to list and nobody to pay for."""
    for method, path, asked in routes(api):
        if asked.action is not None and not asked.platform:
            answer = await call(api, method, path, api.platform_key, f"po_{'0' * 32}")
            assert (answer.status_code, answer.json()["code"]) == (403, "merchant_scope_required")


async def test_nobody_costs_a_body_before_they_are_known(api: Api) -> None:
    """A bad key hears of its key, not of its body: nothing was read."""
    answer = await api.client.post("/payouts", content=b"{" * 100_000)

    assert answer.status_code == 401


async def test_a_revoked_key_is_refused_within_a_second(api: Api) -> None:
    """The memory of a key is shorter than a second, from before it was read."""
    issued = issue_key("sandbox", new_secret())
    key_id = SystemIds().new("key")
    await api.owner.submit(
        CreateApiKey(
            origin=ORIGIN,
            key_id=key_id,
            key_hash=issued.key_hash,
            prefix=issued.prefix,
            merchant_id=f"mer_{10:032x}",
            person_id="per_x",
            person_name="Grace",
            role=Role.FINANCE_OPS,
        )
    )
    headers = {"Authorization": f"Bearer {issued.text}"}
    assert (await api.client.get("/accounts", headers=headers)).status_code == 200

    await api.owner.submit(RevokeApiKey(origin=ORIGIN, key_id=key_id))
    api.clock.now += TTL_S

    assert TTL_S < 1
    assert (await api.client.get("/accounts", headers=headers)).status_code == 401


async def test_an_expired_key_is_refused(api: Api) -> None:
    """By the database's clock (F39)."""
    issued = issue_key("sandbox", new_secret())
    await api.owner.submit(
        CreateApiKey(
            origin=ORIGIN,
            key_id=SystemIds().new("key"),
            key_hash=issued.key_hash,
            prefix=issued.prefix,
            merchant_id=f"mer_{10:032x}",
            person_id="per_x",
            person_name="Grace",
            role=Role.FINANCE_OPS,
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
        )
    )

    answer = await api.client.get("/accounts", headers={"Authorization": f"Bearer {issued.text}"})

    assert answer.status_code == 401
