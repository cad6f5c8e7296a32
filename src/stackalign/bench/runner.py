"""Run benchmarks and keep what they gave."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from stackalign import ops
from stackalign.device import default_workers
from stackalign.errors import DataError
from stackalign.io.atomic import write_text_atomic

from . import cases_ops, cases_pipelines
from .case import Case, Cases, Setting
from .ceilings import Ceilings, measure_ceilings
from .machine import machine, slug
from .peers import limit_peers
from .timing import Times, take_turns

__all__ = ["FORMAT", "GROUPS", "run_benchmarks", "save"]

FORMAT = 1
GROUPS: dict[str, Cases] = {
    "ops": cases_ops.cases,
    "register": cases_pipelines.register,
    "crop": cases_pipelines.crop,
    "coalign": cases_pipelines.coalign,
    "diffraction": cases_pipelines.diffraction,
    "refine": cases_pipelines.refine,
}
"""What can be measured, by name."""

ROUNDS = {"tiny": 3, "quick": 5, "full": 9}
SECONDS = {"tiny": 0.05, "quick": 1.0, "full": 5.0}
"""Samples of each candidate, and seconds after which it has enough."""


def run_benchmarks(
    groups: Iterable[str] = ("all",),
    *,
    device: str = "auto",
    workers: int | None = None,
    size: str = "quick",
    peers: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure operations and pipelines on this machine.

    Parameters
    ----------
    groups : iterable of str
        Keys of `GROUPS`, or "all".
    device : str
        "auto", "cpu", "cuda" or "cuda:n".
    workers : int, optional
        Threads of the CPU, by default as many as there may be.
    size : {"quick", "full", "tiny"}
        Of the problems, and how often each is solved.
    peers : bool
        Measure other packages too, those that are installed.
    progress : callable
        Takes a line on each problem that is done.

    Returns
    -------
    dict
        ``machine``, ``ceilings``, ``settings`` and ``rows``, JSON-able.

    Raises
    ------
    DataError
        A group is not known.

    Examples
    --------
    >>> from stackalign import bench
    >>> found = bench.run_benchmarks(["refine"], device="cpu", workers=1, size="tiny")
    >>> sorted(found)
    ['ceilings', 'format', 'machine', 'rows', 'settings']
    """
    chosen = list(GROUPS) if "all" in (requested := list(groups)) else list(dict.fromkeys(requested))
    unknown = [name for name in chosen if name not in GROUPS]
    if unknown or not chosen:
        msg = f"there is no benchmark {', '.join(unknown) or '(none named)'}; known are {', '.join(GROUPS)} and all"
        raise DataError(msg)
    place = ops.device_of(ops.asarray(np.zeros(1), device))
    threads = default_workers() if workers is None else workers
    tiny = size == "tiny"
    ceilings = measure_ceilings(place, threads, megabytes=1 if tiny else 256, side=64 if tiny else 1024)
    rows = []
    if peers:
        limit_peers(threads)
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(place, threads, size, peers, scratch)
        for group in chosen:
            for case in GROUPS[group](setting):
                row = {"group": group, **_row(case, setting, ceilings)}
                rows.append(row)
                progress(_line(row))
    settings = {"groups": chosen, "device": place, "workers": threads, "size": size, "peers": peers}
    return {
        "format": FORMAT,
        "machine": machine(place),
        "ceilings": ceilings,
        "settings": settings | {"command": " ".join(["stackalign", *sys.argv[1:]])},
        "rows": rows,
    }


def _row(case: Case, setting: Setting, ceilings: Ceilings) -> dict[str, Any]:
    """Time a case and its peers."""
    token = ops.asarray(np.zeros(1), setting.device)
    candidates = {"": case.run} | {peer.name: peer.run for peer in case.peers}
    failed = {name: text for name in list(candidates)[1:] if (text := _failure(candidates[name]))}
    for name in failed:
        del candidates[name]
    with threadpool_limits(setting.workers):
        times = take_turns(
            candidates,
            rounds=ROUNDS[setting.size],
            seconds=SECONDS[setting.size],
            synchronize=lambda: ops.synchronize(token),
        )
    ours = times[""].summary()
    row: dict[str, Any] = {
        "case": case.name,
        "problem": case.problem,
        "seconds": ours["wall"],
        "cpu_seconds": ours["cpu"],
        "first_seconds": ours["first"],
        "samples": ours["samples"],
        "unit": case.unit,
        "count": case.count,
        "bytes": case.bytes,
        "operations": case.operations,
        "series": list(case.series) if case.series else None,
        "ceilings": shares(case, ours["wall"]["median"], ceilings),
        "peers": [_peer(p.name, times[""], times[p.name], p.share) for p in case.peers if p.name in times],
        "failed_peers": failed,
    }
    if case.error is not None:
        row["error"] = case.error()
    return row


def _failure(run: Callable[[], Any]) -> str:
    """Why a peer cannot solve a problem; empty where it can."""
    try:
        run()
    except Exception as error:  # another package's own errors, of any class
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    return ""


def _peer(name: str, ours: Times, theirs: Times, share: float) -> dict[str, Any]:
    """Times of a peer for the whole problem, and how many times ours they are, round by round."""
    pairs = list(zip(theirs.wall, ours.wall, strict=False))
    alone = list(zip(theirs.cpu, ours.cpu, strict=False))
    timing = theirs.summary(share)
    return {
        "name": name,
        "seconds": timing["wall"],
        "cpu_seconds": timing["cpu"],
        "first_seconds": timing["first"],
        "samples": timing["samples"],
        "share": share,
        "over": float(np.median([a / b for a, b in pairs])) / share,
        "cpu_over": float(np.median([a / max(b, 1e-9) for a, b in alone])) / share,
    }


def shares(case: Case, seconds: float, ceilings: Ceilings) -> dict[str, float]:
    """Shares of the machine's ceilings that a case reaches, by its counted bytes and operations."""
    reached = {"read": case.bytes / seconds, "arithmetic": case.operations / seconds}
    return {name: rate / ceilings[name] for name, rate in reached.items() if rate > 0 and ceilings.get(name)}


def _line(row: dict[str, Any]) -> str:
    over = ", ".join(f"{peer['over']:.2g}x {peer['name']}" for peer in row["peers"])
    each = row["seconds"]["median"] / row["count"]
    return f"{row['case']}, {row['problem']}: {each * 1e6:,.3g} us per {row['unit'][:-1]}" + (
        f", {over}" if over else ""
    )


def save(result: dict[str, Any], folder: Path) -> Path:
    """Write results into a folder, under the name of the machine and the time.

    Parameters
    ----------
    result : dict
        What `run_benchmarks` returned.
    folder : Path
        Made where it does not exist.

    Returns
    -------
    Path
        Of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = result["machine"]["time_utc"].replace(":", "").replace("+0000", "")
    path = folder / f"{slug(result['machine'])}-{stamp}.json"
    write_text_atomic(path, json.dumps(result, indent=1) + "\n")
    return path
