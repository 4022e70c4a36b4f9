"""Small charts as SVG, made on the server: bars side by side, each a stack. Templates show the same as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Units of the drawing: it is stretched to the width of its card.
HEIGHT, STEP, GAP = 48, 10, 2


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a bar. `kind` is its class in the style sheet."""

    kind: str
    x: int
    y: float
    width: int
    height: float


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one kind, one for each label of the chart."""

    title: str
    kind: str
    values: Sequence[int]

    @property
    def total(self) -> int:
        """The sum of the values."""
        return sum(self.values)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: what it shows, the label of each bar, and the series that are stacked, the lowest first."""

    title: str
    labels: Sequence[str]
    series: Sequence[Series]

    @property
    def width(self) -> int:
        """The width of the drawing."""
        return STEP * len(self.labels)

    @property
    def highest(self) -> int:
        """The sum of the highest bar."""
        return max((sum(values) for values in self._bars()), default=0)

    @property
    def parts(self) -> list[Part]:
        """The rectangles. The highest bar fills the height; a value above zero is always visible."""
        scale = (HEIGHT - 2) / (self.highest or 1)
        found = []
        for number, values in enumerate(self._bars()):
            top = float(HEIGHT)
            for series, value in zip(self.series, values, strict=True):
                height = max(value * scale, 1.0) if value else 0.0
                top -= height
                if value:
                    x = number * STEP + GAP // 2
                    found.append(Part(series.kind, x, round(top, 2), STEP - GAP, round(height, 2)))
        return found

    @property
    def rows(self) -> list[tuple[str, tuple[int, ...]]]:
        """The rows of the table behind the drawing: a label and the value of each series."""
        return list(zip(self.labels, self._bars(), strict=True))

    def _bars(self) -> list[tuple[int, ...]]:
        return list(zip(*(series.values for series in self.series), strict=True))
