"""Each house rule catches what is planted, and lets the honest neighbour pass."""

import pytest

from tests.architecture.rules import check_grammar, check_python, check_text

_LONG = "def long() -> None:\n" + "    x = 1\n" * 70
_MARK = "TO" + "DO"


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("function-lines", "src/bursar/x.py", _LONG),
        ("function-lines", "tests/x.py", _LONG),
        ("time", "src/bursar/x.py", "import time\nnow = time.time()"),
        ("time", "src/bursar/x.py", "import time as t\nnow = t.monotonic"),
        ("time", "src/bursar/x.py", "from time import monotonic\nnow = monotonic()"),
        ("time", "src/bursar/x.py", "from datetime import datetime\nx = datetime.now(UTC)"),
        ("time", "src/bursar/x.py", "import datetime as d\nx = d.datetime.utcnow()"),
        ("randomness", "src/bursar/x.py", "import os\nx = os.urandom(8)"),
        ("randomness", "src/bursar/x.py", "from uuid import uuid4\nx = uuid4()"),
        ("randomness", "src/bursar/x.py", "import random\nx = random.Random(1)"),
        ("randomness", "src/bursar/kit/clock.py", "import secrets\nx = secrets.token_hex()"),
        ("float", "src/bursar/money/x.py", "x = float('1.1')"),
        ("float", "src/bursar/money/x.py", "x = 1.5"),
        ("float", "src/bursar/ledger/x.py", "x = amount / 100"),
        ("float", "src/bursar/ledger/x.py", "x: float = 1"),
        ("mock", "tests/x.py", "from unittest.mock import patch\nwith patch('a'): pass"),
        ("mock", "tests/x.py", "def test(mocker): mocker.patch('a')"),
        ("sql-in-python", "src/bursar/x.py", "q = 'SELECT 1 FROM t'"),
        ("sql-in-python", "src/bursar/x.py", "q = f'INSERT INTO {t} VALUES (1)'"),
        ("sql-in-python", "src/bursar/x.py", "q = '''\n  UPDATE t SET n = 1'''"),
        ("sql-in-python", "src/bursar/x.py", "q = 'SELECT pg_advisory_lock(1)'"),
        ("docstring", "src/bursar/x.py", "def public(): pass"),
        ("docstring", "src/bursar/x.py", "class A:\n    def public(self): pass"),
        ("docstring", "src/bursar_sim/x.py", "async def public(): pass"),
        ("impure", "src/bursar/payouts/model.py", "import asyncpg"),
        ("impure", "src/bursar/ledger/recipes.py", "from bursar.settings import Settings"),
        ("impure", "src/bursar/money/model.py", "from os import environ"),
        ("rails-imports", "src/bursar/rails/bank/x.py", "from bursar.db.pool import Pool"),
        ("rails-imports", "src/bursar/rails/port.py", "import bursar.settings"),
        ("impure", "src/bursar/payouts/commands.py", "def f():\n    import httpx"),
    ],
)
def test_a_planted_fault_is_caught(rule: str, path: str, text: str) -> None:
    """A rule that finds nothing is no rule."""
    assert rule in {finding.rule for finding in check_python(path, text)}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/bursar/kit/clock.py", "import time\nx = time.monotonic()"),
        ("src/bursar/kit/ids.py", "import os\nx = os.urandom(8)"),
        ("src/bursar/x.py", "import time\ntime.sleep(1)"),
        ("src/bursar/x.py", "def _private(): pass"),
        ("src/bursar/x.py", "def f():\n    '''Like SELECT 1 FROM t.'''"),
        ("src/bursar/x.py", "message = 'select a file from the list'"),
        ("src/bursar/x.py", "timeout_s = 1.5"),
        ("src/bursar/money/x.py", "x = amount // 100"),
        ("src/bursar_sim/x.py", "import random\nx = random.Random(7)"),
        ("src/bursar/payouts/jobs.py", "import asyncio"),
        ("tests/x.py", "def test(monkeypatch): monkeypatch.setenv('A', 'b')"),
    ],
)
def test_an_honest_file_passes(path: str, text: str) -> None:
    """A rule that cries at everything gets switched off."""
    assert list(check_python(path, text)) == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("file-lines", "src/bursar/x.py", "\n" * 501),
        ("file-lines", "src/bursar/queries.sql", "\n" * 501),
        ("line-length", "src/bursar/queries.sql", "x" * 101),
        ("leftover", "README.md", f"{_MARK}: later"),
        ("file-name", "src/bursar/engine/utils.py", ""),
        ("file-name", "src/bursar/helpers.py", ""),
    ],
)
def test_a_planted_text_is_caught(rule: str, path: str, text: str) -> None:
    """Rules that hold for every language."""
    assert rule in {finding.rule for finding in check_text(path, text)}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("src/bursar/payouts/machine.py", True),
        ("src/bursar/payouts/service.py", False),
        ("src/bursar/payouts/recipes.py", False),
        ("src/bursar/ledger/recipes.py", True),
        ("src/bursar/payouts/sub/model.py", False),
        ("src/bursar/rails/bank/adapter.py", True),
        ("src/bursar/engine/group.py", True),
    ],
)
def test_contexts_hold_the_files_of_the_grammar(path: str, *, allowed: bool) -> None:
    """Whoever knows one context finds the way in all."""
    assert (list(check_grammar(path)) == []) is allowed
