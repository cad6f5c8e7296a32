"""CIF files as people have them: rounded coordinates, groups by name or number, all spellings of displacements."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stackalign.errors import DataError, StackalignWarning
from stackalign.refine import Crystal, kirkland

pytest.importorskip("gemmi", reason="gemmi is not installed: pip install gemmi")

Write = Callable[..., Path]
COLUMNS = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "B_iso_or_equiv", "occupancy")
HEXAGONAL, CUBIC = (3.2, 3.2, 5.2, 90, 90, 120), (5.43, 5.43, 5.43, 90, 90, 90)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(
        cell: tuple[float, ...], symmetry: str, *atoms: str, more: str = "", columns: tuple[str, ...] = COLUMNS
    ) -> Path:
        names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
        lines = ["data_x", *(f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True)), symmetry]
        lines += ["loop_", *(f"_atom_site_{name}" for name in columns), *atoms, more]
        path = tmp_path / "x.cif"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def name(symbol: str) -> str:
    return f"_symmetry_space_group_name_H-M '{symbol}'"


@pytest.mark.parametrize(
    ("symbol", "digits", "exact", "count"),
    [
        ("P 63/m m c", "0.667 0.333 0.75", (2 / 3, 1 / 3, 0.75), 2),
        ("P 63/m m c", "0.6667 0.3333 0.062", (2 / 3, 1 / 3, 0.062), 4),
        ("P 63/m m c", "0.333 0.666 0.25", (1 / 3, 2 / 3, 0.25), 2),  # cut, not rounded
        ("P 63/m m c", "0.167 0.333 0.25", (), 6),  # on x, 2x: the value of x is the file's
        ("P 63/m m c", "0.833 0.667 0.1", (), 12),
        ("P 6/m m m", "0.33 0.67 0.5", (1 / 3, 2 / 3, 0.5), 2),
        ("P -3 m 1", "0.3333(2) 0.6667(2) 0.22", (1 / 3, 2 / 3, 0.22), 2),
        ("P -3 m 1", "1/3 2/3 0.22", (1 / 3, 2 / 3, 0.22), 2),
        ("R -3 m :H", "0.667 0.333 0.8333", (2 / 3, 1 / 3, 5 / 6), 3),
        ("P 63/m m c", "0.350 0.670 0.25", None, 0),  # too far to be rounding, too near to be another atom
    ],
)
def test_rounded_special_positions(write: Write, symbol: str, digits: str, exact, count: int) -> None:
    path = write(HEXAGONAL, name(symbol), f"Mg1 Mg {digits} 0.5 1.0")
    if exact is None:
        with pytest.raises(DataError, match=r"the atom Mg1 and its image .* apart .* more digits"):
            Crystal.from_cif(path)
        return
    crystal = Crystal.from_cif(path)
    assert len(crystal.species) == count
    if not exact:
        residual = crystal.positions[:, 1] - 2 * crystal.positions[:, 0]
        assert np.abs(residual - np.round(residual)).min() < 1e-9
        return
    away = crystal.positions - exact
    assert np.abs(away - np.round(away)).max(1).min() < 1e-9


def test_alternatives_near_each_other_stay(write: Write) -> None:
    """A split position: of its images, only one is there at a time."""
    split = write(HEXAGONAL, name("P 63/m m c"), "Mg1 Mg 0.310 0.650 0.25 0.5 0.1667")
    assert len(Crystal.from_cif(split).species) == 12
    for shares, fine in ((("0.4", "0.6"), True), (("1.0", "1.0"), False)):
        atoms = [f"A1 Ga 0 0 0 0.5 {shares[0]}", f"A2 Al 0 0 0 0.5 {shares[1]}"]
        path = write(HEXAGONAL, name("P 1"), *atoms)
        if fine:
            assert Crystal.from_cif(path).species == ("Ga", "Al")
        else:
            with pytest.raises(DataError, match="the atom A1 and the atom A2 are 0 angstrom apart"):
                Crystal.from_cif(path)


def test_atoms_on_top_of_each_other_are_refused_wherever_they_come_from() -> None:
    with pytest.raises(ValueError, match=r"atom 0 \(Si\) and atom 1 \(Si\) are 0 angstrom apart .* 2: "):
        Crystal(CUBIC, ["Si", "Si"], [[0, 0, 0], [1, 0, 1]])
    assert len(Crystal(CUBIC, ["Si", "Si"], [[0, 0, 0], [0, 0, 0.1]]).species) == 2
    assert len(Crystal(CUBIC, ["Si", "Ge"], np.zeros((2, 3)), occupancy=0.5).species) == 2


@pytest.mark.parametrize(
    ("symmetry", "cell", "count"),
    [
        (name("F d -3 m :1"), CUBIC, 8),
        (name("F d -3 m S"), CUBIC, 8),
        (name("F d -3 m :2"), CUBIC, 16),
        (name("F d -3 m"), CUBIC, None),
        ("_space_group_IT_number 227", CUBIC, None),
        (name("F d -3 m") + "\n_cell_formula_units_Z 8\n_chemical_formula_sum Si", CUBIC, 8),
        ("_symmetry_space_group_name_Hall '-F 4vw 2vw 3'", CUBIC, 16),
        ("_space_group_IT_number 225", CUBIC, 4),
        ("_space_group.IT_number 225", CUBIC, 4),
        ("_symmetry_Int_Tables_number 194", HEXAGONAL, 2),
        (name("R -3 m"), HEXAGONAL, 3),
        (name("R -3 m"), (4.9, 4.9, 4.9, 57, 57, 57), 1),
        (name("P n n n"), (4, 5, 6, 90, 90, 90), None),
        (name("P n n m"), (4, 5, 6, 90, 90, 90), 2),
    ],
)
def test_groups_without_operations(write: Write, symmetry: str, cell: tuple[float, ...], count: int | None) -> None:
    path = write(cell, symmetry, "Si1 Si 0 0 0 0.5 1.0")
    if count is None:
        with pytest.raises(DataError, match=r"has two origins .* ':1' or|has two origins .* :2'"):
            Crystal.from_cif(path)
    else:
        assert len(Crystal.from_cif(path).species) == count


def test_a_number_alone_means_the_standard_setting_and_says_so(write: Write) -> None:
    with pytest.warns(StackalignWarning, match="space group 62 is taken in its standard setting P n m a"):
        Crystal.from_cif(write((4, 5, 6, 90, 90, 90), "_space_group_IT_number 62", "Si1 Si 0 0 0 0.5 1.0"))


@pytest.mark.parametrize(
    ("symmetry", "cell", "fine"),
    [
        (name("F m -3 m"), (4, 4, 4.1, 90, 90, 90), False),
        (name("F m -3 m"), (4, 4, 4.004, 90, 90, 90), True),  # strained, or rounded
        (name("P 63/m m c"), (4, 4, 6, 90, 90, 90), False),
        (name("P 1 21/c 1"), (4, 5, 6, 90, 90, 101), False),
        (name("P 1 21/c 1"), (4, 5, 6, 90, 101, 90), True),
        ("loop_\n_space_group_symop_operation_xyz\nx,y,z\n-y,x,z\n-x,-y,z\ny,-x,z", (4, 5, 6, 90, 90, 90), False),
    ],
)
def test_cells_that_the_group_forbids(write: Write, symmetry: str, cell: tuple[float, ...], fine: bool) -> None:
    path = write(cell, symmetry, "Si1 Si 0 0 0 0.5 1.0")
    if fine:
        Crystal.from_cif(path)
    else:
        with pytest.raises(DataError, match="does not have the symmetry of its space group"):
            Crystal.from_cif(path)


def test_all_spellings_of_displacements(write: Write) -> None:
    cell, u = (4.0, 5.0, 6.0, 90, 90, 90), np.array([0.01, 0.02, 0.03, 0.002, -0.001, 0.003])
    stars = 1 / np.array(cell[:3])
    scales = {"U": 1.0, "B": 8 * np.pi**2}
    scales["beta"] = 2 * np.pi**2 * np.outer(stars, stars)[(0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
    hkl = np.random.default_rng(0).integers(-5, 6, (20, 3))
    expected = Crystal(cell, ["Si"], [[0.1, 0.2, 0.3]], u_aniso=u[None]).structure_factors(hkl)
    for kind, scale in scales.items():
        for prefix in ("_atom_site_aniso_", "_atom_site_aniso."):
            tags = "\n".join(f"{prefix}{kind}_{ij}" for ij in ("11", "22", "33", "12", "13", "23"))
            row = "Si1 " + " ".join(f"{value:.8f}" for value in u * scale)
            more = f"loop_\n{prefix}label\n{tags}\n{row}"
            found = Crystal.from_cif(write(cell, name("P 1"), "Si1 Si 0.1 0.2 0.3", more=more, columns=columns))
            np.testing.assert_allclose(found.structure_factors(hkl), expected, rtol=1e-5, atol=1e-6)


def test_displacements_that_are_not_given_are_said(write: Write) -> None:
    atoms = ["Si1 Si 0 0 0 ? 1.0", "Si2 Si 0.5 0.5 0.5 0.4 1.0"]
    with pytest.warns(StackalignWarning, match="Si1 have no displacement parameter: B = 0 is taken"):
        crystal = Crystal.from_cif(write(CUBIC, name("P 1"), *atoms))
    np.testing.assert_allclose(crystal.b_iso, [0, 0.4])
    assert len(Crystal.from_cif(write(CUBIC, name("P 1"), atoms[1])).species) == 1


def test_ions_scatter_as_neutral_atoms_and_say_so(write: Write) -> None:
    atoms = ["Na1 Na+ 0 0 0 0.5 1.0", "Cl1 Cl1- 0.5 0.5 0.5 0.5 1.0"]
    with pytest.warns(StackalignWarning, match=r"Na\+, Cl1- are ions and scatter as neutral atoms"):
        assert Crystal.from_cif(write(CUBIC, name("F m -3 m"), *atoms)).species == ("Na",) * 4 + ("Cl",) * 4


def test_deuterium_scatters_as_hydrogen(write: Write) -> None:
    crystal = Crystal.from_cif(write(CUBIC, name("P 1"), "D1 D 0 0 0 0.5 1.0", "O1 O 0.2 0 0 0.5 1.0"))
    assert crystal.species == ("D", "O")
    g2 = np.linspace(0, 4, 5)
    np.testing.assert_array_equal(kirkland("D", g2), kirkland("H", g2))


def test_several_blocks(write: Write) -> None:
    first = write(CUBIC, name("P 1"), "Si1 Si 0 0 0 0.5 1.0")
    text = first.read_text()
    second = text.replace("data_x", "data_y").replace("Si1 Si", "Ge1 Ge")
    first.write_text("data_global\n_audit_creation_date 2020-01-01\n" + text)
    assert Crystal.from_cif(first).species == ("Si",)
    first.write_text(text + second)
    with pytest.warns(StackalignWarning, match="the block 'x' is read; there are also y"):
        assert Crystal.from_cif(first).species == ("Si",)
    assert Crystal.from_cif(first, block="y").species == ("Ge",)
    with pytest.raises(DataError, match="no block 'z': it has x, y"):
        Crystal.from_cif(first, block="z")


@pytest.mark.parametrize(
    ("type_symbol", "species"), [("Va", ("Al",)), ("VAC", ("Al",)), ("V", ("Al", "V")), ("V5+", ("Al", "V"))]
)
def test_vacancies_are_not_vanadium(tmp_path: Path, type_symbol: str, species: tuple[str, ...]) -> None:
    atoms = f"A1 Al 0 0 0 0.5 1\nB1 {type_symbol} 0.5 0.5 0.5 0.5 1\n"
    (tmp_path / "x.cif").write_text(SITES + atoms)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        crystal = Crystal.from_cif(tmp_path / "x.cif")
    assert crystal.species == species
    assert any("are vacancies" in str(item.message) for item in caught) == ("V" not in species)


@pytest.mark.parametrize("occupancy", ["1.2", "-0.1", "100"])
def test_occupancies_are_shares(tmp_path: Path, occupancy: str) -> None:
    (tmp_path / "x.cif").write_text(SITES + f"A1 Al 0 0 0 0.5 {occupancy}\n")
    with pytest.raises(DataError, match=r"occupancy of .* for A1: it is the share of the site"):
        Crystal.from_cif(tmp_path / "x.cif")


SITES = """data_x
_symmetry_space_group_name_H-M 'P m -3 m'
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_B_iso_or_equiv
_atom_site_occupancy
"""
