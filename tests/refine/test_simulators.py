"""Precomputed images and plain functions as simulators."""

import numpy as np
import pytest

from refine.crystals import silicon
from stackalign.refine import Beam, BeamSelection, BlochSimulator, CallableSimulator, Simulator, StackSimulator

pytestmark = pytest.mark.filterwarnings("ignore:.*beams are few:stackalign.errors.StackalignWarning")
"""Small matrices: what is tested here does not depend on how many beams there are."""

REFLECTIONS = ((0, 0, 0), (0, 0, 2))


def bilinear(rng: np.random.Generator):
    """A function that linear interpolation reproduces, and images of it."""
    x, y, t = np.linspace(-0.2, 0.3, 6), np.linspace(-0.1, 0.1, 5), np.array([100.0, 150.0, 300.0])
    c = rng.uniform(size=(2, 4))

    def value(tx, ty, thickness):
        return np.stack([(a + b * tx + d * ty + e * tx * ty) * thickness for a, b, d, e in c], 1)

    images = value(x[None, None], y[None, :, None], t[:, None, None])
    return value, StackSimulator(images, t, x, y, REFLECTIONS)


def test_stacks_are_interpolated(rng: np.random.Generator) -> None:
    value, simulator = bilinear(rng)
    assert isinstance(simulator, Simulator)
    tilts = rng.uniform([-0.2, -0.1], [0.3, 0.1], (30, 2))
    thicknesses = np.array([100, 120, 150, 222, 300.0])
    found = simulator.prepare({}, tilts).intensities(thicknesses)
    np.testing.assert_allclose(found, value(tilts[:, 0], tilts[:, 1], thicknesses[:, None]), rtol=1e-12)
    one = simulator.prepare({}, tilts).intensities([120], [(0, 0, 2)])
    np.testing.assert_array_equal(one[0, 0], found[1, 1])
    corner = simulator.prepare({}, np.array([[0.3, 0.1], [-0.2, -0.1]])).intensities([100])
    np.testing.assert_allclose(corner[0], simulator.images[0][:, [-1, 0], [-1, 0]])


def test_stacks_of_bloch_waves_give_the_same_on_their_grid() -> None:
    beam = Beam(200, (1, 1, 0), (0, 0, 2))
    bloch = BlochSimulator(silicon(), beam, REFLECTIONS, BeamSelection(strong=0.3, weak=0.1, laue_zones=0))
    x, y = np.linspace(-0.1, 0.1, 5), np.linspace(-0.05, 0.05, 3)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    thicknesses = [200.0, 300.0]
    images = bloch.prepare({}, grid).intensities(thicknesses)
    stack = StackSimulator(images.reshape(2, 2, 3, 5), thicknesses, x, y, REFLECTIONS)
    np.testing.assert_allclose(stack.prepare({}, grid).intensities(thicknesses), images, atol=1e-12)


def test_stacks_refuse_what_they_do_not_have(rng: np.random.Generator) -> None:
    _, simulator = bilinear(rng)
    with pytest.raises(ValueError, match="cannot vary 'kv'"):
        simulator.prepare({"kv": 200}, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="cannot vary 'kv'"):
        simulator.requires("kv")
    with pytest.raises(ValueError, match="outside of the images"):
        simulator.prepare({}, np.array([[0.31, 0]]))
    prepared = simulator.prepare({}, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="100 to 300 angstrom"):
        prepared.intensities([400])
    with pytest.raises(ValueError, match="were not simulated"):
        prepared.intensities([100], [(1, 1, 1)])
    parts = (simulator.images, simulator.thicknesses_angstrom, simulator.x, simulator.y)
    with pytest.raises(ValueError, match="images must be"):
        StackSimulator(parts[0][:, :, 1:], *parts[1:], REFLECTIONS)
    with pytest.raises(ValueError, match="increasing"):
        StackSimulator(parts[0], parts[1][::-1], *parts[2:], REFLECTIONS)
    with pytest.raises(ValueError, match="evenly spaced"):
        StackSimulator(*parts[:2], parts[2] ** 3, parts[3], REFLECTIONS)


def test_functions_are_simulators() -> None:
    def function(parameters, tilts, thicknesses, reflections):
        assert set(reflections) <= set(REFLECTIONS)
        shape = (len(thicknesses), len(reflections), len(tilts))
        return np.broadcast_to(parameters["kv"] * thicknesses[:, None, None] + tilts[:, 0], shape)

    needs = {"b": frozenset({"potentials"})}
    simulator = CallableSimulator(function, REFLECTIONS, {"kv": 2.0, "b": 1.0}, needs)
    assert isinstance(simulator, Simulator)
    assert simulator.requires("b") == {"potentials"}
    assert "decompositions" in simulator.requires("kv")
    found = simulator.prepare({"kv": 3.0}, np.array([[0.5, 0], [0.25, 0]])).intensities([10, 20], [(0, 0, 2)])
    np.testing.assert_allclose(found[:, 0], [[30.5, 30.25], [60.5, 60.25]])
    with pytest.raises(ValueError, match="it can vary: kv, b"):
        simulator.prepare({"a": 1.0}, np.zeros((1, 2)))
    wrong = CallableSimulator(lambda *_: np.zeros(3), REFLECTIONS)
    with pytest.raises(ValueError, match=r"\(1, 2, 4\), got \(3,\)"):
        wrong.prepare({}, np.zeros((4, 2))).intensities([10])
