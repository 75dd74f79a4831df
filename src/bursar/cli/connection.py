"""Which API to talk to, and with which key: options, then the environment, then demo.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bursar.cli.errors import CommandRefused

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_DEMO_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Connection:
    """An API's base URL, without a trailing slash, and a key for it."""

    api_url: str
    api_key: str

    @property
    def loopback(self) -> bool:
        """Whether the API is on this machine: then no proxy stands between."""
        return urlsplit(self.api_url).hostname in _LOOPBACK


def resolve_connection(url: str | None, api_key: str | None, demo_file: Path) -> Connection:
    """What was given, completed from the demo file that `bursar up` wrote.

    The demo key is only ever sent to the demo's own URL. Raises `CommandRefused`.
    """
    if url is not None and api_key is not None:
        return _checked(url, api_key)
    demo = _read_demo(demo_file)
    if demo is None:
        raise CommandRefused(
            f"no API to talk to: start one with `bursar up` ({demo_file} is not there), or give"
            " --url and --api-key"
        )
    if url is not None and url.rstrip("/") != demo.api_url:
        raise CommandRefused(f"--api-key is needed for {url}: the demo key is for {demo.api_url}")
    return _checked(url or demo.api_url, api_key or demo.api_key)


def _checked(url: str, api_key: str) -> Connection:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise CommandRefused(f"{url!a} is not a URL such as http://127.0.0.1:8026", code=2)
    if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
        raise CommandRefused("the API key is empty or has characters no key has", code=2)
    return Connection(url.rstrip("/"), api_key)


def _read_demo(path: Path) -> Connection | None:
    try:
        with path.open("rb") as stream:
            document = json.loads(stream.read(_DEMO_BYTES_MAX))
        return Connection(str(document["api_url"]).rstrip("/"), str(document["api_key"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandRefused(f"{path} cannot be used: {error}") from error
