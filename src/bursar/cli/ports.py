"""Whether a TCP port is free, and who serves on it: healthy or not, ours or not."""

import asyncio
import errno
import json
import socket
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Final

_PROBE_S: Final = 2.0
_HEALTH_BYTES_MAX: Final = 4_096


def port_fault(host: str, port: int) -> str | None:
    """None if a server can listen there, else the reason. The port is free again afterwards."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} on {host} is taken by another program"
            return f"port {port} on {host} cannot be used: {error.strerror or error}"
    return None


def bursar_on(host: str, port: int) -> str | None:
    """What of Bursar answers there, as `/health` tells: an API, a simulated bank, or None."""
    connection = HTTPConnection(host, port, timeout=_PROBE_S)
    try:
        connection.request("GET", "/health")
        said = json.loads(connection.getresponse().read(_HEALTH_BYTES_MAX))
    except (OSError, HTTPException, ValueError, RecursionError):
        return None
    finally:
        connection.close()
    if not isinstance(said, dict):
        return None
    if "database" in said or str(said.get("type")).startswith("urn:bursar:"):
        return "an API of Bursar"
    return "a simulated bank" if said == {"status": "ok"} else None


async def answers_healthy(host: str, port: int, path: str = "/health") -> bool:
    """Whether `GET path` is answered with 200 within two seconds. Never raises `OSError`."""
    writer = None
    try:
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            )
            return b" 200 " in await reader.readline() + b" "
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
