"""Planted bugs in what is known of an attempt: proof, leases, facts."""

from __future__ import annotations

from soak.patches import LATE, Bug, Patch, bug

OF_ATTEMPTS = (
    # Proof
    bug(
        "failover on a timeout",
        "I7",
        "bursar.rails.proof",
        "    if not isinstance(outcome, NotExecuted):\n        return outcome\n    entry",
        "    if isinstance(outcome, Unknown):\n"
        '        return NotExecuted(code="lost", reason="lost", retryable=True, sent=True)\n'
        "    if not isinstance(outcome, NotExecuted):\n        return outcome\n    entry",
    ),
    bug(
        "a decline on the retry is proof",
        "I7",
        "bursar.rails.proof",
        "if not (first_send or (conclusive and speaks_of_key)):",
        "if not (first_send or outcome.sent):",
        bias={"offramp.repeat_declined": 0.8, "offramp.late": 0.5, "net.reply_lost": 0.5},
    ),
    bug(
        "not sent again is not sent at all",
        "I7",
        "bursar.rails.proof",
        "if not (first_send or (conclusive and speaks_of_key)):",
        "if not (first_send or conclusive or not outcome.sent):",
        bias={"net.connect_refused": 0.4, "offramp.late": 0.5, "net.reply_lost": 0.5},
    ),
    Bug(
        "the window runs from the first send",
        ("I7",),
        (
            Patch(
                "bursar.payouts.silence",
                "            lease_until=ended,\n            ambiguous_at=ended,\n",
                "            lease_until=attempt.ambiguous_at or ended,\n"
                "            ambiguous_at=attempt.ambiguous_at or ended,\n",
            ),
            # The pauses are longer than the window before a later send would show the bug.
            Patch("bursar.rails.contracts", " * (1 << min(sends - 1, _DOUBLINGS_MAX))", ""),
        ),
        {"offramp.late": 0.5, "offramp.lost": 0.5, "offramp.repeat_declined": 0.8},
    ),
    bug(
        "not found is failed",
        "I7",
        "bursar.rails.proof",
        "if closed and contract.absence_is_proof:",
        "if contract.absence_is_proof:",
    ),
    bug(
        "any provider's not found is proof",
        "I5 I8",
        "bursar.rails.proof",
        "if closed and contract.absence_is_proof:",
        "if closed:",
        bias={"offramp.not_found": 0.8, "offramp.not_found_s": 60.0, "net.reply_lost": 0.6},
    ),
    bug(
        "a rejection in the window is proof",
        "I7",
        "bursar.rails.proof",
        "            if closed:\n                return listed(",
        "            if True:\n                return listed(",
        bias={"bank.flip": 0.4, "bank.late": 0.3, "net.reply_lost": 0.4},
    ),
    bug(
        "no finality window",
        "I7",
        "bursar.rails.proof",
        "    return last_byte_at + contract.finality_window\n",
        "    return last_byte_at\n",
    ),
    bug(
        "the window runs from the answer, not from the last byte",
        "I7",
        "bursar.rails.proof",
        "    last_byte_at = lease_until + contract.request_deadline\n",
        "    last_byte_at = lease_until\n",
        bias={"bank.not_found": 0.5, "bank.flip": 0.4, "net.reset_mid_body": 0.5},
    ),
    bug(
        "a contract whose window is shorter than the provider's",
        "I7",
        "bursar.rails.contracts",
        "            finality_window_s=3,\n",
        "            finality_window_s=0.1,\n",
    ),
    Bug(
        "a failed event is proof",
        ("I7",),
        (
            Patch("bursar.payouts.inbox", "if event.kind != EventKind.FAILED:", "if True:"),
            Patch(
                "bursar.payouts.inbox",
                "        if event.kind == EventKind.ACCEPTED:\n            return Accepted(",
                "        if event.kind == EventKind.FAILED:\n"
                "            from bursar.rails.outcomes import NotExecuted\n\n"
                '            return NotExecuted(code=event.code or "", reason="", '
                "retryable=False, sent=True)\n"
                "        if event.kind == EventKind.ACCEPTED:\n            return Accepted(",
            ),
        ),
    ),
    bug(
        "a code that no contract lists is proof",
        "I7",
        "bursar.rails.proof",
        '        return Unknown(f"unlisted_code:{code}")\n',
        "        return NotExecuted(code=code, reason=reason, retryable=False, sent=True)\n",
        bias={"net.unlisted_code": 0.5, "bank.decline": 0.5},
    ),
    bug(
        "a lost connection means that nothing was sent",
        "I7",
        "bursar.rails.http_rail",
        "            if failure.request_bytes_written:\n",
        "            if False:\n",
    ),
    bug(
        "an error status means that it was not taken",
        "I7",
        "bursar.rails.bank.codec",
        '    return Unknown(f"http_{status}")\n',
        "    from bursar.rails.outcomes import NotExecuted\n\n"
        '    return NotExecuted(code="http", reason="", retryable=True, sent=False)\n',
        bias={"bank.error_executed": 0.3},
    ),
    # Leases
    Bug(
        "a lease that ends sends the payout elsewhere",
        ("I5", "I7"),
        (
            Patch(
                "bursar.payouts.attempts",
                'learn(ws, payout, attempt, Unknown("lease_expired"), ',
                "learn(ws, payout, attempt, NotExecuted("
                'code="lease", reason="", retryable=True, sent=True), ',
            ),
            Patch(
                "bursar.payouts.attempts",
                "from bursar.rails.outcomes import Accepted,",
                "from bursar.rails.outcomes import Accepted, NotExecuted,",
            ),
        ),
    ),
    bug(
        "no look at the lease before the first byte",
        "I7 I5",
        "bursar.payouts.jobs",
        "must_start_before=lease_ends - rail.contract.request_deadline_s,",
        "must_start_before=None,",
        bias={"net.stall_before": 0.5},
    ),
    bug(
        "no fencing token",
        "I7 I5",
        "bursar.payouts.attempts",
        "if attempt.lease_token == self.lease_token and attempt.state == AttemptState.SENDING:",
        "if attempt.state == AttemptState.SENDING:",
        bias={"net.stall_after": 0.5, "offramp.decline": 0.3, "offramp.lost": 0.4},
    ),
    bug(
        "a zombie's reply is believed",
        "I7 I5",
        "bursar.payouts.attempts",
        "if attempt.lease_token == self.lease_token and attempt.state == AttemptState.SENDING:",
        "if attempt.state in OPEN_ATTEMPT:",
        bias={"net.stall_after": 0.5, "offramp.decline": 0.3, "offramp.lost": 0.4},
    ),
    bug(
        "sent again after the key's life",
        "F19",
        "bursar.rails.contracts",
        "return self.resend_after_s is not None and last_byte_at < begun_at + self.key_lifetime",
        "return self.resend_after_s is not None",
        bias={"outage": 1.0, "offramp.lost": 0.6},
    ),
    bug(
        "sent again only once",
        "I22",
        "bursar.rails.contracts",
        "None\n        return timedelta(seconds=self.resend_after_s)",
        "None\n        if sends > 1:\n            return None\n"
        "        return timedelta(seconds=self.resend_after_s)",
        bias={"offramp.lost": 0.7, "outage": 0.0},
    ),
    bug(
        "another key for the same attempt",
        "I8",
        "bursar.payouts.attempts",
        "        key=attempt.provider_key,\n",
        "        key=attempt.provider_key if attempt.sends == 1 else attempt.provider_key[::-1],\n",
        bias={"net.reply_lost": 0.4},
    ),
    # Facts
    bug(
        "effects are keyed by event, not by fact",
        "I8",
        "bursar.payouts.inbox",
        "            return_id=event.return_id or event.event_id,\n",
        "            return_id=event.event_id,\n",
        bias={"bank.return_rate": 0.5, "bank.return_parts": 0.8, "bank.webhook_new_id": 0.5},
    ),
    bug(
        "a late payment is dropped",
        "I8",
        "bursar.payouts.outcomes",
        "        case Executed():\n            return _executed(",
        "        case Executed():\n"
        "            if attempt.state == AttemptState.FAILED:\n"
        "                return False\n"
        "            return _executed(",
        bias=LATE,
    ),
    bug(
        "failed beats paid",
        "I8",
        "bursar.payouts.facts",
        "        paid=bool(paid),\n",
        "        paid=bool(paid) and not failed,\n",
        bias=LATE,
    ),
    bug(
        "a second reference is ignored",
        "I5 I8",
        "bursar.payouts.outcomes",
        "another = bool(known) and outcome.provider_ref not in known",
        "another = False",
        bias={"bank.double": 0.3},
    ),
    bug(
        "another amount is accepted",
        "F18 I8",
        "bursar.payouts.inbox",
        "return (amount, self.event.currency) != (attempt.amount, attempt.currency)",
        "return False",
        bias={"bank.wrong_amount": 0.3},
    ),
    bug(
        "an inquiry's amount is not looked at",
        "F18 I8",
        "bursar.rails.proof",
        "    if (outcome.amount_minor, outcome.currency) == (amount_minor, currency):\n",
        "    if amount_minor:\n",
        bias={"bank.wrong_amount": 0.3, "bank.webhook_lost": 0.5},
    ),
    Bug(
        "sent again though another amount was told",
        ("F18",),
        (
            Patch(
                "bursar.payouts.attempts",
                "if paid or any(map(is_frozen, others)) or not alive:",
                "if paid or not alive:",
            ),
            Patch(
                "bursar.payouts.silence",
                "frozen_at=ws.now, resend_at=None)",
                "frozen_at=ws.now)",
            ),
        ),
        {"offramp.wrong_amount": 0.6, "offramp.error_executed": 0.6},
    ),
    bug(
        "an alert tells the amount that was asked for",
        "F18",
        "bursar.payouts.effects",
        "amount=fact.amount if known else payout.amount,",
        "amount=payout.amount,",
        bias={"bank.wrong_amount": 0.3},
    ),
    bug(
        "silence is an answer",
        "F26",
        "bursar.payouts.attempts",
        "silent = isinstance(self.outcome, Unknown) and not speaks_of_money(self.outcome)",
        "silent = False",
        bias=LATE | {"bank.inquiry_error": 0.5, "net.reply_lost": 0.4, "client.retries": 0.0},
    ),
    bug(
        "nobody asks which of two contrary words is true",
        "F26",
        "bursar.payouts.effects",
        "    if after.contradicted:\n        ws.update(",
        "    if False:\n        ws.update(",
        bias=LATE,
    ),
    bug(
        "a return is taken for a payment",
        "I8",
        "bursar.payouts.inbox",
        "        if event.kind == EventKind.RETURNED:\n",
        "        if False:\n",
    ),
    bug(
        "a return ends the payout as failed",
        "I8",
        "bursar.payouts.facts",
        "        returned=amount if undone_by is not None else min(told_back, amount),\n",
        "        returned=amount if undone_by is not None else 0,\n",
    ),
    bug(
        "an event that nobody can read is tried for ever",
        "I22 I23",
        "bursar.payouts.inbox",
        "    if tries < TRIES_MAX:\n",
        '    if tries < TRIES_MAX or result == "dead_letter":\n',
    ),
    bug(
        "an event that nobody knows is forgotten without a word",
        "I23",
        "bursar.payouts.inbox",
        '    open_incident(\n        ws,\n        entry,\n        kind=f"{result}_event",\n',
        '    dict(\n        ws=ws,\n        entry=entry,\n        kind=f"{result}_event",\n',
    ),
)
