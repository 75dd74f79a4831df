"""What a run of payouts came to, as plain lines for a terminal or a log. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bursar.cli.pay_run import END_STATES, RowResult, Run
from bursar.money.currency import CURRENCIES
from bursar.money.model import format_major

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_OPEN: Final = 3

_ROWS_SHOWN_MAX: Final = 20
_STATE_ORDER: Final = (
    *("settled", "returned", "failed", "dead_letter", "cancelled", "refused"),
    *("created", "funds_locked", "sending", "sent", "in_review", "unanswered", "waiting"),
)


def exit_code(run: Run, *, wait: bool, books_balance: bool) -> int:
    """0: every payout ended (or, without waiting, exists); 3: some are open; 1: the rest."""
    states = run.tally()
    if not books_balance:
        return EXIT_FAILED
    if states["unanswered"] or states["waiting"] or (wait and run.open_count()):
        return EXIT_OPEN
    return EXIT_FAILED if states["refused"] else EXIT_DONE


def result_lines(run: Run) -> list[str]:
    """Count and amounts by state, failures by reason, refusals by line, fees and costs."""
    lines = _table(
        [
            *(_state_row(run, state) for state in _STATE_ORDER if run.tally()[state]),
            ("fees", "", _sum_fees(run)),
            ("provider costs", "", _sum_costs(run)),
        ]
    )
    failures = Counter(
        (result.payout.failure_code or "unknown", result.payout.failure_reason)
        for result in run.results
        if result.payout is not None and result.state in {"failed", "dead_letter"}
    )
    if failures:
        lines += ["", "failed by reason"]
        lines += [f"  {n:>6,}  {code}  {why}".rstrip() for (code, why), n in failures.most_common()]
    lines += _refused_lines([result for result in run.results if result.refused is not None])
    replayed = sum(result.replayed for result in run.results if result.payout is not None)
    if replayed:
        lines += ["", f"{replayed:,} of these payouts existed already; they were not paid twice."]
    return lines


def _refused_lines(refused: Sequence[RowResult]) -> list[str]:
    taken = [result for result in refused if result.refused and result.refused.holder]
    free = [result for result in refused if result.refused and not result.refused.holder]
    lines = _refused_table("refused by the API, the reference belongs to another payout", taken)
    lines += _refused_table("refused by the API, nothing moved for these rows", free)
    if any(result.refused and result.refused.replayed for result in free):
        lines.append(
            "  Some of these answers were given earlier; --retry-refused asks anew for rows that"
            " lacked funds."
        )
    return lines


def _refused_table(title: str, refused: Sequence[RowResult]) -> list[str]:
    if not refused:
        return []
    lines = ["", title]
    for result in refused[:_ROWS_SHOWN_MAX]:
        answer = result.refused
        if answer is not None:
            row, why = result.row, answer.detail
            if (holder := answer.holder) is not None:
                amount = f"{amount_text(holder.amount, holder.currency)} {holder.currency}"
                why = f"this reference belongs to {holder.id}, {amount}, {holder.state}"
            elif answer.free is not None:
                why = _too_little(row.body["amount"], row.body["currency"], answer.free)
            lines.append(f"  line {row.line}: {row.reference}: {answer.code}: {why}")
    if len(refused) > _ROWS_SHOWN_MAX:
        lines.append(f"  and {len(refused) - _ROWS_SHOWN_MAX:,} more")
    return lines


def _too_little(amount: int, code: str, free: int) -> str:
    asked, left = amount_text(amount, code), amount_text(free, code)
    return f"{left} {code} was free, {asked} {code} and its fee were asked for"


def books_lines(accounts: Mapping[str, Any], currencies: Iterable[str]) -> list[str]:
    """The ledger's equation of each currency, and each account's balance and its side."""
    wanted = set(currencies)
    balances: dict[str, list[str]] = defaultdict(list)
    for account in accounts["data"]:
        code, net = account["currency"], account["credits_posted"] - account["debits_posted"]
        if net:
            side = "Cr" if net > 0 else "Dr"
            balances[code].append(f"{account['role']} {amount_text(abs(net), code)} {side}")
    lines = ["", "ledger"]
    for book in accounts["books"]:
        code = book["currency"]
        if code not in wanted:
            continue
        debits, credits_ = amount_text(book["debits"], code), amount_text(book["credits"], code)
        sign, verdict = ("=", "exact") if book["balanced"] else ("<>", "NOT BALANCED")
        lines.append(f"  {code:<5} debits {debits} {sign} credits {credits_}   {verdict}")
        if balances[code]:
            lines.append(f"        {' · '.join(balances[code])}")
    return lines


def books_balance(accounts: Mapping[str, Any]) -> bool:
    """Whether every currency's debits equal its credits."""
    return all(book["balanced"] for book in accounts["books"])


def amount_text(minor: int, code: str) -> str:
    """Major units with thousands separated by commas; minor units if the currency is unknown."""
    known = CURRENCIES.get(code)
    if known is None:
        return f"{minor:,} minor units"
    text = format_major(abs(minor), known)
    whole, point, decimals = text.partition(".")
    return f"{'-' if minor < 0 else ''}{int(whole):,}{point}{decimals}"


def tally_text(states: Mapping[str, int]) -> str:
    """`settled 12 · sent 3`: the states that occur, ends first."""
    known = [f"{state} {states[state]:,}" for state in _STATE_ORDER if states.get(state)]
    other = [f"{state} {n:,}" for state, n in states.items() if n and state not in _STATE_ORDER]
    return " · ".join(known + other)


def _state_row(run: Run, state: str) -> tuple[str, str, str]:
    amounts: Counter[str] = Counter()
    count = 0
    for result in run.results:
        if result.state == state:
            count += 1
            amounts[str(result.row.body["currency"])] += int(result.row.body["amount"])
    label = state if state in END_STATES or state == "refused" else f"open: {state}"
    label = {"waiting": "not asked for", "unanswered": "no answer"}.get(state, label)
    return label, f"{count:,}", _amounts_text(amounts)


def _sum_fees(run: Run) -> str:
    """Fees are earned by payouts that settled; the others' holds were released."""
    fees: Counter[str] = Counter()
    for result in run.results:
        if result.payout is not None and result.state in {"settled", "returned"}:
            fees[result.payout.currency] += result.payout.fee
    return _amounts_text(fees)


def _sum_costs(run: Run) -> str:
    costs: Counter[str] = Counter()
    for result in run.results:
        if result.payout is not None:
            costs[result.payout.currency] += result.payout.provider_cost
    return _amounts_text(costs)


def _amounts_text(amounts: Mapping[str, int]) -> str:
    shown = [
        f"{amount_text(minor, code)} {code}" for code, minor in sorted(amounts.items()) if minor
    ]
    return " · ".join(shown) or "0"


def _table(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c}".rstrip() for a, b, c in rows]
