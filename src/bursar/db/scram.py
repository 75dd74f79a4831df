"""SCRAM-SHA-256 verifiers: what a Postgres server keeps in place of a password.

Sent instead of the password, they keep it out of the server's logs, of `pg_stat_statements` and of
`pg_stat_activity`. The form is Postgres's: `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server
key>`, the keys as RFC 5802, section 3, defines them with SHA-256 (RFC 7677).
"""

import hmac
import re
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256

from bursar.kit.ids import new_secret

_ITERATIONS = 4096  # Postgres's own number; the passwords are 256 random bits
_SALT_LENGTH = 22
_FORM = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+\Z")


def make_verifier(password: str) -> str:
    """A verifier with a new salt. Raises ValueError unless `password` is printable ASCII.

    Other characters would have to be normalised as RFC 4013 says; our passwords have none.
    """
    return _verifier(password, _ITERATIONS, new_secret()[:_SALT_LENGTH].encode())


def is_verifier_of(verifier: str, password: str) -> bool:
    """Whether whoever knows `password` gets in by `verifier`. False for one of another method."""
    match = _FORM.match(verifier)
    if match is None:
        return False
    made = _verifier(password, int(match[1]), b64decode(match[2]))
    return hmac.compare_digest(made, verifier)


def _verifier(password: str, iterations: int, salt: bytes) -> str:
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a role's password must be of printable ASCII characters")
    salted = pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored_key = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (
        b64encode(part).decode() for part in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"
