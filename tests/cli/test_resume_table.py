"""What --resume answers, for every command on frames: only the same work is finished, or gone on with."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.runner import Ran, run
from stackalign.diffraction import bragg_file, centers_file, masks_file, profiles_file, symmetry_file
from stackalign.drift import files as drift_files
from stackalign.registration import files as registration_files
from stackalign.runs import StopRequest

FRAMES, SIDE = 5, 48


@dataclass(frozen=True)
class Command:
    """A command line in small; `one` are settings, `other` others of them; ``{d}`` is the folder."""

    name: str
    output: str
    one: tuple[str, ...]
    other: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    mask: tuple[str, ...] = ("--mask", "{d}/mask.npy")
    pieces: tuple[str, ...] = field(default=())
    """Options by which a run has several chunks."""

    def words(self, folder: Path, *more: str, settings: tuple[str, ...] | None = None, source: str = "in.npy"):
        """The whole command line."""
        chosen = self.one if settings is None else settings
        texts = (*self.fixed, f"{{d}}/{source}", "-o", f"{{d}}/{self.output}", *chosen, *self.pieces, *more)
        return self.name, *(text.replace("{d}", str(folder)) for text in texts)


COMMANDS = [
    Command("crop", "crop.npy", ("--margin-pixels", "3"), ("--margin-pixels", "2"), ("--no-visualization",),
            pieces=("--chunk-size", "2")),
    Command("crop", "crop.h5", ("--compression", "none"), ("--compression", "zstd"), ("--no-visualization",),
            pieces=("--chunk-size", "2")),
    Command("align", "align.npy", ("--model", "shift"), ("--model", "rigid"), ("{d}/ref.npy",)),
    Command("drift", "drift.npy", ("--order", "1"), ("--order", "3")),
    Command("nfold", "nfold.npy", ("--fold", "2"), ("--fold", "3"), ("--center", "23,24")),
    Command("center", "center.csv", (), ("--dataset", "other")),
    Command("peaks", "peaks.csv", ("--width", "1.5"), ("--width", "2")),
    Command("profile", "profile.npz", ("--step", "1"), ("--step", "2"), ("--center", "23,24")),
    Command("mask", "mask_out.npy", ("--limits", "0,900"), ("--limits", "0,800")),
]  # fmt: skip


@pytest.fixture(params=COMMANDS, ids=lambda command: command.output)
def command(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Command:
    """One command, with small chunks."""
    for module in (centers_file, bragg_file):
        monkeypatch.setattr(module, "LARGEST_CHUNK", 2)
    for module in (registration_files, symmetry_file, drift_files):
        monkeypatch.setattr(module, "LARGEST_CHUNK", 2 * SIDE * SIDE)
    monkeypatch.setattr(masks_file, "LEAST_FRAMES", 2)
    monkeypatch.setattr(masks_file, "BLOCK_BYTES", 1)
    monkeypatch.setattr(profiles_file, "CHUNK_BYTES", 2 * SIDE * SIDE * 2)
    return request.param


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Five frames with a beam, rings and spots."""
    rng = np.random.default_rng(5)
    y, x = np.indices((SIDE, SIDE))
    r = np.hypot(y - 23, x - 24)
    shape = 300 * np.exp(-(r**2) / 12) + 90 * np.exp(-(((r - 14) / 1.5) ** 2)) + 4
    for dy, dx in ((9, 3), (-9, -3), (4, -12), (-4, 12)):
        shape = shape + 120 * np.exp(-((y - 23 - dy) ** 2 + (x - 24 - dx) ** 2) / 4)
    return rng.poisson(shape, (FRAMES, SIDE, SIDE)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path, frames: np.ndarray) -> Path:
    """Inputs and a mask."""
    np.save(tmp_path / "in.npy", frames)
    np.save(tmp_path / "other.npy", frames[::-1])
    np.save(tmp_path / "ref.npy", frames[0])
    mask = np.ones((SIDE, SIDE), bool)
    mask[:3] = False
    np.save(tmp_path / "mask.npy", mask)
    return tmp_path


def stopped(words: Any, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Run a command that is asked to stop from the beginning."""
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__bool__", lambda self: True)
        return run(*words)


def state_of(folder: Path, output: str) -> tuple[bytes, int]:
    """Content and time of an output."""
    path = folder / output
    return path.read_bytes(), path.stat().st_mtime_ns


def test_same_command_is_finished(command: Command, folder: Path) -> None:
    first = run(*command.words(folder))
    assert first.code in (0, 3), first.err
    before = state_of(folder, command.output)
    names = sorted(p.name for p in folder.iterdir())
    for leftover in (None, "empty", "without its plan"):  # as of a run that was killed while it removed its journal
        journal = folder / f"{command.output}.partial"
        if leftover is not None:
            journal.mkdir()
        if leftover == "without its plan":
            (journal / "log.jsonl").write_text("torn")
        again = run(*command.words(folder, "--resume"))
        assert again.code == first.code, again.err
        assert "finished by an earlier run" in again.err + again.out
        assert state_of(folder, command.output) == before
        assert sorted(p.name for p in folder.iterdir()) == names


def test_other_work_is_refused(command: Command, folder: Path, frames: np.ndarray) -> None:
    assert run(*command.words(folder)).code in (0, 3)
    before = state_of(folder, command.output)
    shutil.copy2(folder / "in.npy", folder / "kept.npy")
    cases = {
        "settings": command.words(folder, settings=command.other),
        "input": command.words(folder, source="other.npy"),
        "mask": command.words(folder, *command.mask),
        "content": command.words(folder),
    }
    for label, words in cases.items():
        if label == "content":
            np.save(folder / "in.npy", frames + 1)
        refused = run(*words, "--resume")
        assert refused.code == 1, (label, refused.err)
        assert len(refused.errors) == 1, (label, refused.err)
        assert state_of(folder, command.output) == before, label
    shutil.copy2(folder / "kept.npy", folder / "in.npy")
    assert "finished by an earlier run" in (last := run(*command.words(folder, "--resume"))).err + last.out


def test_foreign_output_is_refused(command: Command, folder: Path) -> None:
    output = folder / command.output
    output.write_text("of somebody else")
    for more in ((), ("--resume",)):
        refused = run(*command.words(folder, *more))
        assert refused.code == 1
        assert "exists" in refused.errors[0]
        assert "--overwrite" in refused.errors[0]
        assert output.read_text() == "of somebody else"
    assert run(*command.words(folder, "--overwrite")).code in (0, 3)
    output.write_text("edited since")
    refused = run(*command.words(folder, "--resume"))
    assert refused.code == 1
    assert output.read_text() == "edited since"


def test_interrupted_work_is_gone_on_with(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(*command.words(folder))
    expected = (folder / command.output).read_bytes()
    assert run(*command.words(folder, "--overwrite")).code == whole.code  # and the bytes do not depend on the run
    assert (folder / command.output).read_bytes() == expected
    for path in folder.glob(command.output.split(".")[0] + "*"):
        if path.name != "mask.npy":
            path.unlink()
    ran = stopped(command.words(folder), monkeypatch)
    assert ran.code == 1, ran.err
    assert "--resume" in ran.err
    assert not (folder / command.output).exists()
    other = run(*command.words(folder, "--resume", settings=command.other))
    assert other.code == 1
    assert "belongs to another run" in other.errors[0]
    (folder / command.output).write_text("of somebody else")
    assert run(*command.words(folder, "--resume")).code == 1
    assert (folder / command.output).read_text() == "of somebody else"
    (folder / command.output).unlink()
    assert stopped(command.words(folder, "--resume"), monkeypatch).code == 1  # and again
    resumed = run(*command.words(folder, "--resume"))
    assert resumed.code == whole.code, resumed.err
    assert (folder / command.output).read_bytes() == expected
    assert not list(folder.glob("*.partial"))
    assert not list(folder.glob(".*"))
