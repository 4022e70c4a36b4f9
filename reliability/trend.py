"""Straight lines through measurements: do they rise?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Trend:
    """The slope of a line by least squares, in units of y per unit of x, and its standard error."""

    slope: float
    error: float

    def rises(self, least: float) -> bool:
        """Whether it surely rises by more than `least`: the slope less two standard errors."""
        return self.slope - 2 * self.error > least


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """The trend of these points (x, y).

    Raises:
        ValueError: there are fewer than three, or all at the same x.
    """
    count = len(points)
    if count < 3:
        raise ValueError(f"a trend needs three points, not {count}")
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("all points are at the same place")
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return Trend(slope, math.sqrt(left / (count - 2) / spread))
