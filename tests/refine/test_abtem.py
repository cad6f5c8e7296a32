"""Against abTEM: a table that it computed, and the adapter for those who have installed it, with a double of abTEM."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from refine.crystals import silicon, triclinic
from stackalign.errors import MissingDependencyError
from stackalign.refine import AbtemSimulator, Beam, BeamList, BlochSimulator, Simulator

TABLE = json.loads((Path(__file__).parent / "abtem_si110.json").read_text())
NONE = np.zeros((0, 3), dtype=np.int64)
ZONE = Beam(300, (1, 1, 0), (0, 0, 2))


def difference(pattern: dict, *, turn_foil: bool) -> float:
    """Largest difference of intensities; abTEM's surface is across the beam, ours across the zone axis or the beam."""
    x, y = np.array(pattern["tilt_mrad"]) * 1e-3
    beam, tilts = ZONE, ZONE.tilts_from_mrad([pattern["tilt_mrad"]])
    if turn_foil:  # the zone axis of a crystal that is turned instead of the beam
        axis = ZONE.frame(silicon()).T @ [-x, -y, np.sqrt(1 - x * x - y * y)]
        beam, tilts = Beam(300, tuple(axis), (0, 0, 2)), np.zeros((1, 2))
    listed = BeamList(np.array(pattern["hkl"]), NONE, NONE)
    found = BlochSimulator(silicon(), beam, beams=listed, refraction=False).prepare({}, tilts)
    expected = np.array(pattern["intensities"])
    return float(np.abs(found.intensities(TABLE["thicknesses_angstrom"])[:, :, 0] - expected).max())


def test_intensities_of_abtem_on_the_zone_axis() -> None:
    assert difference(TABLE["patterns"][0], turn_foil=False) < 1e-6


@pytest.mark.parametrize("pattern", TABLE["patterns"][1:], ids=lambda pattern: str(pattern["tilt_mrad"]))
def test_intensities_of_abtem_at_tilts(pattern: dict) -> None:
    """Up to 15 mrad; what is left is the inclination of the surface, and that abTEM's sum drifts from 1 by 1e-4."""
    assert difference(pattern, turn_foil=False) < 4e-4
    assert difference(pattern, turn_foil=True) < 1e-4


def test_abtem_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "abtem", None)
    monkeypatch.setitem(sys.modules, "abtem.bloch", None)
    with pytest.raises(MissingDependencyError, match="pip install abtem"):
        AbtemSimulator(silicon(), ZONE, ((0, 0, 0),)).prepare({}, np.zeros((1, 2)))


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for abTEM that notes what it is told; its intensities tell where the crystal points."""
    seen = SimpleNamespace(structure={}, waves=[], precision=[])

    class BlochWaves:
        def __init__(self, structure_factor, **options) -> None:
            seen.waves.append(options)
            self.hkl = np.array([[0, 0, 0], [0, 0, 2]])
            self.matrix = options["orientation_matrix"]

        def calculate_diffraction_patterns(self, thicknesses, lazy):
            assert not lazy
            return SimpleNamespace(array=np.stack([thicknesses, thicknesses + self.matrix[2, 0]], 1))

    class Setting:
        def __init__(self, values) -> None:
            seen.precision.append(values["precision"])

        def __enter__(self) -> None: ...

        def __exit__(self, *_) -> None: ...

    def structure_factor(atoms, **options):
        seen.structure = {"atoms": atoms} | options
        return SimpleNamespace(build=lambda lazy: seen.structure)

    modules = {
        "abtem": {"config": SimpleNamespace(set=Setting)},
        "abtem.bloch": {"BlochWaves": BlochWaves, "StructureFactor": structure_factor},
        "ase": {"Atoms": lambda symbols, **options: {"symbols": symbols} | options},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_abtem_gets_the_crystal_in_its_units(double: SimpleNamespace) -> None:
    simulator = AbtemSimulator(silicon(), ZONE, ((0, 0, 2), (0, 0, 0), (4, -4, 0)), sg_max=0.03)
    assert isinstance(simulator, Simulator)
    tilts = ZONE.tilts_from_mrad([[0, 0], [12, 9]])
    found = simulator.prepare({"kv": 200.0, "b_iso": 0.5}, tilts).intensities([100, 300])
    assert found.shape == (2, 3, 2)
    np.testing.assert_allclose(found[:, 1, 0], [100, 300])
    assert (found[:, 2] == 0).all()  # abTEM left it out
    np.testing.assert_allclose(double.structure["thermal_sigma"], np.sqrt(0.5 / (8 * np.pi**2)))
    assert double.structure["parametrization"] == "kirkland"
    assert double.structure["atoms"]["symbols"] == ["Si"] * 8
    assert double.waves[0]["energy"] == 200e3
    assert double.waves[0]["sg_max"] == 0.03
    assert double.precision == ["float64", "float64"]


def test_abtem_gets_the_beam_along_its_z(double: SimpleNamespace) -> None:
    """The electrons travel along -[110] at no tilt; (002) is x; a tilted beam is turned onto z."""
    prepared = AbtemSimulator(silicon(), ZONE, ((0, 0, 0),)).prepare({}, ZONE.tilts_from_mrad([[0, 0], [12, 9]]))
    for tilt in prepared.tilts:
        matrix = prepared.orientation(tilt)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        x, y = tilt / ZONE.wavenumber
        along = ZONE.frame(silicon()).T @ [x, y, -np.sqrt(1 - x * x - y * y)]
        np.testing.assert_allclose(matrix @ along, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(prepared.orientation(np.zeros(2)) @ [0, 0, 1], [1, 0, 0], atol=1e-12)


def test_abtem_has_limits(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="isotropic Debye-Waller factors alone"):
        AbtemSimulator(triclinic(rng), ZONE, ((0, 0, 0),))
    with pytest.raises(ValueError, match="g_max must be above 0"):
        AbtemSimulator(silicon(), ZONE, ((0, 0, 0),), g_max=0)
    simulator = AbtemSimulator(silicon(), ZONE, ((0, 0, 0),))
    assert simulator.requires("kv") == {"beams", "decompositions"}
    assert simulator.requires("b_iso.Si") == {"beams", "potentials", "decompositions"}
    with pytest.raises(ValueError, match="unknown parameter"):
        simulator.requires("gl")
