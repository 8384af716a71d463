"""Numbers by label, added up as cheaply as Python can: what instruments.py counts in. No I/O.

Bounded in names and in series, because a caller can name networks. What does not fit is counted under
`other`. Written from one thread; `cells.copy()` may be read from any.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
MAX_LABEL_CHARS: Final = 64
# Below OpenTelemetry's own limit of 2000 per stream; a histogram has some twenty lines a series.
MAX_SERIES: Final = 1500
MAX_HISTOGRAM_SERIES: Final = 500

Labels = tuple[str, ...]


class Names:
    """Gives back the first `limit` distinct names, and `other` for the rest; reserved ones always fit."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int, reserved: Iterable[str] = ()) -> None:
        self._seen = {name: name[:MAX_LABEL_CHARS] for name in reserved}
        self._limit = max(limit, len(self._seen))

    def __call__(self, name: str) -> str:
        label = self._seen.get(name)
        if label is not None:
            return label
        if len(self._seen) >= self._limit or not 0 < len(name) <= MAX_LABEL_CHARS or not name.isprintable():
            return OTHER
        self._seen[name] = label = str(name)
        return label

    def reserve(self, names: Iterable[str]) -> None:
        """Make room for names that must keep a label of their own."""
        for name in names:
            if name not in self._seen:
                self._seen[name] = name[:MAX_LABEL_CHARS]
                self._limit += 1

    def labels(self) -> list[str]:
        return list(self._seen.values())


class Values:
    """A counter or gauge: one number for each tuple of label values."""

    __slots__ = ("_rest", "cells", "labels")

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self.cells: dict[Labels, float] = {}
        self._rest = (OTHER,) * len(labels)

    def add(self, key: Labels, value: float = 1) -> None:
        cells = self.cells
        if key in cells:
            cells[key] += value
        else:
            key = key if len(cells) < MAX_SERIES else self._rest
            cells[key] = cells.get(key, 0) + value

    def put(self, key: Labels, value: float) -> None:
        if key not in self.cells and len(self.cells) >= MAX_SERIES:
            key = self._rest
        self.cells[key] = value


class Cell:
    """One series of a histogram."""

    __slots__ = ("counts", "high", "low", "total")

    def __init__(self, buckets: int, first: float) -> None:
        self.counts = [0] * buckets
        self.total = 0.0
        self.low = first
        self.high = first


class Distribution:
    """A histogram in seconds: for each tuple of label values the counts by bucket (value ≤ bound)."""

    __slots__ = ("_rest", "bounds", "cells", "description", "labels", "name", "start_ns")

    def __init__(self, name: str, description: str, bounds: tuple[float, ...], labels: Labels) -> None:
        self.name = name
        self.description = description
        self.bounds = bounds
        self.labels = labels
        self.start_ns = time.time_ns()
        self.cells: dict[Labels, Cell] = {}
        self._rest = (OTHER,) * len(labels)

    def record(self, key: Labels, seconds: float) -> None:
        cell = self.cells.get(key) or self._add(key, seconds)
        cell.counts[bisect_left(self.bounds, seconds)] += 1
        cell.total += seconds
        if seconds < cell.low:
            cell.low = seconds
        elif seconds > cell.high:
            cell.high = seconds

    def _add(self, key: Labels, seconds: float) -> Cell:
        if len(self.cells) >= MAX_HISTOGRAM_SERIES:
            key = self._rest
        return self.cells.setdefault(key, Cell(len(self.bounds) + 1, seconds))
