"""Puts the pieces together: the only package that knows concrete classes.

The command line calls these functions and nothing below them, so that each command loads what it
needs and no more. Functions that are not `async` block until the process is told to stop.
"""

from bursar.bootstrap.admin import (
    DEMO_FEE_BPS,
    DEMO_FUNDS_MINOR,
    DEMO_MERCHANT_ID,
    Demo,
    UnknownRole,
    all_merchants,
    create_key,
    create_merchant,
    ensure_demo,
    list_keys,
    revoke_key,
    verify_books,
)
from bursar.bootstrap.database import (
    assert_fit_to_serve,
    embedded_server,
    migrate_database,
    own_dsn,
    prepare_database,
    process_dsn,
)
from bursar.bootstrap.engines import EngineFactory, Wired, open_engine
from bursar.bootstrap.processes import serve_api, serve_worker
from bursar.bootstrap.schema import QUERIES, RULES, TABLES, VERIFIERS

__all__ = [
    "DEMO_FEE_BPS",
    "DEMO_FUNDS_MINOR",
    "DEMO_MERCHANT_ID",
    "QUERIES",
    "RULES",
    "TABLES",
    "VERIFIERS",
    "Demo",
    "EngineFactory",
    "UnknownRole",
    "Wired",
    "all_merchants",
    "assert_fit_to_serve",
    "create_key",
    "create_merchant",
    "embedded_server",
    "ensure_demo",
    "list_keys",
    "migrate_database",
    "open_engine",
    "own_dsn",
    "prepare_database",
    "process_dsn",
    "revoke_key",
    "serve_api",
    "serve_worker",
    "verify_books",
]
