"""Pairs of options of the commands on images: none has no effect beside another without being refused.

Crop has a test of its own. Every option below changes the output of the scene alone; where two together give what one
of them gives, the command has to refuse them.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy import ndimage

from cli.runner import run
from stackalign.cli import _frame
from stackalign.cli.__main__ import app

Words = tuple[Any, ...]
MASK: Words = ("--mask", "m.npy")
CASES: dict[str, tuple[Words, str, dict[str, Words]]] = {
    # Command: words that it always has, extension of the output, options.
    "mask": (
        (),
        ".npy",
        {
            "limits": ("--limits", "0,3000"),
            "max_std": ("--max-std", 60),
            "dead": ("--dead",),
            "detect": ("--detect",),
            "beam_stop": ("--beam-stop",),
            "mask": MASK,
        },
    ),
    "profile": (
        ("--center", "23,25"),
        ".npz",
        {
            "angles": ("--angles", 4),
            "angular_bounds": ("--angular-bounds", "20,200"),
            "radial_bounds": ("--radial-bounds", "3,12"),
            "step": ("--step", 2),
            "split": ("--split",),
            "ellipse": ("--ellipse", "1.1,30"),
            "mask": MASK,
        },
    ),
    "peaks": (
        (),
        ".csv",
        {
            "method": ("--method", "persistence"),
            "min_snr": ("--min-snr", 100),
            "width": ("--width", 3),
            "prominence": ("--prominence", 0.3),
            "min_distance": ("--min-distance", 25),
            "centers": ("--centers", "c.csv"),
            "mask": MASK,
        },
    ),
    "nfold": (
        ("-n", 2, "--mask", "m.npy"),
        ".npy",
        {"center": ("--center", "23,25"), "fill": ("--fill", -1), "centers": ("--centers", "c.csv")},
    ),
    "align": (
        (),
        ".npy",
        {
            "smooth": ("--smooth", 2),
            "mask": MASK,
            "reference_mask": ("--reference-mask", "m.npy"),
            "order": ("--order", 3),
        },
    ),
}
CASES["drift"] = (
    (),
    ".npy",
    {
        "pairs": ("--pairs", 1),
        "reference_index": ("--reference-index", 2),
        "order": ("--order", 1),
        "mask": MASK,
    },
)
INPUTS = {"align": "clean.npy", "peaks": "clean.npy", "drift": "series.npy"}
VERDICTS = {
    "drift": {"average", "table", "max_step"},
    "align": {"model", "max_shift", "min_overlap", "background", "moving_mask", "reference_index", "table"},
    "profile": {"center", "centers"},
    "center": {"files"},
}
"""Options that bound a search without changing a good answer, cost more than a test may, or are words of every case."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of spots that move, with a dead pixel, a line that fluctuates, one that is bright, a mask, and centres."""
    path = tmp_path_factory.mktemp("pairs")
    y, x = np.indices((48, 52))
    rng = np.random.default_rng(3)
    places = ((900, 23, 25), (400, 12, 14), (300, 34, 36), (350, 12, 36), (420, 34, 14), (60, 20, 40))
    spots = sum(a * np.exp(-((y - b) ** 2 + (x - c) ** 2) / 5) for a, b, c in places)
    frames = rng.poisson(np.stack([np.roll(spots + 6, k % 3, axis=0) for k in range(6)])).astype(np.uint16)
    np.save(path / "clean.npy", frames[:2])
    drifting = [ndimage.shift(spots + 6, (0.7 * k, -0.4 * k), order=3, mode="nearest") for k in range(5)]
    np.save(path / "series.npy", rng.poisson(np.maximum(drifting, 0)).astype(np.uint16))
    frames[:, 5, 7] = 0
    frames[:, :, 50:] = 0  # a margin that never changes, and is no fault
    frames[:, 44, 30:47] = 3500 + rng.integers(0, 40, (6, 17))  # beyond a limit, and a line without flanks
    frames[::2, 2, 3] += 900  # a pixel that fluctuates
    frames[:, 30:32, 2:4] = 2500 + rng.integers(0, 40, (6, 2, 2))  # a cluster within the limits
    frames[:, :14, 22:27] = rng.random((6, 14, 5)) < 0.05  # a beam stop
    np.save(path / "a.npy", frames)
    mask = np.ones((48, 52), np.bool_)
    mask[21:26, 15:36] = False
    np.save(path / "m.npy", mask)
    rows = "".join(
        f"{name},{k},{23 + k / 10},{25 - k / 10}\n" for name, n in (("a.npy", 6), ("clean.npy", 2)) for k in range(n)
    )
    (path / "c.csv").write_text("file,frame,row,col\n" + rows)
    return path


def content(path: Path) -> Any:
    """What an output says."""
    if path.suffix != ".npz":
        return path.read_bytes()
    with np.load(path) as archive:
        return {name: archive[name].tobytes() for name in archive.files if archive[name].dtype.kind in "fi"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_no_pair_of_options_hides_one_of_them(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    always, suffix, options = CASES[name]
    monkeypatch.chdir(folder)
    number = itertools.count()

    def outcome(*names: str) -> Any:
        output = Path(f"{name}-{next(number)}{suffix}")
        ran = run(
            name,
            INPUTS.get(name, "a.npy"),
            "-o",
            output,
            *always,
            *(word for key in names for word in options[key]),
            "-q",
        )
        if ran.code == 2:
            return "refused"
        assert ran.code in (0, 3), f"{names}: {ran.err}"
        return content(output)

    alone = {key: outcome(key) for key in options}
    plain = outcome()
    assert not [key for key in options if alone[key] == plain], "an option without effect on the scene"
    hidden = []
    for first, second in itertools.combinations(options, 2):
        both = outcome(first, second)
        if both == "refused":
            continue
        hidden += [(second, first)] if both == alone[first] else []
        hidden += [(first, second)] if both == alone[second] else []
    assert not hidden


def test_every_option_takes_part() -> None:
    """A new option has to be added above, or be named with the reason why not."""
    shared = {field.name for field in _frame.dataclasses.fields(_frame.Reading)} | {"context", "files", "output"}
    fixed = {"nfold": {"mask", "fold"}, "align": {"reference", "moving"}}
    for name, (_, _, options) in CASES.items():
        command = typer.main.get_command(app).commands[name]
        own = {parameter.name for parameter in command.params} - shared - fixed.get(name, set())
        assert own - VERDICTS.get(name, set()) == set(options)
