"""A measured crystal: large-angle patterns of GaAs near [-1 1 0] at 200 kV, whose orientation nobody noted.

Published with the Felix program (WarwickMicroscopy); no thickness is given. 960 to 1015 angstrom is what fits with all
choices of beams, step size and region have in common.
"""

import numpy as np
import pytest

from refine.crystals import gallium_arsenide
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    DiffractionData,
    DisplayFrame,
    find_orientation,
)

HKL = ((0, 0, 0), (0, 0, 2), (0, 0, -2), (1, 1, 1), (1, 1, -1), (2, 2, 0))
BIN = 4
BEAM = Beam(200, (-1, 1, 0), (-1, -1, 0))


@pytest.fixture(scope="module")
def measured(shared_data):
    """Six disks of 84 x 84 pixels; what an eye on the preview can say of the geometry."""
    file = np.load(shared_data / "cbed" / "felix_gaas_dlacbed" / "gaas_m110_200kV_dlacbed.npz")
    images = file["images_x4"].astype(np.float32)
    images = images.reshape(len(images), 84, BIN, 84, BIN).mean((2, 4))
    middle = (167.5 + 0.5) / BIN - 0.5
    frame = DisplayFrame.for_beam(gallium_arsenide(), BEAM, 42.5 / BIN, (middle, middle))
    return DiffractionData.from_larbed(images, file["hkl"].tolist(), frame).select(HKL)


@pytest.fixture(scope="module")
def refiner(measured):
    few = BeamSelection(strong=0.2, weak=0.02, laue_zones=0)
    crystal = gallium_arsenide()
    simulator = BlochSimulator(crystal, BEAM, HKL, few, absorption="perturbative", absorptive_ratio=0.078)
    return CoarseRefine(
        simulator, measured, ROI.rectangle(25, 25), metric="per_disk", grid=2, fine_grid=2, search_radius=1.7
    )


@pytest.fixture(scope="module")
def trials(refiner):
    return find_orientation(refiner, (900, 1100), fine_grid=2.0)


def test_the_right_one_of_eight_orientations_is_found(trials) -> None:
    assert len({(trial.flip, trial.rotation) for trial in trials}) == 8
    first, second = trials[:2]
    assert (first.flip, first.rotation) == (True, 90)  # the stored images are transposed
    assert first.score > 0.9
    assert first.score > second.score + 0.3


def test_the_grid_that_orientations_share_is_simulated_once(refiner, measured, monkeypatch) -> None:
    """And results do not depend on it: the simulator of a trial's refiner is the caller's."""
    calls = []
    prepare = BlochSimulator.prepare

    def counted(self, parameters, tilts):
        calls.append(tilts.tobytes())
        return prepare(self, parameters, tilts)

    monkeypatch.setattr(BlochSimulator, "prepare", counted)
    small = refiner.with_(roi=ROI.rectangle(16, 16), search_radius=1.2, grid=4)
    trials = find_orientation(small, (960, 1000), fine_grid=4.0)
    assert calls.count(calls[0]) == 1
    best = trials[0].result.apply()
    assert best.simulator.crystal is refiner.simulator.crystal
    assert best.simulator.beams is None
    alone = small.with_(data=measured.with_frame(flip=True, rotation=90), fine_grid=4.0, beam_check=1)
    found = alone.optimize_orientation_thickness((960, 1000))
    assert found.values == next(t for t in trials if t.flip and t.rotation == 90).result.values


def test_thickness_and_correlation_of_all_disks(trials, refiner) -> None:
    result = trials[0].result
    # Correlations of 0.9 are not what the noise of these images allows: few beams, one ratio for absorption.
    assert result.flags == ("misfit",)
    assert 3 < result.goodness < 20
    assert 960 < result["thickness"] < 1015
    assert np.mean(list(result.disk_scores.values())) >= 0.9
    assert min(result.disk_scores.values()) > 0.8
    # The middle pixel is on the zone axis, within a third of a milliradian.
    assert np.hypot(*result.tilt_mrad) < 0.3


def test_masking_a_tenth_of_the_pixels_changes_nothing(trials, measured, refiner) -> None:
    known = trials[0].result
    mask = np.random.default_rng(0).random(measured.images.shape[1:]) > 0.1
    data = DiffractionData.from_larbed(measured.images, HKL, known.frame, mask=mask)
    found = refiner.with_(data=data).optimize_orientation_thickness((900, 1100))
    assert found["thickness"] == pytest.approx(known["thickness"], rel=3e-3)
    assert found["thickness"] != known["thickness"]


def test_step_size_and_thickness_together(trials, refiner) -> None:
    found = refiner.with_result(trials[0].result).optimize({"thickness": (900, 1100), "gl": (10.0, 11.2)})
    # The result has more beams than the trial, which by themselves change the score by some 1e-4 either way.
    assert found.score > trials[0].score - 5e-4
    assert found["gl"] * BIN == pytest.approx(43.2, abs=0.6)
    assert 960 < found["thickness"] < 1015
