"""What the contexts bring together: their tables, group rules, queries and webhook verifiers."""

from collections.abc import Mapping

from bursar.db.queries import load_queries
from bursar.engine.group import GroupRules
from bursar.engine.queries import QUERIES as ENGINE_QUERIES
from bursar.identity import model as identity
from bursar.identity import store as identity_store
from bursar.incidents import model as incidents
from bursar.ledger.model import ACCOUNTS, HOLDS, PENDING_LEGS, TRANSFERS
from bursar.ledger.store import QUERIES as LEDGER_QUERIES
from bursar.payouts import model as payouts
from bursar.payouts.store import QUERIES as PAYOUT_QUERIES
from bursar.rails.bank import webhooks as bank_webhooks
from bursar.rails.offramp import webhooks as offramp_webhooks
from bursar.rails.port import WebhookVerifier

TABLES = (
    *(ACCOUNTS, HOLDS, TRANSFERS),
    *incidents.TABLES,
    *identity.TABLES,
    *payouts.TABLES,
)
RULES = GroupRules(
    tables=TABLES,
    child_sets=(PENDING_LEGS, *incidents.CHILD_SETS, *payouts.CHILD_SETS),
    attached=(TRANSFERS,),
)
QUERIES: Mapping[str, str] = {
    **ENGINE_QUERIES,
    **load_queries(incidents.__file__),
    **LEDGER_QUERIES,
    **identity_store.QUERIES,
    **PAYOUT_QUERIES,
}

VERIFIERS: Mapping[str, WebhookVerifier] = {
    bank_webhooks.PROVIDER_ID: bank_webhooks,
    offramp_webhooks.PROVIDER_ID: offramp_webhooks,
}
"How each provider signs and words its events."
