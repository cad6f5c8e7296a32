"""Every command, and with it every pipeline, from end to end as on a GPU: the outputs are those of the CPU."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.runner import run
from cli.test_resume_table import COMMANDS, Command, folder, frames
from cuda_host import standin
from cuda_host._require import require_gpp
from refine.configuration import images, write_config
from solar import small

__all__ = ["folder", "frames"]  # fixtures

ON_THE_CPU = "peaks.csv"
SAME_BYTES = ("crop.npy", "crop.h5", "mask_out.npy")
"""Radii, counts and windows of integers, and masks."""
CLOSE = 1e-3
"""In pixels where these are numbers of a registration, and relative to the largest elsewhere."""


@pytest.fixture(autouse=True)
def _device() -> Iterator[None]:
    require_gpp()
    with standin.installed():
        yield


def launches(*words: Any) -> tuple[int, str, int]:
    """Run a command on the device; its exit code, what it said, and the number of launches."""
    with standin.counted() as counts:
        ran = run(*words, "--device", "cuda")
        return ran.code, ran.err, counts.number["launch"]


def numbers_of(path: Path) -> dict[str, np.ndarray]:
    """What a table or an array holds."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}
    loaded = np.load(path)
    return dict(loaded) if path.suffix == ".npz" else {"": loaded}


def assert_close(ours: dict[str, np.ndarray], cpu: dict[str, np.ndarray]) -> None:
    assert ours.keys() == cpu.keys()
    for name, wanted in cpu.items():
        try:
            a, b = (x.astype(np.float64) for x in (ours[name], wanted))
        except ValueError:  # words, among them flags
            np.testing.assert_array_equal(ours[name], wanted, err_msg=name)
        else:
            scale = np.nanmax(np.abs(b), initial=1.0)
            np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE * scale, err_msg=name)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.output)
def test_a_command_on_frames(command: Command, folder: Path, frames: np.ndarray) -> None:
    # A frame against itself lies on whole pixels, where rounding decides about the border.
    np.save(folder / "ref.npy", np.roll(frames.mean(axis=0), (1, 2), axis=(0, 1)))
    words = command.words(folder, "--overwrite")
    cpu = run(*words, "--device", "cpu")
    output = folder / command.output
    before, table = output.read_bytes(), None if output.suffix == ".h5" else numbers_of(output)
    code, said, n = launches(*words)
    if command.output == ON_THE_CPU:
        assert code == 2
        assert "peaks are found on the CPU" in said
        assert n == 0
        return
    assert code == cpu.code, said
    assert n > 0, "nothing ran on the device"
    if command.output in SAME_BYTES:
        assert output.read_bytes() == before
    else:
        assert_close(numbers_of(output), table or {})


def test_coalign(tmp_path: Path) -> None:
    small.reference(tmp_path / "ref.fits")
    small.raster(tmp_path / "a.fits")
    words = ("coalign", tmp_path / "a.fits", tmp_path / "ref.fits", *small.ARGUMENTS)
    assert run(*words, "-o", tmp_path / "cpu", "--device", "cpu").code == 0
    code, said, n = launches(*words, "-o", tmp_path / "cuda")
    assert code == 0, said
    assert n > 0
    cpu, ours = (json.loads((tmp_path / d / "a_coaligned.json").read_text()) for d in ("cpu", "cuda"))
    assert ours["flags"] == cpu["flags"]
    assert abs(ours["score"] - cpu["score"]) < 5e-8
    for name in ("dx", "dy"):
        assert abs(ours["parameters"][name] - cpu["parameters"][name]) < 1e-3


def test_refine(tmp_path: Path) -> None:
    disks = images()
    values = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        config = write_config(tmp_path / device, disks)
        with standin.counted() as counts:
            ran = run("refine", config, "-q", "--device", device)
            assert ran.code == 0, ran.err
            assert (counts.number["launch"] > 0) == (device == "cuda")
        done = json.loads((tmp_path / device / "si_refined.json").read_text())
        values[device] = [step["result"]["values"] for step in done["steps"]]
    for ours, cpu in zip(values["cuda"], values["cpu"], strict=True):
        assert ours.keys() == cpu.keys()
        assert abs(ours["thickness"] / cpu["thickness"] - 1) < 1e-6
        for name, value in cpu.items():
            assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
