"""The commands on diffraction images answer alike to what is wrong: one sentence, one exit code."""

import csv

import numpy as np
import pytest

from cli.runner import STACK, io_tests, run, strict_json
from stackalign.diffraction.synthetic import lattice

COMMANDS = {
    "center": (),
    "peaks": (),
    "profile": ("--center", "48,48"),
    "mask": (),
    "nfold": ("-n", 6, "--center", "48,48"),
    "align": (),
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
    """The option --scan-shape is that of `crop` alone."""
    torn = tmp_path / "torn.mib"
    torn.write_bytes(io_tests("test_formats").mib_bytes(STACK[:3])[:-100])
    for command, options in COMMANDS.items():
        ran = run(command, torn, "-o", tmp_path / OUT.get(command, "out.npy"), *options)
        assert ran.code == 1
        assert "ends within pattern 2" in ran.err, ran.err
        assert "copy it again" in ran.err
        assert "--scan-shape" not in ran.err
    ran = run("crop", torn, "-o", tmp_path / "cropped.npy")
    assert "--scan-shape" in ran.err
