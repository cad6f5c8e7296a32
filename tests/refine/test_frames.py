"""Maps between pixels and tilts there and back, regions, and what is cut out of patterns."""

import numpy as np
import pytest

from refine.crystals import silicon
from stackalign.refine import ROI, Beam, DiffractionData, DisplayFrame

BEAM = Beam(200, (1, 1, 0), (0, 0, 4))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation", [0.0, 90.0, 37.3, -120.0])
def test_maps_there_and_back(rng: np.random.Generator, flip: bool, rotation: float) -> None:
    frame = DisplayFrame(0.52, 38.85, (10.5, 20.25), rotation=rotation, flip=flip, tilt=(0.1, -0.03))
    points = rng.uniform(-50, 50, (4, 7, 2))
    np.testing.assert_allclose(frame.to_experiment(frame.to_display(points)), points, atol=1e-12)
    np.testing.assert_allclose(frame.to_display(frame.to_experiment(points)), points, atol=1e-12)
    np.testing.assert_allclose(frame.to_pixel(frame.to_tilt(points)), points, atol=1e-11)
    lengths = np.linalg.norm(frame.to_display(points) - frame.to_display(points[:1]), axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(points - points[:1], axis=-1), atol=1e-11)


def test_directions_by_picture() -> None:
    """Turned by 90 degrees, what was at the bottom is at the right; a flip swaps left and right before that."""
    frame = DisplayFrame(0.5, 50, (0, 0), rotation=90)
    np.testing.assert_allclose(frame.to_display((1, 0)), (0, 1), atol=1e-15)
    np.testing.assert_allclose(frame.to_display((0, 1)), (-1, 0), atol=1e-15)
    np.testing.assert_allclose(frame.with_(flip=True).to_display((0, 1)), (1, 0), atol=1e-15)
    np.testing.assert_allclose(DisplayFrame(0.5, 50, (0, 0)).to_tilt((-10, 20)), (0.2, 0.1))  # rows go down, y goes up


def test_the_vector_of_the_beam_is_gl_pixels_long() -> None:
    frame = DisplayFrame.for_beam(silicon(), BEAM, 62.0, (0, 0))
    assert frame.gx == pytest.approx(4 / 5.431)
    np.testing.assert_allclose(frame.to_pixel((4 / 5.431, 0)), (0, 62))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gl": 0}, "gl, the length of the x-axis vector in pixels, must be above 0, got 0"),
        ({"gl": -3.0}, "above 0"),
        ({"gx": np.nan}, "gx, the length"),
        ({"center": (1, 2, 3)}, "center must be two numbers"),
        ({"rotation": np.inf}, "rotation must be"),
    ],
)
def test_bad_frames(change: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DisplayFrame(**{"gx": 0.5, "gl": 40, "center": (0, 0)} | change)


def test_regions() -> None:
    one = ROI.rectangle(10, 20, center=(5, 0))
    both = one | ROI(((-10, -3, -8, 3),))
    assert both.bounds == (-10, -10, 10, 10)
    np.testing.assert_array_equal(both.contains([[5, 9], [-9, 0], [-9, 5], [-5, 0], [0, -10]]), [1, 1, 0, 0, 1])
    with pytest.raises(ValueError, match="top above its bottom"):
        ROI(((3, 0, 1, 5),))
    with pytest.raises(ValueError, match="list of"):
        ROI(())


def test_disks_are_cut_where_the_reflections_are() -> None:
    """A pattern with a spot at K_t in each disk: the same pixel of the display everywhere."""
    crystal, hkl = silicon(), [(0, 0, 0), (0, 0, 4), (-1, 1, 1), (2, -2, 0)]
    frame = DisplayFrame.for_beam(crystal, BEAM, 80.0, (150.3, 160.8), rotation=12.0, flip=True)
    g = (crystal.g_vectors(hkl) @ BEAM.frame(crystal).T)[:, :2]
    spot = np.array([0.02, 0.05])
    image = np.zeros((320, 330))
    middles = frame.to_experiment(frame.to_pixel(spot + g))
    rows, columns = np.indices(image.shape)
    for y, x in middles:
        image += np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / 2.0**2)
    before = image.copy()
    data = DiffractionData.from_cbed(image, hkl, frame, crystal, BEAM, radius=18)
    np.testing.assert_array_equal(image, before)
    assert data.images.shape[0] == 4
    assert not data.images.flags.writeable
    for d, window in enumerate(data.images):
        points = np.indices(window.shape).reshape(2, -1).T
        shown = data.display_points(d, points)
        np.testing.assert_array_equal(data.mask[d].ravel(), np.hypot(*shown.T) <= 18)
        weight = window.ravel()[:, None] * data.mask[d].ravel()[:, None]
        np.testing.assert_allclose((shown * weight).sum(0) / weight.sum(), frame.to_pixel(spot), atol=0.02)
        node = np.array([3.0, -2.0])
        pulled = data.pull_matrix(d, 2.5 * frame.step, (1, 4)) @ (*node, 1)
        np.testing.assert_allclose(data.display_points(d, pulled), 2.5 * (node + np.array([1, 4])), atol=1e-9)


def test_bad_data() -> None:
    frame = DisplayFrame(0.5, 40, (10, 10))
    images = np.ones((2, 20, 20))
    two = [(0, 0, 0), (1, -1, 1)]
    with pytest.raises(ValueError, match="one image per reflection, got 2 for 1"):
        DiffractionData.from_larbed(images, two[:1], frame)
    with pytest.raises(ValueError, match="mask must be boolean"):
        DiffractionData.from_larbed(images, two, frame, mask=np.ones((20, 20)))
    with pytest.raises(ValueError, match=r"\[\(1, -1, 1\)\] have no valid pixel"):
        DiffractionData.from_larbed(np.stack([images[0], images[0] * np.nan]), two, frame)
    with pytest.raises(ValueError, match="lie outside of the pattern"):
        DiffractionData.from_cbed(images[0], [(0, 0, 4)], frame.with_(gl=60), silicon(), BEAM, radius=3)
    with pytest.raises(ValueError, match="radius must be"):
        DiffractionData.from_cbed(images[0], [(0, 0, 0)], frame, silicon(), BEAM, radius=0)
    with pytest.raises(ValueError, match="were not measured"):
        DiffractionData.from_larbed(images, two, frame).select([(2, 2, 0)])
    valid = DiffractionData.from_larbed(images, two, frame, variance=np.where(np.eye(20), 0.0, 1.0))
    np.testing.assert_array_equal(valid.mask[0], ~np.eye(20, dtype=bool))
    assert valid.select([(1, -1, 1)]).reflections == ((1, -1, 1),)
