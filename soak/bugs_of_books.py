"""Planted bugs in books, people's commands, what is shown, and the engine."""

from __future__ import annotations

from soak.patches import LATE, OWING, Bug, Patch, bug

OF_BOOKS = (
    # Holds and books
    Bug(
        "a hold ends while its money is under way",
        ("I4",),
        (
            Patch(
                "bursar.payouts.commands",
                "if payout.state != State.FUNDS_LOCKED or payout.expires_at > ws.now:",
                "if payout.expires_at > ws.now:",
            ),
            Patch(
                "bursar.payouts.commands",
                "RETRY_BUDGET = timedelta(days=7)",
                "RETRY_BUDGET = timedelta(seconds=2)",
            ),
            Patch(
                "bursar.payouts.machine",
                "        S.SENDING: {\n",
                "        S.SENDING: {\n            E.EXPIRE: S.FAILED,\n",
            ),
            Patch(
                "bursar.payouts.memory",
                "        if row.state == State.FUNDS_LOCKED:\n",
                "        if row.state in (State.FUNDS_LOCKED, State.SENDING):\n",
            ),
        ),
    ),
    Bug(
        "cancelled while it is being sent",
        ("I11", "I4"),
        (
            Patch(
                "bursar.payouts.commands",
                "if payout.state not in (State.FUNDS_LOCKED, State.IN_REVIEW):",
                "if False:",
            ),
            Patch(
                "bursar.payouts.machine",
                "        S.SENDING: {\n",
                "        S.SENDING: {\n            E.CANCEL: S.CANCELLED,\n",
            ),
        ),
    ),
    bug(
        "the fee is charged twice on a late payment",
        "I8",
        "bursar.ledger.recipes",
        "(Role.PROVIDER_CLEARING, payout.amount), (Role.FEES, payout.fee))",
        "(Role.PROVIDER_CLEARING, payout.amount), (Role.FEES, payout.fee * 2))",
        bias=LATE,
    ),
    bug(
        "a late payment waits for funds",
        "I3 I8 I22",
        "bursar.ledger.recipes",
        "        taken = min(amount, free)\n",
        "        taken = amount\n",
        bias=OWING,
    ),
    bug(
        "what comes in does not repay what is owed",
        "I26",
        "bursar.ledger.recipes",
        "    return min(amount, max(0, book.account(Role.RECEIVABLE).balance))\n",
        "    return 0\n",
        bias=OWING | {"bank.return_rate": 0.5},
    ),
    bug(
        "nobody is told what a merchant owes",
        "I26",
        "bursar.ledger.recipes",
        "    if any(leg.amount and Role.RECEIVABLE in (leg.debit, leg.credit) for leg in legs):\n",
        "    if False:\n",
        bias=OWING,
    ),
    bug(
        "an account may owe",
        "I3",
        "bursar.ledger.book",
        "if new.limited and taken > 0 and new.free < 0:",
        "if False:",
    ),
    bug(
        "a cause of ours burns a retry",
        "F90",
        "bursar.rails.proof",
        "burns_retry=retry and proof.sent and not proof.ours",
        "burns_retry=retry",
    ),
    # People
    bug(
        "one person is enough",
        "I16",
        "bursar.payouts.operations",
        "        if known.proposed_by == said.proposed_by:\n",
        "        if False:\n",
        bias={"deaf": 1.0, "people": 1.0},
    ),
    # What people are told, and what they do
    Bug(
        "sent again by hand inside the window",
        ("I7", "I5"),
        (
            Patch(
                "bursar.payouts.operations",
                "    if now < closes_at:\n        raise FinalityWindowOpen(",
                "    if False:\n        raise FinalityWindowOpen(",
            ),
        ),
        {"people.hurry": 1.0, "client.retries": 1.0, "bank.late": 0.6, "net.reply_lost": 0.5},
    ),
    Bug(
        "a return of an unknown amount is booked",
        ("I8",),
        (
            Patch(
                "bursar.payouts.facts",
                "        paid=bool(paid),\n",
                "        paid=bool(paid or back),\n",
            ),
            Patch(
                "bursar.payouts.facts",
                "_sum_of_returns(back) if paid else 0",
                "_sum_of_returns(back)",
            ),
        ),
        {"bank.wrong_amount": 0.5, "bank.return_rate": 0.5},
    ),
    bug(
        "nobody is told of an order that is pending for ever",
        "I22",
        "bursar.payouts.outcomes",
        "    if asked:\n        report_unproven(ws, payout, accepted)\n",
        "",
        bias={"bank.stuck": 0.5},
    ),
    bug(
        "refused credentials burn a retry",
        "F90",
        "bursar.rails.bank.codes",
        'refused our credentials",\n        retryable=True,\n        ours=True,\n',
        'refused our credentials",\n        retryable=True,\n',
        bias={"bank.credentials": 0.6},
    ),
    bug(
        "refused credentials speak for an earlier send",
        "I7 I5",
        "bursar.rails.proof",
        "outcome.sent and not (entry is not None and entry.order_unread)",
        "outcome.sent",
        bias={"offramp.credentials": 0.4, "offramp.late": 0.5, "net.reply_lost": 0.5},
    ),
    bug(
        "a hold is given back while another amount may have left",
        "I4",
        "bursar.payouts.commands",
        "return any(map(is_frozen, ws.children(ATTEMPTS_OF_PAYOUT, self.payout_id)))",
        "return False",
        bias={
            "bank.wrong_amount": 1.0,
            "bank.worse": 0.6,
            "bank.worse_s": 6.0,
            "bank.timeout_not_executed": 0.5,
            "client.cancels": 1.0,
        },
    ),
    bug(
        "a merchant is not shown what came back",
        "I8",
        "bursar.payouts.view",
        '"amount_returned": payout.amount_returned,',
        '"amount_returned": 0,',
        bias={"bank.return_rate": 0.5},
    ),
    bug(
        "a merchant is shown the cost of the first try only",
        "I8",
        "bursar.payouts.effects",
        '"provider_cost": payout.provider_cost + fact.cost',
        '"provider_cost": payout.provider_cost',
        bias=LATE,
    ),
    bug(
        "an alert is another merchant's",
        "I17",
        "bursar.incidents.commands",
        "        merchant_id=entry.merchant_id,\n        kind=kind,",
        '        merchant_id="mer_" + "9" * 32,\n        kind=kind,',
        bias={"bank.wrong_amount": 0.4},
    ),
    # The books, the machine, the references
    bug(
        "a counter that is not its transfers' sum",
        "I2",
        "bursar.ledger.book",
        "credits_pending=-amount, credits_posted=amount)",
        "credits_pending=-amount, credits_posted=amount + 1)",
    ),
    bug(
        "a transfer in a currency that its accounts have not",
        "I1",
        "bursar.ledger.book",
        "                currency=self._currency,\n                hold_id",
        '                currency="EUR",\n                hold_id',
    ),
    bug(
        "a failed attempt stays open",
        "I6",
        "bursar.payouts.outcomes",
        "        AttemptState.FAILED,\n        told,\n        code=outcome.code,",
        "        AttemptState.UNKNOWN,\n        told,\n        code=outcome.code,",
    ),
    bug(
        "a version is left out",
        "I11",
        "bursar.payouts.steps",
        '"version": payout.version + 1, **note}',
        '"version": payout.version + 2, **note}',
    ),
    bug(
        "a step that the journal does not have",
        "I12",
        "bursar.payouts.steps",
        "state=target, version=payout.version + 1,",
        "state=target, version=payout.version + 2,",
    ),
    Bug(
        "a reference names two payouts",
        ("I9",),
        (
            Patch(
                "bursar.payouts.commands",
                "reference = PayoutReference(self.merchant_id, self.reference, self.payout_id)",
                "reference = PayoutReference(self.merchant_id, self.payout_id, self.payout_id)",
            ),
            Patch(
                "bursar.payouts.commands",
                "REFERENCES, PayoutReference(self.merchant_id, self.reference, self.payout_id)",
                "REFERENCES, PayoutReference(self.merchant_id, self.payout_id, self.payout_id)",
            ),
        ),
    ),
    bug(
        "a refusal that is an accident",
        "I10",
        "bursar.payouts.operations",
        'raise NotRetryable(f"The payout is {payout.state}.", state=payout.state)',
        'raise KeyError(f"The payout is {payout.state}.")',
    ),
    # The engine
    bug(
        "a key that is not claimed with its work",
        "I10",
        "bursar.engine.group",
        "        if command.request is not None:\n            existing = ws.claim(",
        "        if False:\n            existing = ws.claim(",
    ),
    bug(
        "a reply that is not stored with its work",
        "F76",
        "bursar.engine.group",
        "    ws.update(\n        IDEMPOTENCY_KEYS,\n",
        "    dict(\n        IDEMPOTENCY_KEYS=",
    ),
    bug(
        "the same key with another body is replayed",
        "I10",
        "bursar.engine.idempotency",
        "if row.fingerprint != request.fingerprint:",
        "if False:",
    ),
    bug(
        "a tombstone is taken for a commit",
        "I25",
        "bursar.engine.engine",
        "                return committed\n",
        "                return True\n",
    ),
    bug(
        "the answer leaves before the commit",
        "I25",
        "bursar.engine.engine",
        '                raise TransactionConflict("the lost commit never happened") from None\n',
        "                return\n",
    ),
    bug(
        "a broken chain",
        "I14",
        "bursar.engine.group",
        "head.link_seq + 1, head.hash, lines",
        "head.link_seq + 1, head.hash[::-1], lines",
    ),
)
