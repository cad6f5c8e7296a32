"""Pairs of options of `coalign` and `refine`: none has no effect beside another without being refused.

These calculate for minutes: what the command asks of the library is compared instead of results. An option whose
request is the same with and without it would have no effect.
"""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer

from cli.runner import run
from stackalign.cli.__main__ import app

Words = tuple[Any, ...]
COALIGN: dict[str, Words] = {
    "mask": ("--mask", "m.npy"),
    "values": ("--values", "1,"),
    "field": ("--field", "0,9,0,9"),
    "exclude": ("--exclude", "0,3,0,3"),
    "background": ("--background", "none"),
    "interval": ("--interval", "77 78 nm"),
    "continuum": ("--continuum", "ends"),
    "screen": ("--screen", "sphere"),
    "distortion": ("--distortion",),
    "detectors": ("--detectors", "apart"),
    "repair": ("--repair",),
    "window": ("--window", 2),
    "fsi_dir": ("--fsi-dir", "archive"),
    "time_window": ("--time-window", "2h"),
    "channel": ("--channel", "hri"),
    "threshold_time": ("--threshold-time", 9),
    "model": ("--model", "rigid"),
    "scale": ("--scale",),
    "rotation": ("--rotation",),
    "max_shift": ("--max-shift", 5),
    "phases": ("--phases", "binned"),
    "solar_rotation": ("--solar-rotation", "none"),
    "height": ("--height", 1.1),
    "pages": ("--pages",),
    "report": ("--report", "page.html"),
    "table": ("--table", "t.csv"),
    "write_flagged": ("--write-flagged",),
    "again": ("--again",),
    "dry_run": ("--dry-run",),
    "resume": ("--resume",),
    "overwrite": ("--overwrite",),
    "memory_limit": ("--memory-limit", "1GB"),
    "workers": ("--workers", 1),
}
REFINE: dict[str, Words] = {
    "device": ("--device", "cpu"),
    "report": ("--report", "page.html"),
    "resume": ("--resume",),
    "overwrite": ("--overwrite",),
    "memory_limit": ("--memory-limit", "1GB"),
    "workers": ("--workers", 1),
    "read_timeout": ("--read-timeout", 7),
    "allow_external": ("--allow-external",),
}
COMMON = {"scheduler", "as_json", "quiet", "config", "context", "log_level", "save_config"}
ELSEWHERE = {
    "coalign": {"target", "reference", "output", "batch", "device"} | COMMON,
    "refine": {"configs", "output"} | COMMON,
}
"""Inputs, where the work is done, and how much is said; options of all commands have a test of their own."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the commands ask of the library, which does nothing."""
    requests: list[Any] = []
    solar = pytest.importorskip("stackalign.solar.files", reason="coalign needs sunpy")
    from stackalign import refine
    from stackalign.registration import table

    def run_tasks(tasks: Any, *, each: Any, stop: Any, executor: Any, command: Any, **options: Any) -> list[Any]:
        made = []
        for task in tasks:
            requests.append(("task", repr(task)))
            made.append(SimpleNamespace(task=task, status="done", message="", record={}, result=None, error=None))
        requests.append(("options", {name: repr(value) for name, value in options.items()}))
        return made

    def dry_run(task: Any) -> None:
        requests.append(("dry run", repr(task)))

    monkeypatch.setattr(solar, "run_tasks", run_tasks)
    monkeypatch.setattr(solar, "dry_run", dry_run)
    monkeypatch.setattr("stackalign.solar.manifest.table_columns", lambda outcomes: {})
    monkeypatch.setattr(table, "write_table", lambda path, *_, **__: requests.append(("table", str(path))))
    monkeypatch.setattr(
        "stackalign.cli.coalign.write_page", lambda *arguments: requests.append(("page", str(arguments[-1])))
    )

    def load_config(path: Path, **options: Any) -> Any:
        requests.append(("config", {name: repr(value) for name, value in options.items()}))
        return SimpleNamespace(steps=())

    def refine_file(read: Any, target: Path, *, on_step: Any, **options: Any) -> Any:
        known = {name: repr(value) for name, value in options.items() if name not in ("stop", "progress", "executor")}
        requests.append(("refine", known))
        return SimpleNamespace(record={}, steps=(), ok=True)

    monkeypatch.setattr(refine, "load_config", load_config, raising=False)
    monkeypatch.setattr(refine, "refine_file", refine_file, raising=False)
    monkeypatch.chdir(tmp_path)
    np.save("m.npy", np.ones((4, 4), np.bool_))
    Path("archive").mkdir()
    for name in ("t.fits", "r.fits", "c.toml"):
        Path(name).write_text("")
    return requests


def hidden_pairs(options: dict[str, Words], start: Words, asked: list[Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """Options without effect, and pairs of which the first has none beside the second."""

    def outcome(*names: str) -> Any:
        asked.clear()
        ran = run(*start, *(word for name in names for word in options[name]), "-q")
        if ran.code == 2:
            return "refused"
        assert ran.code == 0, f"{names}: {ran.err}"
        return str(asked)

    plain = outcome()
    assert plain not in ("refused", "[]")
    alone = {name: outcome(name) for name in options}
    idle = [name for name in options if alone[name] == plain]
    pairs = []
    for first, second in itertools.combinations(options, 2):
        both = outcome(first, second)
        if both == "refused":
            continue
        pairs += [(second, first)] if both == alone[first] else []
        pairs += [(first, second)] if both == alone[second] else []
    return idle, pairs


def test_pairs_of_coalign(asked: list[Any]) -> None:
    idle, pairs = hidden_pairs(COALIGN, ("coalign", "t.fits", "r.fits", "-o", "out"), asked)
    assert idle == []
    # A trial run is of the same command with --dry-run added: what says how to run may stay, and is refused nowhere.
    how_to_run = {"resume", "overwrite", "memory_limit", "workers"}
    assert [pair for pair in pairs if not (pair[1] == "dry_run" and pair[0] in how_to_run)] == []


def test_pairs_of_refine(asked: list[Any]) -> None:
    idle, pairs = hidden_pairs(REFINE, ("refine", "c.toml"), asked)
    assert (idle, pairs) == ([], [])


@pytest.mark.parametrize(("name", "options"), [("coalign", COALIGN), ("refine", REFINE)])
def test_every_option_takes_part(name: str, options: dict[str, Words]) -> None:
    """A new option has to be added above, or be named with the reason why not."""
    command = typer.main.get_command(app).commands[name]
    assert {parameter.name for parameter in command.params} - ELSEWHERE[name] == set(options)
