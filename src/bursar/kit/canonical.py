"""One byte form for each value: what is hashed, fingerprinted or compared."""

from collections.abc import Iterable

import msgspec

_encoder = msgspec.json.Encoder(order="sorted")


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces. Equal values give equal bytes."""
    return _encoder.encode(value)


def length_prefixed(fields: Iterable[bytes]) -> bytes:
    """Each field behind its length (4 bytes, big-endian), so no two lists share an encoding."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)
