"""The commands on diffraction images answer alike to what is wrong: one sentence, one exit code."""

import csv
import logging
import warnings
from unittest import mock

import numpy as np
import pytest

from cli.runner import STACK, io_tests, run, strict_json
from stackalign.cli import _console
from stackalign.diffraction.synthetic import lattice
from stackalign.errors import MaskWarning, StackalignWarning

COMMANDS = {
    "center": (),
    "peaks": (),
    "profile": ("--center", "48,48"),
    "mask": (),
    "nfold": ("-n", 6, "--center", "48,48"),
    "align": (),
    "drift": (),
}
OUT = {"center": "out.csv", "peaks": "out.csv", "profile": "out.csv"}


@pytest.fixture
def scan(tmp_path):
    np.save(tmp_path / "scan.npy", np.stack([lattice(96, seed=k).image for k in range(3)]))
    return tmp_path / "scan.npy"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_a_folder(scan, tmp_path, command, overwrite) -> None:
    out = tmp_path / OUT.get(command, "out.npy")
    out.mkdir()
    ran = run(command, scan, "-o", out, *COMMANDS[command], *(["--overwrite"] if overwrite else []))
    assert ran.code == 1
    assert [line for line in ran.errors if "is a folder; give a file name" in line], ran.err
    assert "bytes" not in ran.err
    assert not list(out.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, "scan.npy"])


@pytest.mark.parametrize("command", COMMANDS)
def test_an_extension_that_is_not_known_is_wrong_usage(scan, tmp_path, command) -> None:
    ran = run(command, scan, "-o", tmp_path / "out.xyz", *COMMANDS[command])
    assert ran.code == 2, ran.err
    assert len(ran.errors) == 1
    assert "no known extension" in ran.errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_file_is_named_once(tmp_path, command) -> None:
    ran = run(command, tmp_path / "nosuch.tif", "-o", tmp_path / OUT.get(command, "out.npy"), *COMMANDS[command])
    assert ran.code == 1
    assert sum(line.count("nosuch.tif") for line in (ran.out + ran.err).splitlines()) == 1
    assert "None" not in ran.out


def test_a_missing_reference_is_not_blamed_on_the_moving_image(scan, tmp_path) -> None:
    ran = run("align", tmp_path / "nosuch.npy", scan, "-o", tmp_path / "out.npy")
    assert ran.errors == [f"error: input {tmp_path / 'nosuch.npy'} does not exist; check the path"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "peaks"])  # that has one
def test_no_thread_is_wrong_usage(tmp_path, command) -> None:
    """Also where the image is so plain that nothing would be computed."""
    np.save(tmp_path / "plain.npy", np.ones((96, 96)))
    out = tmp_path / OUT.get(command, "out.npy")
    ran = run(command, tmp_path / "plain.npy", "-o", out, *COMMANDS[command], "--workers", 0)
    assert ran.code == 2
    assert ran.errors == ["error: workers must be at least 1, got 0"]
    assert [path.name for path in tmp_path.iterdir()] == ["plain.npy"]


@pytest.mark.parametrize("command", ["center", "peaks", "profile", "nfold"])
def test_what_is_wrong_with_a_file_comes_with_its_name(scan, tmp_path, command) -> None:
    np.save(tmp_path / "small.npy", np.ones((5, 5), bool))
    mask = ("--mask", tmp_path / "small.npy")
    ran = run(command, scan, "-o", tmp_path / OUT.get(command, "out.npy"), *COMMANDS[command], *mask)
    assert ran.code == 1
    assert "scan.npy: mask must have the shape (96, 96)" in ran.errors[0]


@pytest.mark.parametrize(("command", "options"), [("peaks", ()), ("center", ()), ("profile", ("--center", "48,48"))])
def test_tables_name_files_as_they_were_given(scan, tmp_path, command, options) -> None:
    assert run(command, scan, "-o", tmp_path / "out.csv", *options).code in (0, 3)
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert {row["file"] for row in csv.DictReader(stream)} == {str(scan)}


@pytest.mark.parametrize("method", ["matched", "persistence"])
def test_a_blind_frame_has_no_peaks_and_the_others_do(scan, tmp_path, method) -> None:
    images = np.load(scan).astype(np.float32)
    images[1] = np.nan
    images[2] = 0
    np.save(scan, images)
    mask = np.ones((96, 96), bool)
    mask[:4] = False
    np.save(tmp_path / "mask.npy", mask)
    page = tmp_path / "page.html"
    ran = run("peaks", scan, "-o", tmp_path / "out.csv", "--method", method, "--mask", tmp_path / "mask.npy", "--json",
              "--report", page)  # fmt: skip
    assert ran.code == 0, ran.err
    assert strict_json(ran.out)["images"] == 3
    assert [line for line in ran.err.splitlines() if "frame 1 of" in line and "scan.npy" in line]
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert {row["frame"] for row in csv.DictReader(stream)} == {"0"}
    assert page.read_text().count("data:image/png;base64") == 2


def test_advice_is_only_given_where_it_can_be_followed(tmp_path) -> None:
    """Every command has the option --scan-shape, and reads the good part of the file with it."""
    torn = tmp_path / "torn.mib"
    torn.write_bytes(io_tests("test_formats").mib_bytes(STACK[:3])[:-100])
    for command, options in COMMANDS.items():
        if command == "drift":  # two frames are no series
            continue
        (tmp_path / command).mkdir()
        arguments = (command, torn, "-o", tmp_path / command / OUT.get(command, "out.npy"), *options)
        ran = run(*arguments)
        assert ran.code == 1
        assert "ends within pattern 2" in ran.err, ran.err
        assert "copy it again" in ran.err
        assert "or state the scan shape of the part to read" in ran.err
        followed = run(*arguments, "--scan-shape", "2")
        assert followed.code in (0, 3), followed.err


@pytest.mark.parametrize("command", ["center", "peaks", "profile", "nfold", "align"])
def test_a_mask_that_leaves_next_to_nothing_is_doubted_once(scan, tmp_path, command) -> None:
    few = np.zeros((96, 96), bool)
    few[40:56, 40:56] = True
    np.save(tmp_path / "few.npy", few)
    arguments = (command, scan, *COMMANDS[command], "--mask", tmp_path / "few.npy")
    ran = run(*arguments, "-o", tmp_path / OUT.get(command, "out.npy"))
    assert ran.code in (0, 3), ran.err
    assert [line for line in ran.err.splitlines() if "mask" in line] == [
        f"warning: mask {tmp_path / 'few.npy'} leaves 2.8% of the pixels; non-zero means valid, is it inverted?"
    ]
    assert "Warning" not in ran.err
    assert ".py" not in ran.err
    quiet = run(*arguments, "-o", tmp_path / ("quiet" + OUT.get(command, "out.npy")), "--quiet")
    assert "mask" not in quiet.err


def test_warnings_are_plain_lines_and_those_of_others_stay(monkeypatch) -> None:
    said = mock.Mock()
    monkeypatch.setattr(_console, "say", said)
    monkeypatch.setattr(_console.user_log, "level", logging.WARNING)

    @_console.plain_warnings()
    def command() -> None:
        for text, kind in [("odd", StackalignWarning), ("mask leaves 1%", MaskWarning)] * 2:
            warnings.warn(text, kind, stacklevel=1)
        warnings.warn("of another package", FutureWarning, stacklevel=1)

    with pytest.warns(FutureWarning, match="another package"):
        command()
    assert [call.args[0] for call in said.call_args_list] == ["warning: odd", "warning: mask leaves 1%"]


def test_a_mask_of_few_pixels_comes_with_its_reason(scan, tmp_path) -> None:
    ran = run("mask", scan, "-o", tmp_path / "out.npy", "--limits", "1e6,2e6")
    assert ran.code == 3
    line = next(line for line in ran.err.splitlines() if line.startswith("warning:"))
    assert "only 0.0% of the pixels are valid" in line
    assert "below 9216" in line
    few = np.zeros((96, 96), bool)
    few[0, 0] = True
    np.save(tmp_path / "few.npy", few)
    ran = run("mask", scan, "-o", tmp_path / "few_out.npy", "--limits", "none", "--mask", tmp_path / "few.npy")
    assert "by --mask 9215" in ran.err
    assert "warning" not in run("mask", scan, "-o", tmp_path / "all.npy", "--limits", "none").err


def test_settings_that_say_nothing_are_refused(scan, tmp_path) -> None:
    for distance in (-4, "nan"):
        ran = run("peaks", scan, "-o", tmp_path / "out.csv", "--min-distance", distance)
        assert ran.code == 2
        assert "min_distance must be a number of pixels, 0 or more" in ran.errors[0]
    np.save(tmp_path / "one.npy", np.load(scan)[0])
    ran = run("mask", tmp_path / "one.npy", "-o", tmp_path / "out.npy", "--max-std", 5)
    assert ran.code == 1
    assert "two images" in ran.errors[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "scan.npy"]


@pytest.mark.parametrize("command", ["profile", "nfold"])
def test_quiet_commands_print_errors_only(tmp_path, command) -> None:
    np.save(tmp_path / "plain.npy", np.ones((96, 96)))
    options = ("-n", 6) if command == "nfold" else ()
    for more, words in (((), "are not certain"), (("--quiet",), "")):
        out = tmp_path / f"{len(more)}{'.npz' if command == 'profile' else '.npy'}"
        ran = run(command, tmp_path / "plain.npy", "-o", out, *options, *more)
        assert ran.code == 3, ran.err
        assert words in ran.err
        assert bool(ran.err) == bool(words)


def test_failures_are_said_once(scan, tmp_path) -> None:
    """Of two files, one of them torn, the answer on stdout is about the other."""
    (tmp_path / "torn.npy").write_bytes(scan.read_bytes()[:5000])
    for command in ("nfold", "align"):
        options = COMMANDS[command]
        first = (scan,) if command == "align" else ()
        ran = run(command, *first, scan, tmp_path / "torn.npy", "-o", tmp_path / command, *options)
        assert ran.code == 1
        assert len(ran.errors) == 1
        assert "torn.npy" in ran.errors[0]
        assert "torn.npy" not in ran.out
        assert "scan.npy" in ran.out
