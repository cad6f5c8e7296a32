"""What the page and the plots take from results: rows, how time grows with size, and the fastest peers."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["exponent", "fastest_peers", "rows_of", "series_of"]


def rows_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a result, one for each case and problem."""
    rows: list[dict[str, Any]] = result["rows"]
    return rows


def series_of(result: Mapping[str, Any]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points (size, seconds of one problem) of each case whose size grows."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows_of(result):
        if row["series"]:
            of, size = row["series"]
            # What a stack has many of is counted in pieces, that the size of a piece does not mix with their number.
            whole = of in ("candidates", "pairs", "patterns")
            points[row["case"], of].append((float(size), row["seconds"]["median"] / (1 if whole else row["count"])))
    return {key: sorted(values) for key, values in points.items()}


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log(time) over log(size), by least squares; None for fewer than two sizes."""
    if len({size for size, _ in points}) < 2:
        return None
    size, seconds = np.log(np.array(points, np.float64)).T
    return float(np.polyfit(size, seconds, 1)[0])


def fastest_peers(result: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Give each case's problem, its ratio to its fastest peer, and the peer's name."""
    best = []
    for row in rows_of(result):
        peers = [peer for peer in row["peers"] if math.isfinite(peer["over"])]
        if peers:
            fastest = min(peers, key=lambda peer: peer["over"])
            best.append((f"{row['case']}, {row['problem']}", fastest["over"], fastest["name"]))
    return best
