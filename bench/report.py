"""What was measured, as a table for people and as JSON for machines."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing; its value is their median."""

    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """Half of (largest - smallest), as a share of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.value if self.value else 0.0


@dataclass(frozen=True)
class Target:
    """What DESIGN asks of the ratio to the baseline, or, without one, of the value."""

    bound: Literal["at least", "at most"]
    value: float

    def met(self, measured: float) -> bool:
        """Whether `measured` keeps the bound."""
        return measured >= self.value if self.bound == "at least" else measured <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.bound == 'at least' else '<='} {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """One line of the table. `note` says under which circumstances."""

    name: str
    unit: str
    ours: Sample
    baseline: Sample | None = None
    baseline_name: str = ""
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the baseline: median over median."""
        return None if self.baseline is None else self.ours.value / self.baseline.value

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.target.met(self.ours.value if self.ratio is None else self.ratio)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "value": self.ours.value, "ratio": self.ratio, "met": self.met}


def table(figures: Iterable[Figure]) -> str:
    """Aligned columns; values are medians, with their spread."""
    head = ("figure", "ours", "baseline", "", "ratio", "target", "")
    lines: list[Sequence[str]] = [head]
    for figure in figures:
        verdict = "" if figure.met is None else ("met" if figure.met else "MISSED")
        lines.append(
            (
                figure.name,
                _sample(figure.ours, figure.unit),
                "" if figure.baseline is None else _sample(figure.baseline, figure.unit),
                figure.baseline_name,
                "" if figure.ratio is None else f"{figure.ratio:.2f}",
                "" if figure.target is None else str(figure.target),
                " ".join(word for word in (verdict, figure.note) if word),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    right = {1, 2, 4}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _sample(sample: Sample, unit: str) -> str:
    digits = 0 if sample.value >= 100 else 2
    spread = f" ±{sample.spread:.0%}" if len(sample.values) > 1 else ""
    return f"{sample.value:,.{digits}f} {unit}{spread}"


def machine() -> str:
    """One line about where this ran."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()},"
        f" load before {load}"
    )


def write_json(path: Path, figures: Sequence[Figure], *, about: str) -> None:
    """Everything measured, repeats included."""
    document = {"about": about, "figures": [figure.as_dict() for figure in figures]}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
