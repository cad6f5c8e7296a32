"""Bad input: one clear sentence that names the file and a remedy, nothing under the final name, inputs untouched."""

import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cli.runner import STACK, crop, io_tests, save
from crop.oracle import digest

NOISE = np.random.default_rng(0).integers(0, 2**16, STACK.shape).astype(np.uint16)

COPY = r"(check or )?copy (it|the file) again"
"""The remedy for damage."""


def cut_off(path: Path, keep: float) -> Path:
    os.truncate(path, int(path.stat().st_size * keep))
    return path


def scratched(path: Path, start: int, length: int = 64) -> Path:
    content = bytearray(path.read_bytes())
    content[start : start + length] = b"\xff" * length
    path.write_bytes(bytes(content))
    return path


def torch_file(folder: Path) -> Path:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save(torch.from_numpy(STACK.astype(np.int32)), folder / "in.pt")
    return folder / "in.pt"


def scratched_torch(folder: Path) -> Path:
    path = torch_file(folder)
    with zipfile.ZipFile(path) as archive:
        position = archive.getinfo("in/data.pkl").header_offset
    return scratched(path, position, 200)


class Bomb:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def bomb_in_torch(folder: Path) -> Path:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save({"patterns": torch.zeros(2, 8, 8), "more": Bomb()}, folder / "in.pt")
    return folder / "in.pt"


def bare_bomb(folder: Path) -> Path:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    (folder / "in.pt").write_bytes(pickle.dumps(Bomb()))
    return folder / "in.pt"


def bomb_in_numpy(folder: Path) -> Path:
    np.save(folder / "in.npy", np.array([[[Bomb()]]], object), allow_pickle=True)
    return folder / "in.npy"


def hdf5_file(folder: Path, **options: Any) -> Path:
    with h5py.File(folder / "in.h5", "w") as file:
        file.create_dataset("a", data=NOISE, **options)
    return folder / "in.h5"


def scratched_chunk(folder: Path) -> Path:
    path = hdf5_file(folder, chunks=(1, 32, 32), compression="gzip")
    with h5py.File(path) as file:
        position = file["a"].id.get_chunk_info(9).byte_offset
    return scratched(path, position)


def mib_file(folder: Path) -> Path:
    (folder / "in.mib").write_bytes(io_tests("test_formats").mib_bytes(STACK))
    return folder / "in.mib"


def half_a_frame(folder: Path) -> Path:
    path = mib_file(folder)
    os.truncate(path, path.stat().st_size - (384 + 2048) // 2)
    return path


def two_frames_too_many(folder: Path) -> Path:
    (folder / "in.hdr").write_text("HDR,\nFrames in Acquisition (Number):\t10\nFrames per Trigger (Number):\t1\n")
    return mib_file(folder)


def master(folder: Path, spoil: Callable[[Path], object]) -> Path:
    io_tests("test_hdf5_family").write_master(folder)
    spoil(folder / "x_data_000002.h5")
    return folder / "x_master.h5"


def array(folder: Path, shape: tuple[int, ...]) -> Path:
    return save(folder / "in.npy", np.ones(shape, np.float32))


def no_image(folder: Path, name: str, head: bytes) -> Path:
    (folder / name).write_bytes(head + bytes(100))
    return folder / name


INPUTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "pt truncated": (lambda f: cut_off(torch_file(f), 0.6), rf"in\.pt.*; {COPY}"),
    "pt corrupt": (scratched_torch, r"in\.pt .* or is damaged; nothing of it was executed: save the tensor alone"),
    "pt with foreign objects": (bomb_in_torch, r"in\.pt holds Python objects other than tensors.*executed"),
    "pt that is a pickle": (bare_bomb, r"in\.pt"),
    "npy truncated": (lambda f: cut_off(save(f / "in.npy"), 0.6), rf"in\.npy.*; {COPY}"),
    "npy truncated in the header": (lambda f: cut_off(save(f / "in.npy"), 0.002), rf"in\.npy.*; {COPY}"),
    "npy corrupt": (lambda f: scratched(save(f / "in.npy"), 12), rf"in\.npy.*; {COPY}"),
    "npy with foreign objects": (bomb_in_numpy, r"in\.npy has the dtype object; expected .*: convert it first"),
    "h5 truncated": (lambda f: cut_off(hdf5_file(f), 0.6), rf"in\.h5.*; {COPY}"),
    "h5 corrupt": (lambda f: scratched(hdf5_file(f), 0, 2048), rf"in\.h5.*; {COPY}"),
    "h5 with a corrupt chunk": (scratched_chunk, rf"patterns \d+\.\.\d+ of .*in\.h5 cannot be read.*; {COPY}"),
    "mib with half a frame": (half_a_frame, rf"in\.mib ends within pattern 11.*; {COPY}, or state the scan shape"),
    "mib with frames too many": (
        two_frames_too_many,
        rf"in\.mib holds 12 patterns, its header in\.hdr says 10; {COPY}",
    ),
    "mib corrupt": (lambda f: scratched(mib_file(f), 0), r"in\.mib does not begin with the header of a Merlin frame"),
    "arina without a part": (
        lambda f: master(f, Path.unlink),
        r"part x_data_000002\.h5 of .*x_master\.h5 is missing; copy it beside the master",
    ),
    "arina with a broken part": (
        lambda f: master(f, lambda part: cut_off(part, 0.5)),
        rf"x_data_000002\.h5 .*; {COPY}",
    ),
    "no patterns": (lambda f: array(f, (0, 8, 8)), r"in\.npy has the shape \(0, 8, 8\) and holds no data; expected at"),
    "patterns of no pixels": (lambda f: array(f, (8, 8, 0)), r"in\.npy has the shape .* holds no data; expected at"),
    "one axis": (lambda f: array(f, (8,)), r"in\.npy has 1 axes \(8,\); expected \(N, H, W\), \(N, 1, H, W\)"),
    "five axes": (lambda f: array(f, (2, 3, 3, 8, 8)), r"in\.npy has 5 axes \(2, 3, 3, 8, 8\); expected \(N, H, W\)"),
    "complex": (
        lambda f: save(f / "in.npy", np.zeros((2, 8, 8), "c8")),
        r"in\.npy has the dtype complex64; .*: save its modulus or one of its parts",
    ),
    "dark run": (
        lambda f: save(f / "in.npy", np.zeros((5, 8, 8))),
        r"all 5 patterns of .*in\.npy are empty.*; is this a dark run, or does the mask cover the beam\?",
    ),
    "not there": (lambda f: f / "none.npy", r"input .*none\.npy does not exist"),
    "a folder": (lambda f: f, r"in holds no file that can be read \(.*\.npy"),
    "empty file": (lambda f: (f / "in.npy").touch() or f / "in.npy", r"in\.npy is empty; copy it again"),
    "no picture": (lambda f: no_image(f, "in.png", b"\x89PNG\r\n\x1a\n"), r"in\.png cannot be read"),
    "unknown extension": (
        lambda f: no_image(f, "in.xyz", b"unknown!"),
        r"in\.xyz is of no known format; known are \.npy .*raw binary with its shape",
    ),
}


def expect_clean(folder: Path, before: str) -> None:
    """Nothing was made but what the test made, and the inputs are as they were."""
    assert digest(folder / "in") == before
    assert [path.name for path in folder.iterdir()] == ["in"]


@pytest.mark.parametrize("name", INPUTS)
def test_bad_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, message = INPUTS[name]
    monkeypatch.chdir(tmp_path)  # where a payload would leave its mark
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in")
    before = digest(tmp_path / "in")
    output = tmp_path / ("out" if source.is_dir() else "out.npy")
    ran = crop(source, "-o", output, "-q")
    assert ran.code == 1
    assert ran.out == ""
    assert len(ran.errors) == 1, ran.err
    assert ran.err == ran.errors[0] + "\n"
    assert_matches(message, ran.errors[0])
    expect_clean(tmp_path, before)


def assert_matches(message: str, line: str) -> None:
    with pytest.raises(ValueError, match=message):
        raise ValueError(line)  # the same comparison and report as everywhere


OPTIONS = {
    "centre outside": (
        ["--center-method", "manual", "--manual-center", "40", "3"],
        1,
        r"manual_center \(40, 3\).*; give",
    ),
    "margin": (["--margin-pixels", "-2"], 2, r"margin_pixels must be .* 0 or more, got -2"),
    "target 0": (["--target-retention", "0"], 2, "target_retention must be above 0 and at most 1, got 0"),
    "target above 1": (["--target-retention", "1.01"], 2, "target_retention must be above 0 and at most 1, got 1.01"),
    "min above target": (["--min-retention", "0.99"], 2, r"min_retention must not exceed target_retention \(0.98\)"),
    "mask missing": (["--mask", "none.npy"], 1, r"mask none\.npy does not exist; give one frame as \.npy"),
    "mask of a stack": (
        ["--mask", "in/in.npy"],
        1,
        r"mask in/in\.npy cannot be read .* holds 12 images; expected one",
    ),
    "mask of another size": (
        ["--mask", "in/small.npy"],
        1,
        r"mask must have the shape \(\d+, \d+\) of a pattern, got \(3, 3\)",
    ),
    "mask of zeros": (["--mask", "in/zeros.npy"], 1, r"mask in/zeros\.npy has no valid pixel; True or non-zero"),
    "mask corrupt": (["--mask", "in/bad.npy"], 1, r"mask in/bad\.npy cannot be read .*; give one frame"),
    "analysis missing": (
        ["--reuse-analysis", "none.json"],
        1,
        r"none\.json cannot be used .*; give the \*_results\.json",
    ),
    "analysis corrupt": (["--reuse-analysis", "in/bad.json"], 1, r"bad\.json cannot be used .*; give the \*_results"),
    "scan shape": (["--scan-shape", "5,5"], 1, r"in\.npy holds 12 patterns.*; state one with that product"),
    "raw options": (["--dtype", "u2"], 1, r"in\.npy states its own layout; shape, dtype and offset are for raw"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, code, message = OPTIONS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    source = save(tmp_path / "in" / "in.npy")
    save(tmp_path / "in" / "small.npy", np.ones((3, 3)))
    save(tmp_path / "in" / "zeros.npy", np.zeros((32, 32)))
    (tmp_path / "in" / "bad.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "in" / "bad.json").write_text('{"analysis": ')
    before = digest(tmp_path / "in")
    ran = crop(source, "-o", tmp_path / "out.npy", "-q", *arguments)
    assert ran.code == code
    assert ran.out == ""
    assert ran.errors == [ran.err.strip()]
    assert_matches(message, ran.errors[0])
    expect_clean(tmp_path, before)


OUTPUTS = {
    "unknown extension": ("out.xyz", r"out\.xyz has no known extension; known are \.npy \.pt"),
    "no extension": ("out", r"out has no known extension; known are \.npy \.pt"),
    "missing folder": ("none/out.npy", r"folder none of the output does not exist; create it first"),
    "below a file": ("in/in.npy/out.npy", r"folder in/in\.npy of the output is a file; choose another output"),
    "the input itself": ("in/in.npy", r"output in/in\.npy is the input; choose another name"),
    "existing": ("in/there.npy", r"output in/there\.npy exists; choose another name .*\(--overwrite\)"),
    "existing folder": ("in/folder.npy", r"output in/folder\.npy is a folder; give a file name"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_bad_output(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, message = OUTPUTS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "folder.npy").mkdir(parents=True)
    source = save(tmp_path / "in" / "in.npy")
    (tmp_path / "in" / "there.npy").write_text("of somebody else")
    before = digest(tmp_path / "in")
    ran = crop(source, "-o", output, "-q")
    assert ran.code == 1
    assert ran.errors == [ran.err.strip()]
    assert_matches(message, ran.errors[0])
    expect_clean(tmp_path, before)
    assert not list((tmp_path / "in" / "folder.npy").iterdir())


@pytest.mark.parametrize("extension", [".h5"])
def test_full_output(extension: str, tmp_path: Path) -> None:
    """The analysis fits, the patterns do not: nothing is left behind, and --resume does it once there is room.

    Other formats are tested from Python, in tests/crop/test_resume.py.
    """
    (tmp_path / "in").mkdir()
    source = save(tmp_path / "in" / "in.npy", NOISE.repeat(20, axis=0))
    output = tmp_path / f"out{extension}"
    arguments = ["crop", "--no-visualization", "-q", str(source), "-o", str(output), "--compression", "none"]
    # Compiled kernels are larger than the limit: they are to be in their cache before it holds.
    assert crop(source, "-o", tmp_path / "in" / "warm.npy", "-q", "--no-visualization").code == 0
    before = digest(tmp_path / "in")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    # On a busy machine the analysis would take until the first checkpoint, which is kept.
    program = "\n".join(
        [
            "from stackalign.cli.__main__ import main",
            "from stackalign.crop import run",
            "run.CHECKPOINT_SECONDS = 1e9",
            "main()",
        ]
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert_matches(rf"^error: output .*out{extension}.* cannot be written \(.*File too large", ran.stderr)
    assert_matches(r"bytes are needed, .* bytes are free", ran.stderr)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]  # nothing was saved yet
    assert digest(tmp_path / "in") == before
    assert crop(*arguments[2:], "--resume").code == 0
    assert crop(*arguments[2:4], "-o", tmp_path / f"whole{extension}", "--compression", "none").code == 0
    assert digest(output) == digest(tmp_path / f"whole{extension}")
    assert not output.with_name(output.name + ".partial").exists()
