"""Options that are declared once: every command on files has them, and they do what they say; idle ones are refused."""

import importlib
import inspect
import re

import numpy as np
import pytest

from cli.runner import run, strict_json
from crop.oracle import disks
from stackalign.cli import _frame
from stackalign.cli.__main__ import app
from stackalign.diffraction.synthetic import powder

ON_FILES = ("align", "center", "crop", "drift", "mask", "nfold", "peaks", "profile")
COMMANDS = {info.name or info.callback.__name__: info.callback for info in app.registered_commands}


def options_of(name: str) -> set[str]:
    """Arguments of a command's function, without the context."""
    return set(inspect.signature(COMMANDS[name]).parameters) - {"context"}


@pytest.mark.parametrize("name", ON_FILES)
def test_every_command_on_files_has_the_shared_options(name: str) -> None:
    shared = {field.name for field in _frame.dataclasses.fields(_frame.Reading)}
    assert shared <= options_of(name)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Two frames before a scan of 2 x 3, one behind each of its rows, and the same frames without these."""
    folder = tmp_path_factory.mktemp("scan")
    y, x = np.indices((48, 52))
    rng = np.random.default_rng(5)

    def pattern(k: int) -> np.ndarray:
        beam = 900 * np.exp(-((y - 23.4 - k / 4) ** 2 + (x - 25.6) ** 2) / 18)
        return rng.poisson(beam + 3).astype(np.uint16)

    good = np.stack([pattern(k) for k in range(6)])
    bad = rng.poisson(500, (4, 48, 52)).astype(np.uint16)
    frames = np.concatenate([bad[:2], good[:3], bad[2:3], good[3:], bad[3:]])
    np.save(folder / "good.npy", good)
    np.save(folder / "all.npy", frames)
    frames.tofile(folder / "all.raw")
    np.save(folder / "transposed.npy", np.ascontiguousarray(np.moveaxis(good.reshape(2, 3, 48, 52), (2, 3), (0, 1))))
    return folder


SKIP = ("--skip-frames", 2, "--skip-per-row", 1, "--scan-shape", "2,3")
WAYS = {
    "all.npy": SKIP,
    "all.raw": ("--shape", "10,48,52", "--dtype", "<u2", *SKIP),
    "transposed.npy": ("--axes", "yxRC"),
}
RUNS = {
    "center": (("-o", "out.csv"), "out.csv"),
    "peaks": (("-o", "out.csv", "--min-snr", 8), "out.csv"),
    "profile": (("-o", "out.npz", "--center", "23,25"), "out.npz"),
    "nfold": (("-o", "out.npy", "-n", 4, "--center", "23,25"), "out.npy"),
    "mask": (("-o", "out.npy", "--limits", "0,5000", "--dead"), "out.npy"),
    "align": (("-o", "out.npy", "--max-shift", 3), "out.npy"),
    "crop": (("-o", "out.npy", "--no-visualization"), "out.npy"),
    "drift": (("-o", "out.npy", "--order", 1), "out.npy"),
}


def contents(path):
    """What an output says, without the name of its input."""
    if path.suffix == ".npy":
        return np.load(path).reshape(-1)
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return np.concatenate([archive[k].ravel() for k in sorted(archive.files) if archive[k].dtype.kind in "fi"])
    rows = [line.split(",")[1:] for line in path.read_text().splitlines() if not line.startswith("#")]
    return np.array([re.sub(r"[^-+.,\deE]", "", ",".join(row)) for row in rows[1:]])


@pytest.mark.parametrize("name", sorted(RUNS))
@pytest.mark.parametrize("source", sorted(WAYS))
def test_frames_are_chosen_alike_by_every_command(name, source, scan, tmp_path, monkeypatch) -> None:
    """Skipping, a raw layout and transposed axes give what the frames alone give."""
    words, output = RUNS[name]
    for folder, file, how in (("plain", "good.npy", ()), ("chosen", source, WAYS[source])):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        ran = run(name, scan / file, *words, *how, "--json", "--quiet")
        assert ran.code in (0, 3), ran.err
        strict_json(ran.out)
    ours, theirs = (contents(tmp_path / folder / output) for folder in ("chosen", "plain"))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["center", "nfold", "align"])
def test_another_choice_of_frames_is_another_run(name, scan, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words, _ = RUNS[name]
    assert run(name, scan / "all.npy", *words, *SKIP, "--quiet").code in (0, 3)
    again = run(name, scan / "all.npy", *words, *SKIP, "--resume")
    assert again.code in (0, 3)
    other = run(name, scan / "all.npy", *words, "--skip-frames", 4, "--resume")
    assert other.code == 1
    assert "--overwrite" in other.err


IDLE = [
    ("crop", ("--test-patterns", 5), "without --test-mode"),
    ("crop", ("--test-size", 64), "without --test-mode"),
    ("crop", ("--manual-center", 16, 16), "without --center-method manual"),
    ("crop", ("--center-method", "center", "--center-fit", "plane"), "with --center-method center"),
    ("crop", ("--center-method", "manual", "--manual-center", 16, 16, "--center-fit", "plane"), "center-fit has no"),
    ("crop", ("--use-gpu", "--device", "cpu"), "with --device cpu"),
    *(
        ("crop", ("--reuse-analysis", "r.json", *words), "with --reuse-analysis")
        for words in (
            ("--margin-pixels", 5),
            ("--radius-policy", "95"),
            ("--center-method", "center"),
            ("--center-fit", "plane"),
            ("--background", "corner"),
        )
    ),
    ("peaks", ("--method", "persistence", "--min-snr", 4), "with --method persistence"),
    ("peaks", ("--method", "persistence", "--width", 2), "with --method persistence"),
    ("peaks", ("--prominence", 0.2), "with --method matched"),
    ("peaks", ("--device", "cuda"), "peaks are found on the CPU"),
]


@pytest.mark.parametrize(("name", "words", "reason"), IDLE)
def test_options_without_effect_are_refused(name, words, reason, tmp_path) -> None:
    np.save(tmp_path / "a.npy", disks(4, frame=(32, 32)))
    output = tmp_path / ("out.csv" if name == "peaks" else "out.npy")
    ran = run(name, tmp_path / "a.npy", "-o", output, *words)
    assert ran.code == 2
    assert reason in ran.err
    assert len(ran.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_a_page_shows_the_dataset_that_was_worked_on(tmp_path) -> None:
    """The picture of a page is read as the work was: a file of several datasets is no reason to fail at the end."""
    pytest.importorskip("matplotlib", reason="pages need matplotlib")
    rings = powder(96, (47.0, 45.0)).image
    with importlib.import_module("h5py").File(tmp_path / "a.h5", "w") as file:
        file["one"] = np.stack([rings, rings])
        file["two"] = np.stack([rings.T, rings.T])
    ran = run(
        "center", tmp_path / "a.h5", "--dataset", "two", "-o", tmp_path / "c.csv", "--report", tmp_path / "p.html"
    )
    assert ran.code in (0, 3), ran.err
    assert (tmp_path / "p.html").exists()


def test_the_channel_of_an_archive_needs_one(tmp_path) -> None:
    pytest.importorskip("sunpy", reason="coalign needs the extra solar")
    ran = run("coalign", tmp_path / "a.fits", tmp_path / "b.fits", "-o", tmp_path / "out", "--channel", "fsi304")
    assert ran.code == 2
    assert "has no effect without --fsi-dir" in ran.err
    assert not (tmp_path / "out").exists()
