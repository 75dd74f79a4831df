"""Where the log of every command goes, and what it never shows."""

import logging
import sys

import structlog


def configure_logging(level: str) -> None:
    """One JSON line per event on standard error, with what the context has bound.

    Standard output is for what a command was asked for, so that `KEY=$(bursar keys create ...)`
    gets a key and nothing else. A traceback shows no local variables: some hold secrets (F65).
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
