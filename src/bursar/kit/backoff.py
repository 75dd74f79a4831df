"""Waiting between tries."""

from bursar.kit.ids import Randomness


def full_jitter(attempt: int, *, base_s: float, cap_s: float, randomness: Randomness) -> float:
    """Seconds to wait before try `attempt` + 1 (attempt counts from 1).

    Exponential back-off with full jitter: uniform between 0 and min(cap, base * 2^(attempt-1)),
    so that callers that failed together do not return together.
    """
    return randomness.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt - 1, 60)))
