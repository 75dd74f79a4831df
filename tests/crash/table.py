"""The coverage table: crash point x {before, after, cut}, and what it must hold.

Which steps have a COMMIT in them, and of which command, is read from the source: a new step, or a
new command in a step, has no case until somebody writes one.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import bursar
from bursar.engine.model import CommandBase
from bursar.kit.crashpoints import Side, Step
from tests.crash.cases import EITHER
from tests.crash.telling import Death, Severing
from tests.engine.proxy import Cut

SOURCE: Final = Path(bursar.__file__).parent
ANY: Final = "any command"
"""What the engine commits."""

EQUAL: Final[Mapping[str, str]] = {
    "CloseAlert": "as AssignIncident: a client's write that changes one incident",
    "FundAccount": "as CreatePayout: a client's write that books a transfer",
    "DeferEvent": "as ApplyEvent, which it stands for: the same row from the same queue",
    "CreateMerchant": "as RevokeApiKey",
    "CreateApiKey": "as RevokeApiKey",
    "RevokeApiKey": "asked at the command line, where a person sees what came of it",
}
"""The commands whose COMMIT is not cut, each with the reason."""

Table = dict[tuple[str, str], int]


def table(deaths: Collection[Death], cuts: Collection[Severing]) -> Table:
    """How many cases there are for each point and kind. A cut is of a command in a step.

    The kinds are `before`, `after` and `cut.HOW COMMAND`.
    """
    found: Table = {}
    for death in deaths:
        cell = (str(death.step), str(death.side))
        found[cell] = found.get(cell, 0) + 1
    steps = {command: step for step, inside in commits().items() for command in inside}
    for severing in cuts:
        for part in severing.commands:
            command = part.partition(".")[0]
            for step in {steps.get(command, Step.ENGINE_COMMIT), Step.ENGINE_COMMIT}:
                cell = (str(step), kind_of(severing.cut, command))
                found[cell] = found.get(cell, 0) + 1
    return found


def kind_of(cut: Cut, command: str) -> str:
    """The column of a command's cut."""
    return f"cut.{cut.name.lower()} {command}"


def wanted(
    steps: Collection[str] = tuple(Step), inside: Mapping[str, frozenset[str]] | None = None
) -> set[tuple[str, str]]:
    """Every cell that must not be empty."""
    cells = {(str(step), str(side)) for step in steps for side in Side}
    for step, found in (commits() if inside is None else inside).items():
        named = commands() - set(EQUAL) if ANY in found else found
        cells |= {(str(step), kind_of(cut, command)) for cut in EITHER for command in named}
    cells |= {
        (Step.ENGINE_COMMIT, kind_of(cut, command))
        for cut in Cut
        for command in ("CreatePayout", "BeginAttempt")
    }
    return cells


def commands() -> set[str]:
    """Every command that there is."""
    return {command.__name__ for command in _leaves(CommandBase)}


def _leaves(base: type[Any]) -> Iterator[type[Any]]:
    # A test may have made commands of its own, in this process, out of the product's.
    inner = [one for one in base.__subclasses__() if one.__module__.startswith("bursar.")]
    for one in inner:
        yield from _leaves(one)
    if not inner:
        yield base


def commits() -> dict[str, frozenset[str]]:
    """The steps that a command is submitted in, with the commands: see `passed`."""
    return {step: inside for step, inside in passed().items() if inside}


@cache
def passed() -> dict[str, frozenset[str]]:
    """By step that the product passes with `passing`: what is committed while it is in there."""
    found: dict[str, frozenset[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for step, inside in passed_in(path.read_text()):
            found[step] = found.get(step, frozenset()) | inside
    return found


def passed_in(source: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The steps of one file."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        made = {
            ast.unparse(node.targets[0]): node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
        }
        for block in ast.walk(function):
            if not isinstance(block, ast.With):
                continue
            for item in block.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "passing":
                    step = ast.unparse(call.args[1]).removeprefix("Step.")
                    yield str(Step[step]), frozenset(_submitted(block, made))


def _submitted(block: ast.With, made: Mapping[str, ast.expr]) -> Iterator[str]:
    for call in ast.walk(block):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        if name.endswith("engine.submit"):
            command = call.args[0]
            command = made.get(ast.unparse(command), command)
            assert isinstance(command, ast.Call), ast.unparse(call)
            yield ast.unparse(command.func)
        elif name == "self._end":
            yield ANY
