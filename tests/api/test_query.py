"""Parameters that nobody knows or that come twice; bodies that are no object."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import Api
from tests.api.test_access import routes
from tests.api.test_bad_input import problem_of


async def ask(api: Api, method: str, path: str, query: str) -> httpx.Response:
    """A request of merchant A with a query; its path names nothing that is there."""
    nobody = f"{0:032x}"
    where = path.format(
        payout_id=f"po_{nobody}", alert_id=f"inc_{nobody}", currency="EUR", ref="none"
    )
    headers = api.headers(Idempotency_Key=f"q-{api.next_number()}")
    body: dict[str, Any] | None = {} if method == "POST" else None
    return await api.client.request(method, f"{where}?{query}", json=body, headers=headers)


async def test_an_unknown_parameter_is_refused_on_every_route(api: Api) -> None:
    """F75: what is misspelt is not passed over, whatever else is wrong with the request."""
    keys = await api.count("idempotency_keys")
    for method, path, _ in routes(api):
        for query, name in (("sate=settled", "sate"), ("x", "x"), ("=1", ""), ("%00=1", "\0")):
            answer = await ask(api, method, path, query)

            problem = problem_of(answer)
            assert (answer.status_code, problem["code"]) == (422, "invalid_parameter"), path
            assert (problem["parameter"], problem["detail"]) == (name, "This is not known here.")
    assert await api.count("idempotency_keys") == keys


async def test_an_empty_query_is_none(api: Api) -> None:
    """A question mark alone names no parameter."""
    assert (await api.get("/payouts?")).status_code == 200
    assert (await api.get("/payouts?&")).status_code == 200


TWICE = [
    ("limit=1&limit=2", "limit"),
    ("limit=1&limit=1", "limit"),
    ("limit=1&LIMIT=1", "LIMIT"),
    ("state=failed&state=settled", "state"),
    ("reference=a&limit=1&reference=b", "reference"),
    ("cursor=a&cursor=a", "cursor"),
    ("limit=1&%6cimit=2", "limit"),
    ("limit=&limit", "limit"),
]


@pytest.mark.parametrize(("query", "name"), TWICE)
async def test_a_parameter_that_comes_twice_is_refused(api: Api, query: str, name: str) -> None:
    """F75: two readers would take different ones of the two."""
    problem = problem_of(await api.get(f"/payouts?{query}"))

    assert (problem["status"], problem["code"]) == (422, "invalid_parameter")
    assert problem["parameter"] == name
    if name.islower():
        assert problem["detail"] == "This may be given only once."


async def test_every_fault_of_a_query_is_listed(api: Api) -> None:
    """The first is the answer's own, all stand in `errors`, at most twenty."""
    problem = problem_of(await api.get("/payouts?x=1&limit=1&limit=2"))
    assert [fault["parameter"] for fault in problem["errors"]] == ["x", "limit"]

    many = "&".join(f"x{number}=1" for number in range(30))
    problem = problem_of(await api.get(f"/payouts?{many}"))
    assert len(problem["errors"]) == 20


async def test_only_ids_may_be_repeated(api: Api) -> None:
    """Each one asks for one more payout."""
    made = [await api.payout() for _ in range(3)]

    answer = await api.get(f"/payouts?id={made[0]['id']}&limit=9&id={made[2]['id']}")

    assert {one["id"] for one in answer.json()["data"]} == {made[0]["id"], made[2]["id"]}


async def test_nobody_learns_of_parameters_before_they_are_known(api: Api) -> None:
    """Who asks comes first."""
    assert (await api.client.get("/payouts?x=1")).status_code == 401


NO_OBJECTS: list[bytes] = [b"[]", b"[{}]", b'"x"', b"1", b"0", b"1.5", b"true", b"false", b"null"]
WRITES = ["/payouts", "/payouts/{}/cancel", "/accounts/EUR/fund"]


@pytest.mark.parametrize("path", WRITES)
async def test_a_body_that_is_no_object_is_told_so(api: Api, path: str) -> None:
    """F76: on every write, also where the body may be left out; nothing is done."""
    made = await api.payout()
    keys = await api.count("idempotency_keys")
    for body in NO_OBJECTS:
        problem = problem_of(await api.post(path.format(made["id"]), raw=body))

        assert (problem["status"], problem["code"]) == (422, "invalid_field"), body
        assert (problem["pointer"], problem["detail"]) == ("", "An object is expected."), body
    assert await api.count("idempotency_keys") == keys
    assert (await api.get(f"/payouts/{made['id']}")).json()["state"] == "funds_locked"


@pytest.mark.parametrize("path", ["/payouts", "/accounts/EUR/fund"])
async def test_an_empty_body_is_told_what_is_expected(api: Api, path: str) -> None:
    """Nothing is no JSON."""
    problem = problem_of(await api.post(path))

    assert (problem["status"], problem["code"]) == (400, "malformed_json")
    assert problem["detail"] == "The body is empty: an object is expected."


NOT_OBJECTS: list[Any] = [[], "x", 1, None, True]


async def test_a_field_that_is_no_object_is_told_so_too(api: Api) -> None:
    """In our words, not in the name of a class of ours."""
    for field in ("beneficiary", "metadata"):
        for value in NOT_OBJECTS:
            problem = problem_of(await api.post("/payouts", api.body(**{field: value})))

            assert problem["pointer"] == f"/{field}"
            assert problem["detail"] == "An object is expected.", value
