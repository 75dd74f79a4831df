"""The client's side of the payouts API: one call each, repeated under the same key until answered.

ApiError
├── ApiUnreachable     nobody listens, or what listens is not Bursar
├── ApiKeyRefused      401 or 403
└── NoAnswer           every try up to the deadline ended without an answer
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from bursar.cli.payout_file import PayoutRow
from bursar.kit.backoff import full_jitter
from bursar.kit.canonical import canonical_json
from bursar.kit.clock import Clock
from bursar.kit.ids import Randomness

IDS_PER_QUERY: Final = 100
_BACKOFF_BASE_S: Final = 0.1
_BACKOFF_CAP_S: Final = 2.0
_RETRY_AFTER_CAP_S: Final = 30.0
_SILENCE_S: Final = 2.0
_NO_ANSWER_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CREATED: Final = (200, 201)
_BAD_REFERENCE: Final = (400, 422)
_NO_PAYOUT: Final = "the answer is not a payout: is this a Bursar API?"
_ACCOUNT_TEXTS: Final = ("role", "currency")
_ACCOUNT_COUNTERS: Final = ("debits_pending", "debits_posted", "credits_posted")


class ApiError(Exception):
    """The API cannot be used; the message is for the person at the terminal."""


class ApiUnreachable(ApiError):
    """Nobody answers at the URL, or the one who does is not this API."""


class ApiKeyRefused(ApiError):
    """The API key is unknown, revoked, or may not do this."""


class NoAnswer(ApiError):
    """No try was answered before the deadline. The request may have been executed."""


@dataclass(slots=True)
class Payout:
    """A payout as the API last showed it. Amounts are minor units of `currency`."""

    id: str
    state: str
    amount: int
    currency: str
    fee: int
    provider_cost: int
    failure_code: str
    failure_reason: str
    due_at: str | None
    iban: str

    @property
    def due(self) -> datetime | None:
        """`due_at` in UTC, or None if it is no time."""
        try:
            at = datetime.fromisoformat(self.due_at or "")
            return at.astimezone(UTC) if at.tzinfo is not None else None
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Created:
    """The payout exists; `replayed` if it did before this call."""

    payout: Payout
    replayed: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The API made no payout for this request. `holder`: another payout has the reference.

    `free` is what the account had, in minor units, if it had too little.
    """

    code: str
    detail: str
    replayed: bool
    holder: Payout | None = None
    free: int | None = None


def payout_of(document: dict[str, Any]) -> Payout:
    """The payout in an API document. Raises `ApiUnreachable` if it is no payout."""
    try:
        failure = document.get("failure") or {}
        beneficiary = document.get("beneficiary") or {}
        payout = Payout(
            id=document["id"],
            state=document["state"],
            amount=document["amount"],
            currency=document["currency"],
            fee=document.get("fee") or 0,
            provider_cost=document.get("provider_cost") or 0,
            failure_code=str(failure.get("code") or ""),
            failure_reason=str(failure.get("reason") or ""),
            due_at=document.get("due_at"),
            iban=str(beneficiary.get("iban") or ""),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ApiUnreachable(_NO_PAYOUT) from error
    texts = (payout.id, payout.state, payout.currency, payout.due_at or "")
    amounts = (payout.amount, payout.fee, payout.provider_cost)
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(amount, int) for amount in amounts
    ):
        raise ApiUnreachable(_NO_PAYOUT)
    return payout


class PayoutClient:
    """Calls the API with one key. `deadline` is a monotonic time of the clock, in seconds.

    `on_silence` is called once per outage, when nobody has answered for a while; `on_return` once
    when somebody answers after that.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        clock: Clock,
        randomness: Randomness,
        deadline: float,
        on_silence: Callable[[], None] | None = None,
        on_return: Callable[[], None] | None = None,
    ) -> None:
        self._http = http
        self._clock = clock
        self._randomness = randomness
        self._deadline = deadline
        self._on_silence = on_silence
        self._on_return = on_return
        self._heard_at = clock.monotonic()
        self._silence_told = False

    async def create(self, row: PayoutRow, *, key: str) -> Created | Refused:
        """Ask for the row's payout. The same key and row can be sent any number of times."""
        content = canonical_json(row.body)
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        response = await self._call("POST", "/payouts", content=content, headers=headers)
        replayed = response.headers.get("Idempotency-Replayed", "").lower() == "true"
        document = _document(response)
        if response.status_code in _CREATED:
            return Created(payout_of(document), replayed)
        code = str(document.get("code", f"http_{response.status_code}"))
        if code == "already_executed" and document.get("resource_id"):
            found = await self.by_ids([str(document["resource_id"])])
            if found:
                return Created(found[0], replayed=True)
        where = f" ({document['pointer']})" if document.get("pointer") else ""
        detail = str(document.get("detail") or document.get("title") or "") + where
        free = document.get("available") if code == "insufficient_funds" else None
        return Refused(
            code,
            detail,
            replayed or code == "already_refused",
            free=free if isinstance(free, int) else None,
        )

    async def by_ids(self, ids: Sequence[str]) -> list[Payout]:
        """The payouts with these ids, at most `IDS_PER_QUERY`, in any order."""
        params = httpx.QueryParams([("limit", IDS_PER_QUERY), *(("id", one) for one in ids)])
        return [payout_of(one) for one in _page(await self._call("GET", "/payouts", params=params))]

    async def by_reference(self, reference: str) -> Payout | None:
        """The payout that has this reference, if there is one."""
        params = httpx.QueryParams([("reference", reference)])
        response = await self._call("GET", "/payouts", params=params)
        if response.status_code in _BAD_REFERENCE:
            return None  # what cannot be a reference names no payout
        for one in _page(response):
            payout = payout_of(one)
            if one.get("reference") == reference:
                return payout
        return None

    async def accounts(self, *, once: bool = False) -> dict[str, Any]:
        """The merchant's accounts and books. `once`: a single try, to learn early who is there."""
        document = _document(await self._call("GET", "/accounts", once=once))
        if not (
            _have_all(document.get("data"), _ACCOUNT_TEXTS, _ACCOUNT_COUNTERS)
            and _have_all(document.get("books"), ("currency",), ("debits", "credits", "balanced"))
        ):
            raise ApiUnreachable("the answer is not a list of accounts: is this a Bursar API?")
        return document

    async def _call(
        self,
        method: str,
        path: str,
        *,
        once: bool = False,
        content: bytes | None = None,
        params: httpx.QueryParams | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """The first answer that decides something; no answer and 'later' are tried again."""
        for attempt in range(1, 1_000_000):
            wait_s = 0.0
            try:
                response = await self._http.request(
                    method, path, content=content, params=params, headers=headers
                )
            except httpx.TransportError as error:
                why = f"{type(error).__name__} {error}".strip()
                if not once:
                    self._heard_nothing()
            except httpx.HTTPError as error:
                raise ApiUnreachable(f"the answer cannot be read: {error}") from error
            else:
                self._heard()
                if not _try_again(response):
                    return _allowed(response, self._http.base_url)
                why = f"HTTP {response.status_code}"
                wait_s = _retry_after_s(response)
            if once:
                raise ApiUnreachable(f"no API answers at {self._http.base_url} ({why})")
            wait_s = max(
                wait_s,
                full_jitter(
                    attempt,
                    base_s=_BACKOFF_BASE_S,
                    cap_s=_BACKOFF_CAP_S,
                    randomness=self._randomness,
                ),
            )
            if self._clock.monotonic() + wait_s > self._deadline:
                raise NoAnswer(f"no answer in time after {attempt} tries ({why})")
            await self._clock.sleep(wait_s)
        raise NoAnswer("no answer")

    def _heard(self) -> None:
        self._heard_at = self._clock.monotonic()
        if self._silence_told and self._on_return is not None:
            self._on_return()
        self._silence_told = False

    def _heard_nothing(self) -> None:
        silent_s = self._clock.monotonic() - self._heard_at
        if silent_s >= _SILENCE_S and not self._silence_told and self._on_silence is not None:
            self._silence_told = True
            self._on_silence()


def _try_again(response: httpx.Response) -> bool:
    """Whether the answer decides nothing: the server is busy, failing, or still deciding."""
    if response.status_code in _NO_ANSWER_STATUSES:
        return True
    return response.status_code == httpx.codes.CONFLICT and "retry-after" in response.headers


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), _RETRY_AFTER_CAP_S) if text.isascii() and text.isdigit() else 0.0


def _allowed(response: httpx.Response, url: httpx.URL) -> httpx.Response:
    status = response.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        code = _document(response).get("code", "unauthorized")
        raise ApiKeyRefused(f"the API at {url} refuses the API key ({status} {code})")
    if status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED) or (
        not response.content or 300 <= status < 400  # noqa: PLR2004 - the redirects
    ):
        raise ApiUnreachable(f"{url} answers {status}: is this a Bursar API?")
    return response


def _have_all(found: object, texts: Sequence[str], numbers: Sequence[str]) -> bool:
    """Whether `found` is a list of objects with these members, text and whole numbers."""
    return isinstance(found, list) and all(
        isinstance(one, dict)
        and all(isinstance(one.get(name), str) for name in texts)
        and all(isinstance(one.get(name), int) for name in numbers)
        for one in found
    )


def _page(response: httpx.Response) -> list[Any]:
    data = _document(response).get("data")
    if not isinstance(data, list):
        raise ApiUnreachable("the answer is not a list of payouts: is this a Bursar API?")
    return data


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ApiUnreachable(f"{response.url} does not answer JSON: is this a Bursar API?")
    return document
