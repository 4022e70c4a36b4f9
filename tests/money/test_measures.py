"""Percentiles of histograms, and the sums of arrays."""

from __future__ import annotations

import random

import pytest
from django.db import connection

from usage.measures import BOUNDS, CLASSES, class_of, elements, percentile, plus, sum_of


def histogram(values: list[int]) -> list[int | None]:
    counts: list[int | None] = [None] * CLASSES
    for value in values:
        counts[class_of(value)] = (counts[class_of(value)] or 0) + 1
    return counts


@pytest.mark.parametrize("part", [0.5, 0.9, 0.95, 0.99])
def test_a_percentile_is_near_the_exact_one(part):
    chance = random.Random(4)
    values = sorted(round(chance.lognormvariate(7.5, 0.9)) for _ in range(20_000))
    found = percentile(histogram(values), part)
    assert found is not None
    assert abs(found / values[int(len(values) * part)] - 1) < 0.1


def test_without_calls_there_is_no_percentile():
    assert percentile(None, 0.5) is None
    assert percentile([None] * CLASSES, 0.5) is None


def test_the_slowest_class_has_an_end():
    assert (percentile(histogram([10**7] * 3), 0.99) or 0) <= 2 * BOUNDS[-1]
    assert class_of(0) == 0
    assert class_of(BOUNDS[-1]) == CLASSES - 1


def test_arrays_are_added_element_by_element(db):
    rows = f"(VALUES ({elements('cost_split', '#')}), (NULL), (ARRAY[0.5])) AS f (cost_split)"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sum_of('cost_split')} FROM {rows}")
        assert [float(each) for each in cursor.fetchone()[0]] == [1.5, 2, 3, 4, 5, 6, 7]
        cursor.execute(
            f"SELECT {plus('durations')} FROM (SELECT ARRAY[1, NULL, NULL]::bigint[]) AS t (durations),"
            " (SELECT ARRAY[2, 3, NULL]::bigint[]) AS excluded (durations)"
        )
        assert cursor.fetchone()[0][:4] == [3, 3, None, None]
