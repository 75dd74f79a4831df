"""By what a provider decides: its terms, its knobs and the seed of its chance. Pure."""

from dataclasses import dataclass

from bursar_sim.draws import fires, fraction, fractions
from bursar_sim.provider.knobs import Knobs
from bursar_sim.provider.terms import Terms


@dataclass(frozen=True, slots=True)
class Draws:
    """The numbers drawn for a key, each for one use."""

    fate: float
    route: float
    timing: float
    reason: float
    returned: float
    repeated: float
    variant: float
    lost: float


@dataclass(frozen=True, slots=True)
class Rules:
    """The same for every decision of one moment."""

    terms: Terms
    knobs: Knobs
    seed: int

    def draws(self, key: str) -> Draws:
        """The numbers of a key, the same each time."""
        return Draws(*fractions(self.seed, key))

    def fires(self, knob: str, subject: str) -> bool:
        """Whether a knob that is a rate has its effect on a subject."""
        return fires(getattr(self.knobs, knob), self.seed, knob, subject)

    def fraction(self, use: str, subject: str) -> float:
        """A number in [0, 1) for one use of a subject."""
        return fraction(self.seed, use, subject)


def pick(codes: tuple[str, ...], part: float) -> str:
    """One of the codes, for a number in [0, 1)."""
    return codes[int(part * len(codes))]
