"""Planted bugs: what the schedules must catch, as patches of the product's source.

A patch is applied in memory while its module is imported, in a process of its own; nothing on
disk changes. `python -m soak.bugs NAME` plays seeds until the bug is caught.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from soak.bugs_of_attempts import OF_ATTEMPTS
from soak.bugs_of_books import OF_BOOKS
from soak.patches import Bug, Patch


class NotApplied(Exception):
    """A patch does not fit the source any more: it has to be written anew."""


BUGS: Sequence[Bug] = (*OF_ATTEMPTS, *OF_BOOKS)


class _Loader(importlib.abc.SourceLoader):
    """Loads a module from its patched source."""

    def __init__(self, path: str, patches: Sequence[Patch]) -> None:
        self._path = path
        self._patches = patches

    def get_filename(self, _fullname: str) -> str:
        return self._path

    def get_data(self, path: str | bytes) -> bytes:
        if str(path) != self._path:
            raise OSError("no compiled file: it would not be of this source")
        source = Path(self._path).read_text(encoding="utf-8")
        for patch in self._patches:
            if source.count(patch.old) != 1:
                raise NotApplied(f"{patch.module} has {source.count(patch.old)} of {patch.old!r}")
            source = source.replace(patch.old, patch.new)
        return source.encode()


class Planter(importlib.abc.MetaPathFinder):
    """Finds the modules that a bug patches."""

    def __init__(self, bug: Bug) -> None:
        self._patches: dict[str, list[Patch]] = {}
        for patch in bug.patches:
            self._patches.setdefault(patch.module, []).append(patch)
        self.left = set(self._patches)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The patched module's spec; None for all others."""
        patches = self._patches.get(fullname)
        if patches is None:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            raise NotApplied(f"there is no {fullname}")
        self.left.discard(fullname)
        return importlib.util.spec_from_loader(fullname, _Loader(found.origin, patches))


def named(name: str) -> Bug:
    """The bug of this name."""
    return next(bug for bug in BUGS if bug.name == name)


def hunt(bug: Bug) -> tuple[int, str] | None:
    """The seed that catches the bug, and how; None if none does. For a fresh process.

    Seeds in which another invariant breaks first are passed over.
    """
    planter = Planter(bug)
    sys.meta_path.insert(0, planter)
    from soak.schedule import run, silence  # noqa: PLC0415 - only now, so that the patch is in

    if planter.left:
        raise NotApplied(f"nobody imports {planter.left}")
    with silence():
        for seed in range(bug.seeds):
            result = run(seed, bias=bug.bias)
            if result.violation is not None and result.violation.invariant in bug.by:
                return seed, str(result.violation)
    return None


def main(arguments: list[str]) -> int:
    """Hunt one bug by name, or list them."""
    if not arguments:
        print("\n".join(bug.name for bug in BUGS))
        return 0
    caught = hunt(named(arguments[0]))
    if caught is None:
        print("survived")
        return 1
    print(f"caught at seed {caught[0]} by {caught[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
