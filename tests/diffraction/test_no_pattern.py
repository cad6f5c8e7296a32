"""Images without a pattern are said by every command, and patterns of all kinds are not."""

import json

import numpy as np
import pytest

from cli.runner import run
from stackalign.diffraction._no_pattern import doubts_of_image
from stackalign.diffraction.synthetic import create_test_pattern

Y, X = np.indices((96, 112))


def band(angle: float, half: float, rng: np.random.Generator) -> np.ndarray:
    across = (Y - 47) * np.cos(angle) + (X - 60) * np.sin(angle)
    return rng.poisson(2 + 60.0 * (np.abs(across) < half))


def without_pattern(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, str]]:
    hot = rng.poisson(0.7, Y.shape)
    hot[tuple(rng.integers(0, 96, (2, 25)))] = 4000
    known = {
        "blank": (np.full(Y.shape, 3), "constant"),
        "flat noise": (rng.normal(100, 7, Y.shape), "insignificant"),
        "single electrons": (rng.poisson(0.004, Y.shape), "insignificant"),
        "hot pixels alone": (hot, "insignificant"),
        "gradient": (rng.poisson(10 + X / 8), "undetermined"),
    }
    return known | {f"band at {d} degrees": (band(np.deg2rad(d), 9, rng), "undetermined") for d in (0, 24, 90, 131)}


def patterns(rng: np.random.Generator) -> dict[str, np.ndarray]:
    radius = np.hypot(Y - 44, X - 58)
    spots = sum(np.exp(-((Y - 48) ** 2 + (X - c) ** 2) / 6) for c in range(8, 112, 13))
    dark = rng.poisson(30.0 * (radius < 12) + 1)
    return {
        "disk of few electrons": rng.poisson(0.1 * (radius < 8)),
        "systematic row": rng.poisson(200 * spots + 2),
        "rings": rng.poisson(40 * np.exp(-((radius - 22) ** 2) / 8) + 3),
        "two bands": band(0.3, 8, rng) + band(1.4, 12, rng),
        "over-subtracted dark": dark - 3.5,
        "lattice": create_test_pattern("lattice", 128, seed=4).image,
        "powder": create_test_pattern("powder", 128, seed=5).image,
    }


def test_flags_in_pairs(rng) -> None:
    for name, (image, flag) in without_pattern(rng).items():
        assert list(doubts_of_image(image, np.ones(image.shape, bool))) == [flag], name
    for name, image in patterns(rng).items():
        assert doubts_of_image(image, np.ones(image.shape, bool)) == {}, name
    assert list(doubts_of_image(Y, np.zeros(Y.shape, bool))) == ["empty"]


def test_masked_pixels_are_not_looked_at(rng) -> None:
    image = rng.poisson(5.0, Y.shape)
    image[:, 50:54] = 900
    valid = np.ones(Y.shape, bool)
    valid[:, 50:54] = False
    assert list(doubts_of_image(image, ~np.zeros_like(valid))) == ["undetermined"]
    assert list(doubts_of_image(image, valid)) == ["insignificant"]
    corner = (Y < 20) & (X < 14)
    assert doubts_of_image(rng.poisson(400 * np.exp(-((Y - 8) ** 2 + (X - 6) ** 2) / 20)), corner) == {}


COMMANDS = {
    "nfold": (("-n", 2, "--center", "20,22"), ".npy", "_nfold.json"),
    "profile": (("--center", "20,22"), ".npz", "_profile.json"),
    "peaks": ((), ".csv", "_peaks.json"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_say_it_and_list_frames_alike(command, tmp_path, rng, monkeypatch) -> None:
    words, suffix, record = COMMANDS[command]
    monkeypatch.chdir(tmp_path)
    stack = np.stack([rng.poisson(20.0, (40, 44)).astype(np.float32)] * 2)
    stack[1] = np.nan if command == "peaks" else stack[1]
    np.save("noise.npy", stack)
    ran = run(command, "noise.npy", "-o", f"out{suffix}", *words)
    assert ran.code == 3
    assert "noise.npy: no diffraction pattern is seen: neighbouring pixels" in " ".join(ran.err.split())
    written = json.loads((tmp_path / f"out{record}").read_text())
    row = written if command == "nfold" else written["files"][0]
    assert list(row["flags"]) == ["insignificant"]
    frames = [] if command != "peaks" else [{"file": "noise.npy", "frame": 1, "flags": ["empty"]}]
    assert row["flagged_frames"] == frames
