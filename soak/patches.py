"""What a planted bug is: patches of the product's source, and the invariants that must catch it."""

from __future__ import annotations

from dataclasses import dataclass, field

SEEDS = 600
"""How many seeds a bug has at most."""


@dataclass(frozen=True)
class Patch:
    """Replace `old`, which stands exactly once in the module's source, by `new`."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """One planted bug, and the invariants that must catch it: any of `by`.

    `bias` forces rates and knobs, where the bug's moment is rare.
    """

    name: str
    by: tuple[str, ...]
    patches: tuple[Patch, ...]
    bias: dict[str, float] = field(default_factory=dict)
    seeds: int = SEEDS


def bug(
    name: str, by: str, module: str, old: str, new: str, *, bias: dict[str, float] | None = None
) -> Bug:
    """A bug of one patch; `by` has the numbers of invariants, with spaces between them."""
    return Bug(name, tuple(by.split()), (Patch(module, old, new),), bias or {})


LATE = {"bank.worse": 0.4, "bank.worse_s": 4.0, "bank.late": 0.0}
"""Payments after the window: the only ones that come after a payout was given up."""
OWING = LATE | {"funds": 260.0, "merchants": 1.0, "client.retries": 0.0}
"""And the money of some of them is spent by then."""
