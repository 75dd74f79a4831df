"""Settings: read once at start from the environment (`BURSAR_*`), then handed in, never global.

Secrets are `SecretStr`, so no log line or traceback shows them. The sandbox has well-known
secrets of its own; in production an API or a worker refuses to start with those that it uses
(`api_problems`, `worker_problems`), and no process is asked for secrets that it does not use. A
variable that is not known is refused too: a misspelt one would leave its default in force, and
nobody would hear of it.
"""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from bursar.kit.crashpoints import parse_crash_point

SANDBOX_BANK_API_KEY: Final = "sandbox-bank-key"
SANDBOX_BANK_WEBHOOK_SECRET: Final = "sandbox-bank-webhook-secret"  # noqa: S105 - public by design
SANDBOX_OFFRAMP_API_KEY: Final = "sandbox-offramp-key"
SANDBOX_OFFRAMP_WEBHOOK_SECRET: Final = "sandbox-offramp-webhook-secret"  # noqa: S105 - as above
SANDBOX_SECRETS: Final = frozenset(
    {
        *(SANDBOX_BANK_API_KEY, SANDBOX_BANK_WEBHOOK_SECRET),
        *(SANDBOX_OFFRAMP_API_KEY, SANDBOX_OFFRAMP_WEBHOOK_SECRET),
    }
)
_PROVIDERS: Final = ("bank", "offramp")
_PREFIX: Final = "BURSAR_"
_READ_ELSEWHERE: Final = frozenset(
    {
        *("BURSAR_API_URL", "BURSAR_API_KEY"),  # the options of `bursar pay`
        "BURSAR_SUPERVISOR_PID",  # told to children of `bursar up`
    }
)
# What Kubernetes tells every pod of a service called `bursar` or `bursar-…`.
_SERVICE_LINK: Final = re.compile(
    r"BURSAR(?:_[A-Z0-9]+)*_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)\Z"
)
_SERVICE_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://")
_SERVER: Final = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{1,5})?)?\Z", re.ASCII)


class SettingsInvalid(ValueError):
    """The environment does not give usable settings. `problems` has one line for each fault."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """Everything a process is told from outside. Build it with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="BURSAR_", frozen=True, extra="ignore", populate_by_name=True
    )

    mode: Literal["sandbox", "production"] = "sandbox"
    "Sandbox has public demo secrets and free money; production has neither."
    data_dir: Path = Path("data")
    "Where the embedded Postgres, logs and demo.json live."
    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("BURSAR_DATABASE_URL", "DATABASE_URL")
    )
    "A Postgres to use instead of the embedded one; the role must be allowed to do what we ask."

    process_dsn: SecretStr | None = None
    "This API's or worker's own address of the database, with its own role; nothing else is read."

    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8026, ge=1, le=65535)
    sim_host: str = "127.0.0.1"
    sim_port: int = Field(default=8028, ge=1, le=65535)

    bank_url: str | None = None
    "Base URL of the bank; the simulator's unless given."
    bank_api_key: SecretStr = SecretStr(SANDBOX_BANK_API_KEY)
    bank_webhook_secret: SecretStr = SecretStr(SANDBOX_BANK_WEBHOOK_SECRET)

    offramp_url: str | None = None
    "Base URL of the off-ramp; the simulator's unless given."
    offramp_api_key: SecretStr = SecretStr(SANDBOX_OFFRAMP_API_KEY)
    offramp_webhook_secret: SecretStr = SecretStr(SANDBOX_OFFRAMP_WEBHOOK_SECRET)

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    engine_queue_max: int = Field(default=4096, ge=1, le=1_000_000)
    "Commands waiting for a group; one more is answered 503 with Retry-After."
    engine_group_max: int = Field(default=512, ge=1, le=100_000)
    "Commands in one commit."
    pool_size: int = Field(default=4, ge=2, le=200)
    "Database connections of one process for reads, beside the engine's own."
    worker_concurrency: int = Field(default=64, ge=1, le=4096)
    "Provider calls in flight in one worker."
    worker_poll_s: float = Field(default=1.0, gt=0, le=60)
    "Fall-back when no notification arrives."
    journal_export: Path | None = None
    """A file that gets every journal entry, one JSON object a line, at least once.

    The same for every process that writes: each marks its own entries, a worker writes them out.
    """
    anchor: Path | None = None
    "Where checkpoints are appended; `checkpoints.jsonl` in the data directory unless given."
    body_bytes_max: int = Field(default=65_536, ge=1024, le=16_777_216)
    "Largest request body that the API reads."
    crash_at: str | None = None
    "For tests, in the sandbox: `STEP:SIDE[:TIMES]` of kit/crashpoints, where the process dies."

    @model_validator(mode="before")
    @classmethod
    def _without_service_links(cls, given: Any) -> Any:
        """Drop what Kubernetes tells of a service called `bursar-api` or `bursar-sim`.

        It has the name of a port of ours, and is the address of a service.
        """
        if not isinstance(given, dict):
            return given
        return {
            name: value
            for name, value in given.items()
            if not (
                name.endswith("_port")
                and isinstance(value, str)
                and _SERVICE_ADDRESS.match(value) is not None
            )
        }

    @field_validator("database_url", "process_dsn")
    @classmethod
    def _is_an_address_of_postgres(cls, address: SecretStr | None) -> SecretStr | None:
        if address is not None and (fault := _address_fault(address.get_secret_value())):
            # Its text stays out of the message: any part of it may be part of a password (F65).
            raise ValueError(f"is no address of a Postgres: {fault}")
        return address

    @field_validator("bank_url", "offramp_url")
    @classmethod
    def _is_an_address_of_a_provider(cls, url: str | None) -> str | None:
        if url is not None and (fault := _provider_url_fault(url)):
            raise ValueError(f"is no address of a provider: {fault}")
        return url

    @field_validator("crash_at")
    @classmethod
    def _crash_at_names_a_crash_point(cls, text: str | None) -> str | None:
        if text is not None:
            parse_crash_point(text)
        return text

    @model_validator(mode="after")
    def _production_does_not_crash(self) -> Self:
        if self.mode == "production" and self.crash_at is not None:
            raise ValueError("BURSAR_CRASH_AT is refused in production mode")
        return self

    @property
    def api_url(self) -> str:
        """Where this machine reaches the API."""
        return f"http://{_in_url(self.api_host)}:{self.api_port}"

    @property
    def provider_url(self) -> str:
        """Base URL of the bank, without a trailing slash."""
        return self._base_url(self.bank_url)

    @property
    def offramp_provider_url(self) -> str:
        """Base URL of the off-ramp, without a trailing slash."""
        return self._base_url(self.offramp_url)

    @property
    def simulates(self) -> bool:
        """Whether a provider is simulated, because no address of a real one was given."""
        return self.bank_url is None or self.offramp_url is None

    def _base_url(self, given: str | None) -> str:
        return (given or f"http://{_in_url(self.sim_host)}:{self.sim_port}").rstrip("/")

    @property
    def anchor_file(self) -> Path:
        """Where the worker that seals appends each checkpoint."""
        return self.anchor or self.data_dir / "checkpoints.jsonl"

    @property
    def demo_file(self) -> Path:
        """Where `bursar up` leaves the demo merchant's key (mode 0600)."""
        return self.data_dir / "demo.json"


def load_settings(**overrides: Any) -> Settings:
    """Settings from `overrides` (None = not given) over the environment over the defaults.

    Raises `SettingsInvalid`; its lines name the variable and never repeat a secret's value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    problems = _unknown_variables(os.environ)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problems += [_line(fault["loc"], fault["msg"]) for fault in error.errors()]
    else:
        if not problems:
            return settings
    raise SettingsInvalid(problems)


def database_problems(settings: Settings) -> list[str]:
    """What keeps any process from the database in production: there is no embedded one."""
    if settings.mode == "sandbox" or settings.database_url is not None:
        return []
    return ["DATABASE_URL must be set in production mode"]


def api_problems(settings: Settings) -> list[str]:
    """What keeps an API from starting in production: what providers sign with is public."""
    lines = [] if settings.process_dsn is not None else database_problems(settings)
    return lines + _public_secrets(settings, "webhook_secret")


def worker_problems(settings: Settings) -> list[str]:
    """What keeps a worker from starting in production: a provider that is simulated or public."""
    lines = [] if settings.process_dsn is not None else database_problems(settings)
    lines += _public_secrets(settings, "api_key")
    if settings.mode == "production":
        lines += [
            f"BURSAR_{provider.upper()}_URL must be set in production mode"
            for provider in _PROVIDERS
            if getattr(settings, f"{provider}_url") is None
        ]
    return lines


def _public_secrets(settings: Settings, kind: str) -> list[str]:
    """A line for each provider whose secret of this kind is empty or everybody's."""
    if settings.mode == "sandbox":
        return []
    names = [f"{provider}_{kind}" for provider in _PROVIDERS]
    return [
        f"BURSAR_{name.upper()} must be set in production mode"
        for name in names
        if getattr(settings, name).get_secret_value().strip() in {"", *SANDBOX_SECRETS}
    ]


def known_variables() -> frozenset[str]:
    """The names with our prefix that something of ours reads."""
    return _READ_ELSEWHERE | {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each variable with our prefix that nothing reads. Names have no case here."""
    known = known_variables()
    lines = []
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(_PREFIX) or upper in known:
            continue
        if not _is_service_link(upper, environment[name]):
            nearest = get_close_matches(upper, sorted(known), n=1, cutoff=0)[0]
            lines.append(f"{name}: there is no such setting; the nearest is {nearest}")
    return lines


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.match(name):
        return True
    return name.endswith("_PORT") and _SERVICE_ADDRESS.match(value) is not None


def _address_fault(address: str) -> str | None:
    """What is wrong with a Postgres address, in words that repeat nothing of it; None if fine."""
    escape = "write / ? # @ : [ ] in a name or password as %2F %3F %23 %40 %3A %5B %5D"
    try:
        parts = urlsplit(address)
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return f"its host or its query cannot be read; {escape}"
    if parts.scheme not in {"postgresql", "postgres"}:
        return "it does not begin with postgresql://"
    if parts.fragment or "@" in parts.path or parts.path.count("/") > 1:
        return f"there is more than a database's name after its host; {escape}"
    for server in parts.netloc.rpartition("@")[2].split(","):
        found = _SERVER.match(server)
        if found is None or int(found["port"] or 1) not in range(1, 65_536):
            return f"a host's port is no number from 1 to 65535; {escape}"
    return None


def _provider_url_fault(url: str) -> str | None:
    """What is wrong with a provider's base URL, without its text: None if nothing."""
    example = "it must be like https://bank.example/v1"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"its host or port cannot be read; {example}"
    if parts.scheme not in {"http", "https"}:
        return f"it does not begin with http:// or https://; {example}"
    if not host or port == 0 or any(char.isspace() or not char.isprintable() for char in url):
        return f"it names no host or port that can be reached; {example}"
    if parts.query or parts.fragment or "@" in parts.netloc:
        return f"it has a name, a query or a fragment; {example}"
    return None


def _line(location: tuple[int | str, ...], message: str) -> str:
    reason = message.removeprefix("Value error, ")
    if not location:
        return reason
    name = str(location[0])
    if name == "BURSAR_DATABASE_URL" and name not in {given.upper() for given in os.environ}:
        name = "DATABASE_URL"  # the other name of the same setting is the one that was given
    return f"{name if name.isupper() else f'BURSAR_{name.upper()}'}: {reason}"


def reachable(host: str) -> str:
    """Where this machine reaches a server: one that listens on every interface, on loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not a bind


def _in_url(host: str) -> str:
    """`reachable`, with the brackets that an IPv6 address has in a URL."""
    name = reachable(host)
    return f"[{name}]" if ":" in name else name
