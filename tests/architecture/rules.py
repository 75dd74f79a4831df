"""The house rules as functions of one file's text. Each finding names its rule and place.

`test_tidy.py` runs them over the repository; `test_rules.py` plants what each must catch.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_LENGTH_MAX = 100

_TIME = {
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.time",
    "time.time_ns",
}
_RANDOMNESS = ("os.urandom", "random", "secrets", "uuid")
# Where a banned name may stand, with the reason.
_TIME_PLACES = {
    "src/bursar/kit/clock.py",  # the clock itself
    "src/bursar/kit/ids.py",  # an identifier carries the time of its making
}
_RANDOMNESS_PLACES = {"src/bursar/kit/ids.py"}
_BANNED_STEMS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
_LEFTOVER = re.compile(r"\b(TO" + "DO|FIX" + r"ME)\b")
_SQL = re.compile(
    r"\b(SELECT\s+.+\sFROM\s|SELECT\s+\w+\(|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s"
    r"|(CREATE|ALTER|DROP)\s+(TABLE|ROLE|DATABASE|INDEX|SCHEMA|FUNCTION)\s|GRANT\s+\w+\s+ON\s"
    r"|SET\s+LOCAL\s|WITH\s+\w+\s+AS\s*\()",
    re.DOTALL,
)

# An exception to a linter's rule stands on its line, with the reason.
_PRAGMA = re.compile(r"\s+# (noqa|type: ignore|pragma).*\Z")

GRAMMAR = {
    "__init__.py",
    "model.py",
    "machine.py",
    "commands.py",
    "errors.py",
    "store.py",
    "queries.sql",
    "jobs.py",
    "README.md",
}
# Every context, with what it has beyond the grammar.
CONTEXTS: Mapping[str, set[str]] = {
    "events": set(),
    "identity": {"policy.py"},  # the table of role x action
    "incidents": set(),
    "ledger": {
        "book.py",  # what a transfer may do to the counters
        "recipes.py",  # business event -> transfers
        "verify.py",  # the replay
    },
    "payments": set(),
    "payouts": {
        "attempts.py",  # commands of workers: begin, record, take over
        "effects.py",  # what a new fact changes in payout and books
        "facts.py",  # how an attempt stands by its facts
        "fields.py",  # what a payout's fields may hold, as text
        "inbox.py",  # commands for provider events
        "memory.py",  # queues, unique rules and reads over the in-memory twin
        "operations.py",  # commands of operators: send again, say what became of an attempt
        "outcomes.py",  # what became known, taken in: one road for every source
        "alerts.py",  # an alert is not closed while its question is open
        "silence.py",  # unknown and frozen attempts: when to ask, when people must
        "resolutions.py",  # the replay of what two persons said
        "steps.py",  # move the state, journal it, keep the books
        "verify.py",  # the replay
        "view.py",  # the payout as the API shows it
    },
    "preflight": set(),
    "reconciliation": set(),
    "routing": set(),
}
PURE_FILES = {
    *("model.py", "machine.py", "commands.py", "recipes.py", "book.py"),
    *("attempts.py", "inbox.py", "outcomes.py", "steps.py", "view.py"),
    *("alerts.py", "effects.py", "facts.py", "fields.py", "silence.py"),
}
_IMPURE = (
    "aiohttp",
    "asyncio",
    "asyncpg",
    "bursar.db",
    "bursar.settings",
    "fastapi",
    "httpx",
    "logging",
    "os",
    "pydantic_settings",
    "socket",
    "starlette",
    "structlog",
    "subprocess",
    "urllib.request",
    "uvicorn",
)


@dataclass(frozen=True)
class Finding:
    """A broken rule. `measure` is what a baseline entry may not grow beyond."""

    rule: str
    path: str
    symbol: str
    measure: int = 1

    @property
    def key(self) -> str:
        """What names this finding in the baseline."""
        return f"{self.rule} {self.path} {self.symbol}"


def check_text(path: str, text: str) -> Iterator[Finding]:
    """Rules for every text file, of any language."""
    lines = text.splitlines()
    suffix = PurePosixPath(path).suffix
    if suffix in {".py", ".sql", ".sh", ""} and len(lines) > FILE_LINES_MAX:
        yield Finding("file-lines", path, "-", len(lines))
    for number, line in enumerate(lines, start=1):
        if suffix in {".py", ".sql", ".sh", ""} and len(_PRAGMA.sub("", line)) > LINE_LENGTH_MAX:
            yield Finding("line-length", path, f"L{number}", len(line))
        if _LEFTOVER.search(line):
            yield Finding("leftover", path, f"L{number}")
    if PurePosixPath(path).stem.lower() in _BANNED_STEMS:
        yield Finding("file-name", path, "-")


def check_grammar(path: str) -> Iterator[Finding]:
    """A context holds the files of the grammar, and a connector's folder is no context."""
    parts = PurePosixPath(path).parts
    if len(parts) < 4 or parts[:2] != ("src", "bursar") or parts[2] not in CONTEXTS:
        return
    if len(parts) > 4 or parts[3] not in GRAMMAR | CONTEXTS[parts[2]]:
        yield Finding("grammar", path, "-")


def check_python(path: str, text: str) -> Iterator[Finding]:
    """Rules that need the syntax tree."""
    tree = ast.parse(text)
    names = _imported_names(tree)
    for check in _CHECKS:
        yield from check(path, tree, names)


def _function_lines(path: str, tree: ast.Module, _names: Mapping[str, str]) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield Finding("function-lines", path, node.name, lines)


def _time_and_chance(path: str, tree: ast.Module, names: Mapping[str, str]) -> Iterator[Finding]:
    if not path.startswith("src/bursar/"):
        return
    for node, dotted in _uses(tree, names):
        if dotted in _TIME and path not in _TIME_PLACES:
            yield Finding("time", path, f"{dotted}@L{node.lineno}")
        chance = any(dotted == name or dotted.startswith(f"{name}.") for name in _RANDOMNESS)
        if chance and path not in _RANDOMNESS_PLACES:
            yield Finding("randomness", path, f"{dotted}@L{node.lineno}")


def _floats_in_money(path: str, tree: ast.Module, _names: Mapping[str, str]) -> Iterator[Finding]:
    if not path.startswith(("src/bursar/money/", "src/bursar/ledger/")):
        return
    for node in ast.walk(tree):
        named = isinstance(node, ast.Name) and node.id == "float"
        literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
        divided = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if named or literal or divided:
            yield Finding("float", path, f"L{node.lineno}")  # type: ignore[attr-defined]


def _mocks(path: str, tree: ast.Module, names: Mapping[str, str]) -> Iterator[Finding]:
    if not path.startswith("tests/"):
        return
    for node, dotted in _uses(tree, names):
        if dotted.startswith(("unittest.mock", "mocker.")):
            yield Finding("mock", path, f"L{node.lineno}")
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for argument in function.args.args:
                if argument.arg == "mocker":
                    yield Finding("mock", path, function.name)


def _sql_in_python(path: str, tree: ast.Module, _names: Mapping[str, str]) -> Iterator[Finding]:
    if not path.startswith("src/"):
        return
    docstrings = {id(node) for node in _docstring_nodes(tree)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and _SQL.search(node.value)
        ):
            yield Finding("sql-in-python", path, f"L{node.lineno}")


def _docstrings(path: str, tree: ast.Module, _names: Mapping[str, str]) -> Iterator[Finding]:
    if not path.startswith("src/"):
        return
    for name, node in _public_functions(tree):
        decorators = {ast.unparse(item).rpartition(".")[2] for item in node.decorator_list}
        if ast.get_docstring(node) is None and not decorators & {"overload", "override", "setter"}:
            yield Finding("docstring", path, name)


def _pure_imports(path: str, tree: ast.Module, _names: Mapping[str, str]) -> Iterator[Finding]:
    parts = PurePosixPath(path).parts
    pure = parts[:2] == ("src", "bursar") and parts[-1] in PURE_FILES and parts[2] != "api"
    if not pure:
        return
    for module in _imported_modules(tree):
        if any(module == name or module.startswith(f"{name}.") for name in _IMPURE):
            yield Finding("impure", path, module)


def _rails_imports(path: str, tree: ast.Module, _names: Mapping[str, str]) -> Iterator[Finding]:
    """Rails know kit and money alone: a connector can be read, and trusted, by itself."""
    if not path.startswith("src/bursar/rails/"):
        return
    for module in _imported_modules(tree):
        parts = module.split(".")
        if parts[0] == "bursar" and parts[1] not in {"kit", "money", "rails"}:
            yield Finding("rails-imports", path, module)


_CHECKS: tuple[Callable[[str, ast.Module, Mapping[str, str]], Iterator[Finding]], ...] = (
    _function_lines,
    _time_and_chance,
    _floats_in_money,
    _mocks,
    _sql_in_python,
    _docstrings,
    _pure_imports,
    _rails_imports,
)


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Local name -> the dotted name it stands for, wherever in the file it is imported."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _imported_modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _uses(tree: ast.Module, names: Mapping[str, str]) -> Iterator[tuple[ast.expr, str]]:
    """Every name or chain of attributes, as the dotted name it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            root, _, rest = ast.unparse(node).partition(".")
            if root in names or root == "mocker":
                full = names.get(root, root)
                yield node, f"{full}.{rest}" if rest else full


def _docstring_nodes(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr):
                yield first.value


def _public_functions(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions of the module and methods of its public classes; not those inside functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_"):
                yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from ((f"{node.name}.{name}", found) for name, found in _public_functions(node))
