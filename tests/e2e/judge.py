"""The judge: the bank's own statement against every payout and every account. Pure but `gather`.

The bank's statement says what truly left. Nothing of ours is believed: neither a payout's state
nor a balance counts before it agrees with the lines of the statement.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import httpx

from tests.e2e.platform import Platform

PAID: Final = frozenset({"settled", "returned"})
ENDED: Final = PAID | {"failed", "cancelled", "dead_letter"}
_CLEARING: Final = "provider:clearing"
_READERS: Final = 16

Document = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """All there is to judge by: the bank's lines; our payouts, transfers and accounts.

    `payouts` have their attempts; `transfers` are by payout id.
    """

    statement: Sequence[Document]
    payouts: Sequence[Document]
    transfers: dict[str, Sequence[Document]]
    accounts: Sequence[Document]
    books: Sequence[Document]

    def states(self) -> Counter[str]:
        """How many payouts are in each state."""
        return Counter(payout["state"] for payout in self.payouts)

    def unknown_for(self) -> Counter[str]:
        """How often an attempt became unknown, by reason."""
        return Counter(
            line["reason"]
            for payout in self.payouts
            for line in payout["history"]
            if line["kind"] == "attempt.unknown"
        )

    def retried(self) -> int:
        """Payouts that needed more than one attempt."""
        return sum(payout["attempt_count"] > 1 for payout in self.payouts)


def faults(evidence: Evidence) -> list[str]:
    """Every disagreement, in words; empty when the books are what the bank says."""
    return [
        *_double_lines(evidence),
        *_payout_faults(evidence),
        *_account_faults(evidence),
    ]


def _double_lines(evidence: Evidence) -> Iterable[str]:
    """I5: at most one debit, cost and return for each of our keys, and only for ours."""
    counts = Counter((line["kind"], line["end_to_end_id"]) for line in evidence.statement)
    for (kind, key), count in counts.items():
        if count > 1:
            yield f"{key}: {count} lines of {kind}"
    ours = {
        attempt["provider_key"] for payout in evidence.payouts for attempt in payout["attempts"]
    }
    for line in evidence.statement:
        if line["end_to_end_id"] not in ours:
            yield f"{line['end_to_end_id']}: a {line['kind']} that no attempt of ours asked for"


def _payout_faults(evidence: Evidence) -> Iterable[str]:
    lines = defaultdict(list)
    for line in evidence.statement:
        lines[line["end_to_end_id"]].append(line)
    for payout in evidence.payouts:
        mine = [line for attempt in payout["attempts"] for line in lines[attempt["provider_key"]]]
        for fault in one_payout(payout, mine, evidence.transfers[payout["id"]]):
            yield f"{payout['reference']} ({payout['state']}): {fault}"


def one_payout(
    payout: Document, lines: Sequence[Document], transfers: Sequence[Document]
) -> Iterable[str]:
    """I5, I6, I8, I22 for one payout: its state, the bank's lines and its transfers agree."""
    debits = [line for line in lines if line["kind"] == "debit"]
    if payout["state"] not in ENDED:
        yield "still open"
    if any(one["state"] in {"sending", "unknown", "accepted"} for one in payout["attempts"]):
        yield "an attempt is still open"
    if len(debits) > 1:
        yield f"the bank debited it {len(debits)} times"
    if bool(debits) != (payout["state"] in PAID):
        yield f"the bank debited it {len(debits)} times"
    for debit in debits:
        if (debit["amount"], debit["currency"]) != (payout["amount"], payout["currency"]):
            yield f"the bank debited {debit['amount']} {debit['currency']}"
    out = sum(line["amount"] for line in lines if line["kind"] in {"debit", "cost"})
    back = sum(line["amount"] for line in lines if line["kind"] == "return")
    if _moved(transfers, "credit") != out:
        yield f"{_moved(transfers, 'credit')} was booked to clearing, {out} left the bank"
    if _moved(transfers, "debit") != back:
        yield f"{_moved(transfers, 'debit')} was booked from clearing, {back} came back"
    if payout["amount_returned"] != back:
        yield f"{payout['amount_returned']} is said to be returned, {back} came back"
    fees = sum(
        one["amount"]
        for one in transfers
        if one["kind"] in {"post", "posted"} and _role(one["credit"]) == "fees"
    )
    if fees != (payout["fee"] if payout["state"] in PAID else 0):
        yield f"{fees} was booked as our fee"


def _account_faults(evidence: Evidence) -> Iterable[str]:
    """I1, I3, I8: per currency, clearing is the statement; nothing is held; all is balanced."""
    out: Counter[str] = Counter()
    back: Counter[str] = Counter()
    for line in evidence.statement:
        (back if line["kind"] == "return" else out)[line["currency"]] += line["amount"]
    for account in evidence.accounts:
        name = f"{account['role']} {account['currency']}"
        if account["debits_pending"] or account["credits_pending"]:
            yield f"{name}: something is still held"
        if account["role"] == "available" and account["debits_posted"] > account["credits_posted"]:
            yield f"{name}: overdrawn"
        if account["role"] == _CLEARING:
            booked = (account["credits_posted"], account["debits_posted"])
            true = (out.pop(account["currency"], 0), back.pop(account["currency"], 0))
            if booked != true:
                yield f"{name}: {booked} is booked, {true} is on the statement"
    for currency in {*out, *back}:
        yield f"{currency}: on the statement, and no account has it"
    for book in evidence.books:
        if not book["balanced"] or book["debits"] != book["credits"]:
            yield f"{book['currency']}: debits {book['debits']}, credits {book['credits']}"


def _moved(transfers: Sequence[Document], side: str) -> int:
    return sum(
        one["amount"]
        for one in transfers
        if one["kind"] in {"post", "posted"} and _role(one[side]) == _CLEARING
    )


def _role(address: str) -> str:
    return address.split("/")[1]


async def gather(platform: Platform) -> Evidence:
    """Read everything over HTTP: the providers' statements first, then all of ours."""
    lines = await statements(platform)
    async with platform.client(connections=_READERS) as api:
        found = await all_payouts(api)
        ids = [payout["id"] for payout in found]
        details = await each(api, [f"/payouts/{one}" for one in ids])
        transfers = await each(api, [f"/ledger/{one}" for one in ids])
        accounts = await document(api, "/accounts")
    by_id = {one: answer["data"] for one, answer in zip(ids, transfers, strict=True)}
    return Evidence(lines, details, by_id, accounts["data"], accounts["books"])


async def judged(platform: Platform) -> Evidence:
    """The evidence, once it holds no fault."""
    evidence = await gather(platform)
    found = faults(evidence)
    assert not found, "\n".join(found[:20])
    return evidence


def assert_verified(platform: Platform) -> None:
    """`bursar verify` finds nothing, with the checkpoints that were exported meanwhile."""
    anchor = platform.data_dir / "checkpoints.jsonl"
    assert anchor.stat().st_size > 0
    found = platform.bursar("verify", "--anchor", str(anchor))
    assert found.code == 0, found.text


async def statements(platform: Platform) -> list[Document]:
    """What bank and off-ramp executed, the bank's lines first."""
    async with platform.bank() as bank, platform.offramp() as offramp:
        return [*await statement(bank), *await offramp_statement(offramp)]


async def statement(bank: httpx.AsyncClient) -> list[Document]:
    """All lines of the bank's statement, numbered without a gap."""
    lines: list[Document] = []
    after: int | None = 0
    while after is not None:
        page = await document(bank, "/bank/statement", after=after)
        lines += page["lines"]
        after = page["next"]
    assert [line["line"] for line in lines] == list(range(1, len(lines) + 1))
    return lines


async def offramp_statement(offramp: httpx.AsyncClient) -> list[Document]:
    """All lines of the off-ramp's statement, with the bank's names and in our minor units."""
    lines: list[Document] = []
    after: int | None = 0
    while after is not None:
        page = await document(offramp, "/offramp/statement", after=after)
        lines += page["lines"]
        after = page["next"]
    return [
        {
            "kind": line["kind"],
            "end_to_end_id": line["client_reference"],
            "amount": int(Decimal(line["amount"]) * 10**6),
            "currency": line["asset"],
        }
        for line in lines
    ]


async def all_payouts(api: httpx.AsyncClient) -> list[Document]:
    """Every payout of the merchant, as the list shows it."""
    found: list[Document] = []
    query: dict[str, str | int] = {"limit": 200}
    while True:
        page = await document(api, "/payouts", **query)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def document(http: httpx.AsyncClient, path: str, **query: str | int) -> Document:
    """The JSON of a 200."""
    reply = await http.get(path, params=query)
    assert reply.status_code == httpx.codes.OK, f"{path}: {reply.status_code} {reply.text}"
    found: Document = reply.json()
    return found


async def each(http: httpx.AsyncClient, paths: Sequence[str]) -> list[Document]:
    """The JSON of each path, a few at a time."""
    limit = asyncio.Semaphore(_READERS)

    async def read(path: str) -> Document:
        async with limit:
            return await document(http, path)

    return await asyncio.gather(*(read(path) for path in paths))
