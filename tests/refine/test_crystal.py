"""Scattering factors, structure factors, symmetry, CIF files and the frame of the beam."""

from pathlib import Path

import numpy as np
import pytest
from scipy import constants

from refine.crystals import copper, gallium_arsenide, silicon, triclinic
from stackalign.errors import DataError, MissingDependencyError
from stackalign.refine import Beam, Crystal, kirkland

CIF = """data_test
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 6.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_symmetry_equiv_pos_as_xyz
x,y,z
-y,x,z
-x,-y,z
y,-x,z
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_B_iso_or_equiv
_atom_site_occupancy
Ti1 Ti4+ 0.1 0.2 0.3 0.5 1.0
O1 O 0 0 0 0.8 0.5
loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_12
_atom_site_aniso_U_13
_atom_site_aniso_U_23
Ti1 0.01 0.02 0.03 0.001 0.002 0.003
"""


def test_kirkland_agrees_with_another_parametrisation() -> None:
    """Peng, Ren, Dudarev and Whelan (1996) as gemmi has them; a mistyped coefficient is off by far more."""
    gemmi = pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
    s = np.array([0.1, 0.2, 0.4, 0.8, 1.2])
    for number in range(1, 99):
        element = gemmi.Element(number)
        other = np.array([element.c4322.calculate_sf(value**2) for value in s])
        np.testing.assert_allclose(kirkland(element.name, (2 * s) ** 2), other, rtol=0.065, err_msg=element.name)
    assert kirkland("Lr", np.zeros((2, 3))).shape == (2, 3)


def test_structure_factors_of_diamond() -> None:
    hkl = np.array([[1, 1, 1], [2, 0, 0], [2, 2, 0], [2, 2, 2], [4, 0, 0], [1, 0, 0]])
    g2 = (hkl**2).sum(1) / 5.431**2
    geometric = np.array([4 + 4j, 0, 8, 0, 8, 0])  # 4 (1 + exp(-i pi (h + k + l) / 2)) for unmixed indices
    expected = geometric * kirkland("Si", g2) * np.exp(-0.4668 * g2 / 4)
    np.testing.assert_allclose(silicon().structure_factors(hkl), expected, atol=1e-12)


def test_opposite_reflections_are_conjugate(rng: np.random.Generator) -> None:
    hkl = rng.integers(-6, 7, (50, 3))
    crystal = triclinic(rng)
    np.testing.assert_allclose(
        crystal.structure_factors(-hkl), crystal.structure_factors(hkl).conj(), rtol=0, atol=1e-12
    )


def test_reciprocal_cell(rng: np.random.Generator) -> None:
    crystal = triclinic(rng)
    np.testing.assert_allclose(crystal.direct @ crystal.reciprocal.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(crystal.direct, axis=1), crystal.cell[:3])
    a, b, c = crystal.direct
    for (u, v), angle in zip(((b, c), (a, c), (a, b)), crystal.cell[3:], strict=True):
        assert np.rad2deg(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))) == pytest.approx(angle)


def test_anisotropic_displacements_that_are_isotropic(rng: np.random.Generator) -> None:
    """U_ij = U a*_i . a*_j / (a*_i a*_j) is isotropic also in an oblique cell."""
    crystal = triclinic(rng)
    metric = crystal.reciprocal @ crystal.reciprocal.T
    u = 0.01 * metric / np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    tensors = np.tile([u[0, 0], u[1, 1], u[2, 2], u[0, 1], u[0, 2], u[1, 2]], (3, 1))
    hkl = rng.integers(-5, 6, (40, 3))
    arguments = (crystal.cell, crystal.species, crystal.positions)
    found = Crystal(*arguments, u_aniso=tensors).structure_factors(hkl)
    np.testing.assert_allclose(found, Crystal(*arguments, b_iso=8 * np.pi**2 * 0.01).structure_factors(hkl), atol=1e-12)


@pytest.mark.parametrize("crystal", [silicon(), copper()])
def test_a_centre_of_inversion_makes_structure_factors_real(crystal: Crystal, rng: np.random.Generator) -> None:
    moved = crystal.shifted(rng.uniform(size=3))
    center = moved.inversion_center
    assert center is not None
    hkl = rng.integers(-6, 7, (60, 3))
    np.testing.assert_allclose(moved.shifted(center).structure_factors(hkl).imag, 0, atol=1e-10)


def test_no_centre_of_inversion_where_there_is_none(rng: np.random.Generator) -> None:
    assert gallium_arsenide().inversion_center is None
    assert triclinic(rng).inversion_center is None
    assert silicon().with_parameters({"occupancy.0": 0.5}).inversion_center is None


@pytest.mark.filterwarnings("ignore:.*Ti4. are ions")
def test_crystals_from_cif(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
    path = tmp_path / "test.cif"
    path.write_text(CIF)
    crystal = Crystal.from_cif(path)
    assert crystal.species == ("Ti",) * 4 + ("O",)  # the oxygen lies on the axis
    assert crystal.cell == (4, 4, 6, 90, 90, 90)
    np.testing.assert_allclose(crystal.b_iso[4:], 0.8, rtol=1e-6)
    np.testing.assert_allclose(crystal.occupancy, [1, 1, 1, 1, 0.5])
    np.testing.assert_allclose(crystal.u_aniso[0], [0.01, 0.02, 0.03, 0.001, 0.002, 0.003])
    assert np.isnan(crystal.u_aniso[4]).all()
    hkl = rng.integers(-5, 6, (30, 3))
    turned = np.stack([-hkl[:, 1], hkl[:, 0], hkl[:, 2]], 1)  # the fourfold axis holds for displacements too
    np.testing.assert_allclose(crystal.structure_factors(turned), crystal.structure_factors(hkl), atol=1e-9)
    assert (
        np.abs(crystal.with_parameters({"b_iso.Ti": 0.5}).structure_factors(hkl) / crystal.structure_factors(hkl)).max()
        > 1.01
    )


@pytest.mark.filterwarnings("ignore:.*Ti4. are ions")
def test_cells_that_are_written_as_a_table(tmp_path: Path) -> None:
    pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
    for text in (CIF.replace("_cell_length_a", "loop_\n_cell_length_a"), "data_empty\n_title none\n" + CIF):
        (tmp_path / "test.cif").write_text(text)
        assert Crystal.from_cif(tmp_path / "test.cif").cell == (4, 4, 6, 90, 90, 90)


def test_a_cif_of_a_database(shared_data: Path) -> None:
    pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
    crystal = Crystal.from_cif(shared_data / "cbed" / "felix_gaas_dlacbed" / "felix.cif")
    assert [crystal.species.count(name) for name in ("Ga", "As")] == [4, 4]
    assert crystal.cell == (5.65325, 5.65325, 5.65325, 90, 90, 90)
    known = gallium_arsenide().with_parameters({"b_iso": 0.0})
    hkl = np.random.default_rng(0).integers(-5, 6, (30, 3))
    found = crystal.with_parameters({"b_iso": 0.0}).structure_factors(hkl)
    np.testing.assert_allclose(np.abs(found), np.abs(known.structure_factors(hkl)), atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Ti4+", "Xx", "species 'Xx' of the atom Ti1 is not an element"),
        ("_cell_length_a 4.0", "", "no unit cell"),
        ("x,y,z\n-y,x,z\n-x,-y,z\ny,-x,z", "", "cannot be read|no symmetry"),
        (CIF, "not a CIF file", "cannot be read"),
    ],
)
def test_bad_cif_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")
    path = tmp_path / "bad.cif"
    path.write_text(CIF.replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        Crystal.from_cif(path)
    assert "bad.cif" in str(caught.value)


def test_cif_files_need_gemmi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gemmi", None)
    with pytest.raises(MissingDependencyError, match=r"stackalign\[refine\]"):
        Crystal.from_cif(tmp_path / "any.cif")


def test_parameters_of_a_crystal_change_alone() -> None:
    crystal = gallium_arsenide()
    assert crystal.parameters["b_iso.As"] == pytest.approx(0.7)
    changed = crystal.with_parameters({"a": 5.7, "b_iso.Ga": 0.3, "x.4": 0.26, "occupancy.1": 0.9})
    assert changed.cell[:2] == (5.7, 5.65325)
    np.testing.assert_allclose(changed.b_iso, [0.3] * 4 + [0.7] * 4)
    assert changed.positions[4, 0] == 0.26
    assert changed.occupancy[1] == 0.9
    assert crystal.cell[0] == 5.65325
    np.testing.assert_allclose(crystal.with_parameters({"b_iso": 0.2}).b_iso, 0.2)
    for name in ("b_iso.Si", "x.9", "d", "thickness"):
        with pytest.raises(ValueError, match="unknown parameter"):
            crystal.with_parameters({name: 1.0})
    with pytest.raises(ValueError, match="read-only"):
        crystal.positions[0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"species": ("Si", "Xx")}, "unknown species 'Xx'"),
        ({"cell": (5, 5, 0, 90, 90, 90)}, "above 0"),
        ({"cell": (5, 5, 5, 90, 90)}, "alpha, beta, gamma"),
        ({"cell": (5, 5, 5, 60, 60, 170)}, "no cell has the angles"),
        ({"positions": np.zeros((3, 3))}, r"\(2, 3\)"),
        ({"b_iso": [1, 2, 3]}, "one per atom"),
        ({"b_iso": -1.0}, "must not be negative"),
        ({"occupancy": np.nan}, "must not be negative"),
        ({"u_aniso": np.zeros(6)}, r"\(2, 6\)"),
        ({"species": (), "positions": np.zeros((0, 3))}, "at least one atom"),
    ],
)
def test_bad_crystals(change: dict, message: str) -> None:
    arguments = {"cell": (5, 5, 5, 90, 90, 90), "species": ("Si", "C"), "positions": np.zeros((2, 3))} | change
    with pytest.raises(ValueError, match=message):
        Crystal(**arguments)


def test_wavelength() -> None:
    """Tabulated relativistic wavelengths, and the interaction constant of Kirkland's table 2.1 at 300 kV."""
    for kv, angstrom in ((100, 0.0370144), (200, 0.0250793), (300, 0.0196875)):
        assert Beam(kv, (0, 0, 1), (1, 0, 0)).wavelength_angstrom == pytest.approx(angstrom, rel=3e-6)
    beam = Beam(300, (0, 0, 1), (1, 0, 0))
    assert beam.interaction_per_volt_angstrom == pytest.approx(0.65262e-3, rel=2e-4)
    assert beam.mass_ratio == pytest.approx(1 + 300 / 510.99895, rel=1e-7)
    assert beam.wavenumber == pytest.approx(
        beam.mass_ratio * constants.m_e * constants.c * np.sqrt(1 - beam.mass_ratio**-2) / constants.h * 1e-10, rel=1e-9
    )


def test_the_frame_is_right_handed() -> None:
    crystal = silicon()
    frame = Beam(200, (1, 1, 0), (0, 0, 2)).frame(crystal)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(frame) == pytest.approx(1)
    np.testing.assert_allclose(frame[2], np.array([1, 1, 0]) / np.sqrt(2))
    np.testing.assert_allclose(frame[0], [0, 0, 1])
    np.testing.assert_allclose(
        Beam(200, (1, 1, 0), (0, 0, 2), (1, 1, 0)).inward_normal(crystal), [0, 0, -1], atol=1e-15
    )


def test_milliradians_come_back(rng: np.random.Generator) -> None:
    beam = Beam(200, (0, 0, 1), (1, 0, 0))
    mrad = rng.uniform(-20, 20, (5, 2))
    tilts = beam.tilts_from_mrad(mrad)
    np.testing.assert_allclose(tilts, 1e-3 * mrad / 0.0250793, rtol=1e-5)
    np.testing.assert_allclose(beam.tilts_to_mrad(tilts), mrad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (0, 0, 1), (1, 0, 0)), "kv must be"),
        ((-200, (0, 0, 1), (1, 0, 0)), "kv must be"),
        ((np.nan, (0, 0, 1), (1, 0, 0)), "kv must be"),
        ((200, (0, 0, 0), (1, 0, 0)), "zone must be three numbers"),
        ((200, (0, 0, 1), (1, 0)), "x_axis must be three numbers"),
        ((200, (0, 0, 1), (0, 0, 1)), "parallel to the zone axis"),
        ((200, (0, 0, 1), (1, 0, 0), (1, 0, 0)), "within 84 degrees"),
        ((200, (0, 0, 1), (1, 0, 0), (0, 0, -1)), "within 84 degrees"),
    ],
)
def test_bad_beams(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Beam(*arguments).inward_normal(silicon())
