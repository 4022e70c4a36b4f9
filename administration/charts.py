"""Small charts as SVG, made on the server: bars side by side, each a stack. Templates show the same as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

# Units of the drawing: it is stretched to the width of its card.
HEIGHT, STEP, GAP = 48, 10, 2
# Bars that have a label each; of more, the first and the last one have.
SHORT = 6
Number = int | Decimal


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a bar. `kind` is its class in the style sheet."""

    kind: str
    x: int
    y: float
    width: int
    height: float
    label: str = ""
    series: str = ""
    value: Number = 0


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one kind, one for each label of the chart."""

    title: str
    kind: str
    values: Sequence[Number]

    @property
    def total(self) -> Number:
        """The sum of the values."""
        return sum(self.values)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: what it shows, the label of each bar, and the series that are stacked, the lowest first. What is below
    zero is stacked downwards.

    Attributes:
        money: the values are USD.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    money: bool = False

    @property
    def is_short(self) -> bool:
        """Whether there is room for the label of each bar."""
        return len(self.labels) <= SHORT

    @property
    def width(self) -> int:
        """The width of the drawing."""
        return STEP * len(self.labels)

    @property
    def highest(self) -> Number:
        """The sum of the highest bar."""
        return max((self._sum(value for value in values if value > 0) for values in self._bars()), default=0)

    @property
    def lowest(self) -> Number:
        """What reaches furthest below zero."""
        return min((self._sum(value for value in values if value < 0) for values in self._bars()), default=0)

    @property
    def zero(self) -> float:
        """The height of zero in the drawing, from its top."""
        span = float(self.highest - self.lowest) or 1.0
        return HEIGHT - (HEIGHT - 2) * float(-self.lowest) / span

    @property
    def parts(self) -> list[Part]:
        """The rectangles. The bars fill the height; a value other than zero is always visible."""
        scale = (HEIGHT - 2) / (float(self.highest - self.lowest) or 1.0)
        found = []
        for number, values in enumerate(self._bars()):
            top = bottom = self.zero
            for series, value in zip(self.series, values, strict=True):
                if not value:
                    continue
                height = max(abs(float(value)) * scale, 1.0)
                if value > 0:
                    top -= height
                    y = top
                else:
                    y = bottom
                    bottom += height
                place = (number * STEP + GAP // 2, round(y, 2), STEP - GAP, round(height, 2))
                found.append(Part(series.kind, *place, self.labels[number], series.title, value))
        return found

    @property
    def rows(self) -> list[tuple[str, tuple[Number, ...]]]:
        """The rows of the table behind the drawing: a label and the value of each series."""
        return list(zip(self.labels, self._bars(), strict=True))

    def _sum(self, values: Iterable[Number]) -> Number:
        return sum(values, Decimal(0) if self.money else 0)

    def _bars(self) -> list[tuple[Number, ...]]:
        return list(zip(*(series.values for series in self.series), strict=True))
