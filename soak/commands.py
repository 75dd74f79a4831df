"""The other soaks: what `./dev soak` can do beside seeded schedules."""

from __future__ import annotations

import argparse

from soak import chaos, kills, pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of all of them."""
    for command in (kills, chaos, pairs):
        command.add_arguments(parser)


def run(asked: argparse.Namespace) -> int | None:
    """The exit code of those that were asked for, one after the other; None if none was."""
    codes = [command.run(asked) for command in (kills, chaos, pairs)]
    done = [code for code in codes if code is not None]
    return max(done) if done else None
