"""Settings: read once at start from the environment (`BURSAR_*`), then handed in, never global.

Secrets are `SecretStr`, so no log line or traceback shows them. The sandbox has well-known
secrets of its own; production refuses to start with them. A variable that is not known is refused
too: a misspelt one would leave its default in force, and nobody would hear of it.
"""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, Self

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
    "A file that gets every journal entry, one JSON object a line, at least once."
    body_bytes_max: int = Field(default=65_536, ge=1024, le=16_777_216)
    "Largest request body that the API reads."
    crash_at: str | None = None
    "For tests, in the sandbox: `STEP:SIDE[:TIMES]` of kit/crashpoints, where the process dies."

    @field_validator("crash_at")
    @classmethod
    def _crash_at_names_a_crash_point(cls, text: str | None) -> str | None:
        if text is not None:
            parse_crash_point(text)
        return text

    @model_validator(mode="after")
    def _production_has_its_own_secrets(self) -> Self:
        if self.mode == "production":
            for provider in _PROVIDERS:
                for name in (f"{provider}_api_key", f"{provider}_webhook_secret"):
                    secret: SecretStr = getattr(self, name)
                    if secret.get_secret_value().strip() in {"", *SANDBOX_SECRETS}:
                        raise ValueError(f"BURSAR_{name.upper()} must be set in production mode")
                if getattr(self, f"{provider}_url") is None:
                    raise ValueError(
                        f"BURSAR_{provider.upper()}_URL must be set in production mode"
                    )
            if self.database_url is None and self.process_dsn is None:
                raise ValueError("DATABASE_URL must be set in production mode")
            if self.crash_at is not None:
                raise ValueError("BURSAR_CRASH_AT is refused in production mode")
        return self

    @property
    def api_url(self) -> str:
        """Where this machine reaches the API."""
        return f"http://{_reachable(self.api_host)}:{self.api_port}"

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
        return (given or f"http://{_reachable(self.sim_host)}:{self.sim_port}").rstrip("/")

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


def _line(location: tuple[int | str, ...], message: str) -> str:
    reason = message.removeprefix("Value error, ")
    if not location:
        return reason
    name = str(location[0])
    return f"{name if name.isupper() else f'BURSAR_{name.upper()}'}: {reason}"


def _reachable(host: str) -> str:
    """The loopback address for a server that listens on every interface."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - not a bind
