"""`stackalign refine`: a configuration in, results and a page out, and every mistake in a configuration said."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cli.runner import run, strict_json
from refine.configuration import CONFIG, HKL, images, write_config
from stackalign.cli import _console
from stackalign.refine import files, load_config


@pytest.fixture(scope="module")
def truth():
    return images()


@pytest.fixture
def config(tmp_path: Path, truth):
    return partial(write_config, tmp_path, truth)


def test_steps_results_and_page(config, truth, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ran = run("refine", config(), "--report", page, "--json")
    assert ran.code == 0, ran.err
    written = strict_json((tmp_path / "si_refined.json").read_text())
    assert json.loads(ran.out) == written
    first, second = (step["result"] for step in written["steps"])
    assert first["values"]["thickness"] == pytest.approx(612, rel=0.01)
    assert first["values"]["gl"] == 40
    assert second["values"]["gl"] == pytest.approx(40, rel=0.015)
    assert second["values"]["thickness"] == pytest.approx(612, rel=0.03)
    np.testing.assert_allclose(second["frame"]["tilt"], truth.frame.tilt, atol=0.5 * truth.frame.step)
    assert [step["title"] for step in written["steps"]] == ["thickness, tilt", "step size"]
    assert written["provenance"]["inputs"][1]["path"].endswith("disks.npz")
    assert "step 2 of 2" in ran.err
    text = page.read_text()
    assert text.count("<img ") == 3  # two figures of steps, the disks of the last
    for words in ("measured, simulated and their difference", "correlation matrix", "step size", "thickness", "held"):
        assert words in text
    assert {path.name for path in tmp_path.iterdir()} == {"si.toml", "disks.npz", "si_refined.json", "page.html"}


def test_orientations(config, truth, tmp_path: Path) -> None:
    """The images are mirrored and turned; the right way round is found and taken further."""
    np.savez(tmp_path / "disks.npz", images=np.rot90(truth.data.images[:, :, ::-1], 1, (1, 2)), hkl=np.array(HKL))
    step = "[[step]]\nrefine = { thickness = [300, 900] }"
    ran = run(
        "refine",
        config((step, "[[step]]\norientation = [550, 680]"), ("center = [23.8, 23.1]", "center = [23.5, 23.5]")),
        "--quiet",
    )
    assert ran.code == 0, ran.err
    written = strict_json((tmp_path / "si_refined.json").read_text())
    trials = written["steps"][0]["trials"]
    assert len(trials) == 8
    assert trials[0][1] > trials[1][1] + 0.2
    assert written["steps"][1]["result"]["frame"]["flip"]
    assert written["steps"][1]["result"]["values"]["thickness"] == pytest.approx(612, rel=0.01)
    assert ran.err == ""


def test_finished_steps_are_kept(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped in its second step goes on there, and ends with the same bytes."""
    path = config()
    run("refine", path, "-q")
    expected = strict_json((tmp_path / "si_refined.json").read_text())
    (tmp_path / "si_refined.json").unlink()
    take, calls = files.take, []

    def stopped(now, step, show, stop):
        calls.append(step.title)
        if len(calls) == 2:
            stop.request()
        return take(now, step, show, stop)

    monkeypatch.setattr(files, "take", stopped)
    ran = run("refine", path)
    assert ran.code == 1
    assert "--resume goes on" in ran.err
    assert not (tmp_path / "si_refined.json").exists()
    ran = run("refine", path, "--resume")
    assert ran.code == 0, ran.err
    assert calls == ["thickness, tilt", "step size", "step size"]
    assert "finished by an earlier run" in ran.out
    found = strict_json((tmp_path / "si_refined.json").read_text())
    for step, other in zip(found["steps"], expected["steps"], strict=True):
        for each in (step, other):
            each["result"].pop("seconds")
        assert step == other


def test_progress_says_how_long_it_will_take(config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_console, "PLAIN_SECONDS", 0.0)
    ran = run("refine", config(("n_scan = { gl = 3 }", "n_scan = { gl = 3 }\nfine_grid = 4")))
    assert ran.code == 0, ran.err
    lines = ran.err.splitlines()
    assert any(re.fullmatch(r"scan: 2/3 evaluations, \d+ s, \d+ s left", line) for line in lines)
    assert any(re.fullmatch(r"scan: 3/3 evaluations, \d+ s", line) for line in lines)
    assert "step 2 of 2: step size" in lines
    assert "inf s left" not in ran.err


def test_a_dat_file_is_crystal_and_beam(config, tmp_path: Path) -> None:
    pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
    text = CONFIG[CONFIG.index("[crystal]") : CONFIG.index("[simulation]")]
    (tmp_path / "si.dat").write_text(
        "crystal silicon : dw = iso occ = 1\ncell 5.431 5.431 5.431 90 90 90\natom Si 0.125 0.125 0.125 0.4668\n"
        "spg 227 2\nhv 200\nzone 1 1 0\nxaxis 0 0 2\n"
    )
    steps = CONFIG[CONFIG.index("\n[[step]]\nname") :]
    ran = run("refine", config((text, '[crystal]\ndat = "si.dat"\n'), (steps, "")), "-q")
    assert ran.code == 0, ran.err
    found = strict_json((tmp_path / "si_refined.json").read_text())
    assert found["steps"][0]["result"]["values"]["thickness"] == pytest.approx(612, rel=0.01)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gl = 40.0", "gl = 0.0", r"\[data\] gl, the length of the x-axis vector in pixels, must be above 0, got 0"),
        ("gl = 40.0", "gl = -3", "must be above 0, got -3"),
        ('kind = "larbed"', 'kind = "tem"', 'kind must be "cbed" or "larbed"'),
        ('file = "disks.npz"', 'file = "none.npz"', "none.npz cannot be read"),
        ('dataset = "images"', 'dataset = "other"', "has no array 'other'; it has images, hkl"),
        ('reflections = "hkl"', 'reflections = "hkl"\nuse = [[0, 0, 4]]', r"\[\(0, 0, 4\)\] were not measured"),
        ('reflections = "hkl"', "reflections = [[0, 0, 0]]", "one image per reflection, got 4 for 1"),
        ('reflections = "hkl"', 'reflections = "hkl"\ncentre = [1, 2]', "unknown 'centre'; known are"),
        ('"Si", "Si", "Si", "Si", "Si", "Si", "Si", "Si"', '"Si"', r"\[crystal\] positions must be \(1, 3\)"),
        ('species = ["Si"', 'species = ["Xy"', "unknown species 'Xy'"),
        ("cell = [5.431", 'cif = "a.cif"\ncell = [5.431', "needs one of cif, dat, or cell"),
        ("kv = 200.0", "kv = -1", r"\[beam\] kv must be an accelerating voltage above 0"),
        ("kv = 200.0", "", r"\[beam\] needs kv"),
        ("strong = 0.06", "strong = 0", r"\[simulation\] strong of the beam selection must be above 0"),
        ("height = 30", "rectangles = [[0, 0, 5, 5]]", "needs either rectangles"),
        ("[matching]\n", "[matching]\nsearch_radius = 0.2\n", "larger than the search area"),
        ("[matching]\n", '[matching]\npreprocess = "median"\n', "preprocess must be one of ridge, high_pass"),
        ("[matching]\n", '[matching]\nmetric = "each"\n', r"\[matching\] metric must be"),
        ("thickness = [300, 900]", "thickness = 300", r'thickness needs bounds \[low, high\], or "auto", got 300'),
        ("thickness = [300, 900]", "thickness = [900, 300]", "thickness"),
        ("thickness = [300, 900]", "colour = [1, 2]", "colour"),
        ("refine = { thickness = [300, 900] }", "", r"\[\[step\]\] 1 needs refine"),
        (CONFIG[CONFIG.index("[[step]]") :], "", r"there is no \[\[step\]\]"),
        ("[roi]", "[roi", "is not TOML"),
        # Mistakes in the last step are said before the first one is taken.
        ("{ thickness = [500, 700], gl =", "{ thicknes = [500, 700], gl =", r"\[\[step\]\] 2: .*thicknes"),
        ("[39.0, 41.0]", "[41.0, 39.0]", r"\[\[step\]\] 2: .*gl"),
        ('reflections = "hkl"', "reflections = [[0, 0, 0], [2, 2]]", r"\[data\] reflections must be triples"),
        ("x_axis = [0, 0, 2]", "x_axis = [2, 2, 0]", r"\[beam\]"),
        ("[roi]\nheight = 30\nwidth = 30", "", r"there is no table \[roi\]"),
    ],
)
def test_mistakes_are_said(config, tmp_path: Path, old: str, new: str, message: str) -> None:
    ran = run("refine", config((old, new)), "-q")
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert re.search(message, ran.err), ran.err
    assert not (tmp_path / "si_refined.json").exists()


def test_the_configuration_of_the_guide(tmp_path: Path) -> None:
    pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "refine.md").read_text()
    (text,) = re.findall(r"^```toml\n(# si.toml.*?)^```", guide, re.M | re.S)
    (tmp_path / "si.toml").write_text(text)
    np.savez(tmp_path / "disks.npz", images=np.ones((4, 64, 64)), hkl=np.array(HKL))
    (tmp_path / "si.cif").write_text(
        "data_si\n_cell_length_a 5.431\n_cell_length_b 5.431\n_cell_length_c 5.431\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_space_group_name_H-M_alt 'F d -3 m:2'\nloop_\n_atom_site_label\n"
        "_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        "_atom_site_B_iso_or_equiv\nSi1 Si 0.125 0.125 0.125 0.4668\n"
    )
    plan = load_config(tmp_path / "si.toml")
    assert [step.orientation for step in plan.steps] == [(300, 1500), None]
    assert plan.steps[1].parameters == {"thickness": (300, 1500), "gl": (42, 46)}
    assert plan.refiner.simulator.crystal.species == ("Si",) * 8
    assert plan.refiner.roi.bounds == (-24, -24, 24, 24)


def test_usage(config, tmp_path: Path) -> None:
    shown = run("refine", "--help").out
    assert "[data]" in shown
    assert "[[step]]" in shown
    path = config()
    for options, message in (
        (("--output", tmp_path / "a.txt"), "must end with .json"),
        (("--workers", "0"), "must be 1 or more"),
        (("--memory-limit", "much"), "positive number"),
    ):
        ran = run("refine", path, *options)
        assert ran.code == 2
        assert message in ran.err
    ran = run("refine", path, "--memory-limit", "20kB")
    assert ran.code == 1
    assert "more than the limit of 20 kB" in ran.err
    ran = run("refine", tmp_path / "none.toml")
    assert (ran.code, "none.toml cannot be read" in ran.err) == (1, True)
