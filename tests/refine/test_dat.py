"""Crystal and beam files of the first implementation: two real ones, and what may be wrong with one."""

from pathlib import Path

import numpy as np
import pytest

from refine.crystals import FCC, silicon
from stackalign.errors import DataError, MissingDependencyError, StackalignWarning
from stackalign.refine import Crystal, read_dat

pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
pytestmark = pytest.mark.filterwarnings("ignore:.*not simulated. adj")

TEXT = """#Si 110 zone axis
crystal silicon : dw = iso occ = 1   # remark

cell 5.431 5.431 5.431 90.0 90.0 90.0
atom Si 0.125 0.125  0.125 0.4668
spg 227 2
hv 196.75
zone 1 1 0
norm 1 1 0
kt 12.0152 -12.0152 26.4176
xaxis 1 -1 -1
conv 0.55
samp 20
hkl 3
0 0 0
-1 1 -1
1 -1 -1
sgmax 3.0
out 2
0 0 0
1 -1 -1
adj 1
-1 1 1 0.5E-01  90 0.1E-03 180
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(*changes: tuple[str, str]) -> Path:
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "test.dat"
        path.write_bytes(text.replace("\n", "\r\n").encode())
        return path

    return write


@pytest.mark.filterwarnings("ignore:.*2 rows more than adj 2 says")
@pytest.mark.parametrize(
    ("name", "kv", "n_beams", "tilt_mrad", "n_adjusted"),
    [("Si_systematic", 196.75, 493, 145.3, 2), ("si110_111sys", 300.66, 363, 89.0, 0)],
)
def test_real_files(shared_data: Path, name: str, kv: float, n_beams: int, tilt_mrad: float, n_adjusted: int) -> None:
    found = read_dat(shared_data / "cbed" / "pyextal_notebook_images" / f"{name}.dat")
    assert found.name == "silicon"
    assert found.crystal.species == ("Si",) * 8
    assert found.crystal.cell == (5.4307, 5.4307, 5.4307, 90, 90, 90)
    assert (found.beam.kv, found.beam.zone, found.beam.x_axis) == (kv, (1, 1, 0), (1, -1, -1))
    assert len(found.hkl) == n_beams
    assert found.hkl[0] == (0, 0, 0)
    assert len(found.adjusted) == n_adjusted
    assert found.settings["sgmin"] == (0.3,)
    assert np.linalg.norm(found.beam.tilts_to_mrad(found.tilt)) == pytest.approx(tilt_mrad, rel=0.1)
    # The silicon of our tests has its origin at an atom; a centre of inversion lies between two.
    hkl = np.random.default_rng(0).integers(-6, 7, (60, 3))
    other = Crystal((5.4307,) * 3 + (90,) * 3, ("Si",) * 8, np.concatenate([FCC, FCC + 0.25]) - 0.125, b_iso=0.4668)
    np.testing.assert_allclose(
        np.abs(found.crystal.structure_factors(hkl)), np.abs(other.structure_factors(hkl)), atol=1e-9
    )


@pytest.mark.filterwarnings("ignore:.*2 rows more than adj 2 says")
def test_simulators_of_real_files_scatter(shared_data: Path) -> None:
    """The rows of both patterns are excited where `kt` points: the 000 beam gives its intensity to them."""
    for name in ("Si_systematic", "si110_111sys"):
        found = read_dat(shared_data / "cbed" / "pyextal_notebook_images" / f"{name}.dat")
        row = ((0, 0, 0), (1, -1, -1), (2, -2, -2), (-1, 1, 1))
        result = found.simulator(row).prepare({}, found.tilt[None]).intensities([300.0])[0, :, 0]
        assert 0.3 < result[1:].sum() < 1
        assert result[0] < 0.7


def test_everything_in_a_file(write) -> None:
    found = read_dat(write())
    assert found.hkl == ((0, 0, 0), (-1, 1, -1), (1, -1, -1))
    assert found.output == ((0, 0, 0), (1, -1, -1))
    assert found.convergence == 0.55
    assert found.settings == {"samp": (20.0,), "sgmax": (3.0,)}
    np.testing.assert_allclose(found.adjusted[(-1, 1, 1)], [0.05j, -1e-4], atol=1e-12)
    # kt in the frame of the beam: (1 -1 -1) and (1 -1 2) are x and y, up to their lengths.
    kt = np.array([12.0152, -12.0152, 26.4176])
    x, y = np.array([1, -1, -1]) / np.sqrt(3), np.array([1, -1, 2]) / np.sqrt(6)
    np.testing.assert_allclose(np.abs(found.tilt), np.abs([kt @ x / 5.431, kt @ y / 5.431]), rtol=1e-12)
    assert found.tilt[0] == pytest.approx(kt @ x / 5.431)
    automatic, listed = found.simulator(), found.simulator(listed=True)
    assert automatic.reflections == found.output
    assert automatic.beams is None
    np.testing.assert_array_equal(listed.beams.strong, found.hkl)
    assert found.simulator([(2, -2, -2)], workers=1).reflections == ((2, -2, -2),)


def test_the_normal_is_on_the_side_of_the_source(write) -> None:
    found = read_dat(write(("norm 1 1 0", "norm -2 -1 0")))
    assert found.beam.normal == (2, 1, 0)
    assert read_dat(write(("norm 1 1 0\n", ""))).beam.normal == (1, 1, 0)


def test_partial_occupancy_and_labels(write) -> None:
    atoms = "atom Si#1 0.25 0.25 0.25 0.46 0.94\natom Si2 0 0 0 0.46 0.985\natom P 0.125 0.125 0.125 0.5 0.06"
    changes = (("occ = 1", "occ = par"), ("atom Si 0.125 0.125  0.125 0.4668", atoms), ("spg 227 2", "spg 216 1"))
    crystal = read_dat(write(*changes)).crystal
    assert [crystal.species.count(name) for name in ("Si", "P")] == [8, 16]
    np.testing.assert_allclose(np.unique(crystal.occupancy), [0.06, 0.94, 0.985])


def test_anisotropic_displacements(write) -> None:
    """B = 8 pi^2 U, and beta = 2 pi^2 U a*^2 in a cubic cell: the same structure factors three times."""
    u = 0.4668 / (8 * np.pi**2)
    beta = 2 * np.pi**2 * u / 5.431**2
    hkl = np.random.default_rng(0).integers(-6, 7, (30, 3))
    expected = read_dat(write()).crystal.structure_factors(hkl)
    for kind, value in (("uij", u), ("bij", beta)):
        atom = f"0.125 {value:.12g} {value:.12g} {value:.12g} 0 0 0"
        crystal = read_dat(write(("dw = iso", f"dw = {kind}"), ("0.125 0.4668", atom))).crystal
        assert crystal.u_aniso is not None
        np.testing.assert_allclose(crystal.structure_factors(hkl), expected, rtol=1e-9, atol=1e-9)


def test_origins_and_axes_of_space_groups(write) -> None:
    first = read_dat(write(("atom Si 0.125 0.125  0.125", "atom Si 0 0 0"), ("spg 227 2", "spg 227 1"))).crystal
    assert len(first.species) == 8
    hkl = np.random.default_rng(0).integers(-6, 7, (30, 3))
    np.testing.assert_allclose(first.structure_factors(hkl), silicon().structure_factors(hkl), atol=1e-9)
    rhombohedral = (("5.431 5.431 5.431 90.0 90.0 90.0", "4.9 4.9 4.9 57 57 57"), ("spg 227 2", "spg 166 1"))
    hexagonal = (("5.431 5.431 5.431 90.0 90.0 90.0", "4.7 4.7 13 90 90 120"), ("spg 227 2", "spg 166 1"))
    others = (("atom Si 0.125 0.125  0.125", "atom Si 0 0 0"), ("zone 1 1 0", "zone 0 0 1"), ("norm 1 1 0\n", ""))
    for changes, n_atoms in ((rhombohedral, 1), (hexagonal, 3)):
        assert len(read_dat(write(*changes, *others)).crystal.species) == n_atoms


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hv 196.75\n", "", "there is no line 'hv'"),
        ("atom Si 0.125 0.125  0.125 0.4668\n", "", "there is no line 'atom'"),
        ("hv 196.75", "hv fast", "line 7: hv needs 1 number, got 'fast'"),
        ("hv 196.75", "hv -2", "line 7: kv must be an accelerating voltage above 0"),
        ("hv 196.75", "hv 196.75\nhv 200", "line 8: hv stands there a second time"),
        ("zone 1 1 0", "zone 1 1", "line 8: zone needs 3 numbers"),
        ("zone 1 1 0", "zone 1 -1 -1", "line 11: x_axis .* is parallel to the zone axis"),
        ("norm 1 1 0", "norm 1 -1 0", "line 9: the normal .* within 84 degrees"),
        ("cell 5.431", "cell 0", "line 4: cell needs lengths"),
        ("atom Si", "atom Xx", "line 5: the species 'Xx' is not an element"),
        ("0.125 0.4668", "0.125", "line 5: atom, after its symbol, needs 4 numbers"),
        ("0.125 0.4668", "0.125 -1", "line 5: B must not be negative"),
        ("dw = iso", "dw = none", "line 2: dw must be iso, bij or uij"),
        ("spg 227 2", "spg 227", "line 6: space group 227 has two origins: write spg 227 1 or spg 227 2"),
        ("spg 227 2", "spg 141", "line 6: space group 141 has two origins"),
        ("spg 227 2", "spg 194", "does not have the symmetry of its space group"),
        ("cell 5.431 5.431 5.431", "cell 5.431 5.431 5.7", "does not have the symmetry of its space group"),
        ("0.125 0.125  0.125", "0.125 0.125  0.1300", "and its image by symmetry are 0.0.* angstrom apart"),
        ("spg 227 2", "spg 231", "line 6: there is no space group 231"),
        ("spg 227 2", "spg 14 2", "line 6: setting 2 of space group 14 is not known here: write .* CIF"),
        ("hkl 3", "hkl 30", "line 18: a row of hkl needs 3 numbers, got 'sgmax 3.0'"),
        ("adj 1", "adj 2", "line 22: adj 2 is followed by 1 rows only"),
        ("-1 1 -1\n", "-1 1 0.5\n", "line 14: hkl needs whole numbers"),
        ("conv 0.55", "convergence 0.55", "line 12: unknown keyword 'convergence'; known are crystal, atom, cell"),
    ],
)
def test_bad_files(write, old: str, new: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_dat(write((old, new)))
    assert "test.dat" in str(caught.value)


def test_what_is_read_and_not_simulated_is_said(write) -> None:
    said = {"abs 0.1": "line 19: .*abs asks for absorption", "v0 12.0": "line 19: .*a mean inner potential"}
    for line, message in said.items():
        with pytest.warns(StackalignWarning, match=message):
            read_dat(write(("out 2\n", f"{line}\nout 2\n"), ("adj 1\n-1 1 1 0.5E-01  90 0.1E-03 180\n", "")))
    with pytest.warns(StackalignWarning, match="line 22: .*adj: 1 adjusted structure factors"):
        read_dat(write(("sgmax 3.0", "abs 0.0")))  # absorption that is off asks for nothing


def test_rows_beyond_the_number_that_is_given_are_said(write) -> None:
    with pytest.warns(StackalignWarning, match=r"test\.dat, line 14: 1 rows more than hkl 2 says are not read"):
        assert len(read_dat(write(("hkl 3", "hkl 2"))).hkl) == 2


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.dat cannot be read: No such file"):
        read_dat(tmp_path / "none.dat")


def test_a_list_of_beams_is_needed_to_use_it(write) -> None:
    text = ("hkl 3\n0 0 0\n-1 1 -1\n1 -1 -1\n", "")
    with pytest.raises(ValueError, match="lists no beams"):
        read_dat(write(text)).simulator(listed=True)


def test_dat_files_need_gemmi(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gemmi", None)
    with pytest.raises(MissingDependencyError, match=r"stackalign\[refine\]"):
        read_dat(write())
