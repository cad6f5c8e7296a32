"""Azimuthal averages: against the definition, against analytic rings, and with bad input."""

import json

import numpy as np
import pytest

from stackalign import diffraction, ops
from stackalign.diffraction import synthetic as make
from stackalign.errors import StackalignWarning


def by_definition(image, center, mask=None, step=1.0):
    """Mean, variance and number of the pixels whose distance rounds to each ring, one ring at a time."""
    y, x = np.indices(image.shape)
    ring = np.rint(np.hypot(y - center[0], x - center[1]) / step).astype(int)
    used = np.isfinite(image) if mask is None else np.isfinite(image) & mask
    count = ring.max() + 1 if mask is None else ring[mask].max() + 1
    rings = [image[(ring == i) & used].astype(np.float64) for i in range(count)]
    nan = np.nan
    return np.array([[r.mean(), r.var(), r.size] if r.size else [nan, nan, 0] for r in rings]).T


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("step", [1.0, 2.5])
def test_rings_by_definition(rng, dtype, step) -> None:
    image = rng.poisson(20, (41, 57)).astype(dtype)
    mask = rng.random(image.shape) < 0.7
    mask[5:14, 20:40] = False
    if dtype.startswith("float"):
        image[::7, ::3] = np.nan
        image[3, 4] = np.inf
    center = (17.3, 30.8)
    for valid in (None, mask):
        found = diffraction.azimuthal_average(image, center, mask=valid, step=step, device="cpu")
        mean, variance, count = by_definition(image, center, valid, step)
        np.testing.assert_array_equal(found.radius, np.arange(len(mean)) * step)
        np.testing.assert_array_equal(found.weight, count)
        np.testing.assert_allclose(found.intensity, mean, rtol=1e-12)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-9, atol=1e-12)
        error = np.sqrt(variance / np.where(count > 1, count - 1, np.nan))
        np.testing.assert_allclose(found.standard_error, error, rtol=1e-9, atol=1e-12)


def ring_centroids(radius, intensity, truth, center_radii):
    """Largest error of the centroid above the background, within five widths of each ring."""
    errors = []
    for r in center_radii:
        near = np.abs(radius - r) <= 10
        a, b = (p[near] - p[near].min() for p in (intensity, truth))
        errors.append(abs((a * radius[near]).sum() / a.sum() - (b * radius[near]).sum() / b.sum()))
    return max(errors)


# Of a centre exactly between four pixels eight pixels always have the same distance, and rings that are made of whole
# pixels have few different ones: there the error of the nearest ring is 0.0063.
@pytest.mark.parametrize(
    ("center", "split"),
    [((255.5, 255.5), True), ((249.3, 262.7), True), ((249.3, 262.7), False), ((260.25, 251.6), False)],
)
def test_noise_free_powder(center, split) -> None:
    pattern = make.powder(512, center, noise=False)
    found = diffraction.azimuthal_average(pattern.image, center, mask=pattern.mask, split=split, device="cpu")
    inside = (found.radius >= 30) & (found.radius <= 230)
    truth = make.powder_profile(found.radius)
    relative = (found.intensity / truth - 1)[inside]
    assert np.sqrt(np.mean(relative**2)) <= 0.006
    assert ring_centroids(found.radius, found.intensity, truth, make.RADII[make.RADII < 220]) <= 0.02


def test_split_keeps_the_sum_and_is_smoother(rng) -> None:
    image = rng.poisson(50, (64, 64)).astype(np.float64)
    center = (31.2, 33.9)
    whole, parts = (diffraction.azimuthal_average(image, center, split=s, device="cpu") for s in (False, True))
    some = slice(0, 30)
    assert np.isclose(np.nansum(parts.weight), image.size, atol=64)  # the farthest pixels lose a part
    assert parts.intensity[some][2:].std() < whole.intensity[some][2:].std() * 1.05
    # Linear in the radius, and so exact for a cone, but for the rounding of fractions.
    y, x = np.indices(image.shape)
    cone = np.hypot(y - center[0], x - center[1])
    found = diffraction.azimuthal_average(cone, center, split=True, radial_bounds=(3, 30), device="cpu")
    np.testing.assert_allclose(found.intensity, found.radius, atol=0.12)


def test_angles_go_counter_clockwise_from_the_right_as_printed() -> None:
    image = np.zeros((41, 41))
    image[20, 30:] = 1.0  # right
    image[:11, 20] = 2.0  # up
    image[20, :11] = 3.0  # left
    image[30:, 20] = 4.0  # down
    found = diffraction.azimuthal_average(
        image, (20, 20), n_angles=8, angular_bounds=(-22.5, 337.5), radial_bounds=(10, 20), device="cpu"
    )
    np.testing.assert_allclose(found.angle, [0, 45, 90, 135, 180, 225, 270, 315])
    strongest = found.intensity.mean(axis=1)
    assert strongest[1::2].max() == 0
    assert np.argsort(strongest[::2]).tolist() == [0, 1, 2, 3]
    up = diffraction.azimuthal_average(image, (20, 20), angular_bounds=(80, 100), radial_bounds=(10, 20), device="cpu")
    assert np.nanmax(up.intensity) > 0
    assert set(np.unique(up.intensity * up.weight)) <= {2.0}


def test_bounds_wrap(rng) -> None:
    image = rng.poisson(20, (51, 49))
    center = (25.2, 24.1)
    y, x = np.indices(image.shape)
    angle = np.rad2deg(np.arctan2(center[0] - y, x - center[1])) % 360

    def same(bounds, selected):
        found = diffraction.azimuthal_average(image, center, angular_bounds=bounds, device="cpu")
        mean, _, count = by_definition(image, center, selected)
        np.testing.assert_array_equal(found.weight, count)
        np.testing.assert_allclose(found.intensity, mean, rtol=1e-12)

    across = (angle >= 340) | (angle <= 20)
    for bounds in ((340, 20), (-20, 20), (700, 380)):
        same(bounds, across)
    same((20, 340), (angle >= 20) & (angle <= 340))
    same((0, 360), np.ones(image.shape, bool))
    same((90, 45), ~((angle > 45) & (angle < 90)))


def test_polar_image_adds_up_to_the_profile(rng) -> None:
    images = rng.poisson(20, (3, 60, 70)).astype(np.float32)
    images[1, 10:20] = np.nan
    mask = rng.random(images.shape) < 0.8
    for bounds in (None, (300, 45)):
        for split in (False, True):
            options = {"mask": mask, "angular_bounds": bounds, "split": split, "device": "cpu"}
            profile = diffraction.azimuthal_average(images, (30.3, 33.1), **options)
            polar = diffraction.azimuthal_average(images, (30.3, 33.1), n_angles=12, **options)
            assert polar.intensity.shape == (3, 12, profile.radius.size)
            assert polar.angle.shape == (12,)
            weight = polar.weight.sum(axis=1)
            np.testing.assert_allclose(weight, profile.weight, rtol=1e-12)
            total = np.nansum(polar.weight * polar.intensity, axis=1)
            np.testing.assert_allclose(total, np.nan_to_num(profile.intensity) * weight, rtol=1e-6, atol=1e-3)


def test_ellipse_straightens_rings() -> None:
    y, x = np.indices((301, 301)) - 150.0
    turn = np.deg2rad(25.0)  # the longer axis, counter-clockwise as printed
    along, across = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    ratio = 1.06
    image = np.exp(-((np.hypot(along / ratio**0.5, across * ratio**0.5) - 90) ** 2) / (2 * 1.5**2))
    straight = diffraction.azimuthal_average(image, (150, 150), ellipse=(ratio, 25.0), device="cpu")
    assert straight.intensity.argmax() == 90
    assert straight.intensity.max() > 0.9
    for wrong in (None, (ratio, -25.0), (ratio, 115.0)):
        assert diffraction.azimuthal_average(image, (150, 150), ellipse=wrong, device="cpu").intensity.max() < 0.75


def test_stacks_and_centres_of_their_own(rng) -> None:
    images = rng.poisson(30, (4, 40, 44)).astype(np.uint16)
    masks = rng.random(images.shape) < 0.9
    centers = rng.uniform(15, 25, (4, 2))
    centers[3] = centers[0]
    together = diffraction.azimuthal_average(images, centers, mask=masks, device="cpu")
    longest = together.radius.size
    for k in range(4):
        alone = diffraction.azimuthal_average(images[k], centers[k], mask=masks[k], device="cpu")
        size = alone.radius.size
        assert size <= longest
        np.testing.assert_array_equal(together.intensity[k, :size], alone.intensity)
        assert np.isnan(together.intensity[k, size:]).all()
        assert (together.weight[k, size:] == 0).all()
    shared = diffraction.azimuthal_average(images, centers[0], mask=masks[0], device="cpu")
    one = diffraction.azimuthal_average(images[2], centers[0], mask=masks[0], device="cpu")
    np.testing.assert_array_equal(shared.intensity[2], one.intensity)
    np.testing.assert_array_equal(shared.variance[2], one.variance)


def test_same_bits_for_any_number_of_workers(rng) -> None:
    images = rng.normal(100, 10, (3, 400, 400)).astype(np.float32)
    geometry = ops.azimuthal_geometry((400, 400), (201.3, 188.8), split=True, n_angles=5)
    first = ops.azimuthal_average(images, geometry, workers=1)
    for workers in (2, 5):
        again = ops.azimuthal_average(images, geometry, workers=workers)
        for name in ("mean", "variance", "weight"):
            np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.mean.shape == (3, 5, geometry.radius.size)


def test_geometry_is_kept_for_the_next_call(rng, monkeypatch) -> None:
    from stackalign.ops import azimuthal

    image, mask = rng.poisson(9, (30, 30)), rng.random((30, 30)) < 0.5
    first = diffraction.azimuthal_average(image, (14.125, 15), mask=mask, device="cpu")
    monkeypatch.setattr(azimuthal, "azimuthal_geometry", None)  # would fail
    again = diffraction.azimuthal_average(image, (14.125, 15), mask=mask.copy(), device="cpu")
    np.testing.assert_array_equal(first.intensity, again.intensity)
    with pytest.raises(TypeError):
        diffraction.azimuthal_average(image, (14.125, 15), mask=~mask, device="cpu")


def test_real_rings_behind_a_beam_block(chromium) -> None:
    first, _, mask = chromium
    found = diffraction.azimuthal_average(first, (974.1, 1108.2), mask=mask, device="cpu")
    assert np.isfinite(found.intensity[found.weight > 0]).all()
    smooth = np.convolve(found.intensity[300:700], np.ones(9) / 9, mode="valid")
    strongest = 304 + int(np.argmax(smooth - np.linspace(smooth[0], smooth[-1], smooth.size)))
    away = diffraction.azimuthal_average(first, (994.1, 1108.2), mask=mask, device="cpu")
    assert found.intensity[strongest] > away.intensity[strongest - 30 : strongest + 30].max()


def test_result_is_json(rng) -> None:
    found = diffraction.azimuthal_average(rng.poisson(9, (20, 20)), (9, 9), device="cpu")
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["radius"] == found.radius.tolist()
    assert written["provenance"]["parameters"]["center"] == [9, 9]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"angular_bounds": (30, 30)}, ValueError, "two different angles"),
        ({"angular_bounds": (30, np.nan)}, ValueError, "two different angles"),
        ({"radial_bounds": (9, 4)}, ValueError, "0 <= smallest < largest"),
        ({"radial_bounds": (3.2, 3.4)}, ValueError, "no multiple of the step"),
        ({"step": 0}, ValueError, "step must be a positive"),
        ({"n_angles": 0}, ValueError, "n_angles must be"),
        ({"n_angles": 1.5}, ValueError, "n_angles must be"),
        ({"ellipse": (0.9, 10)}, ValueError, "longer axis"),
        ({"center": (1, 2, 3)}, ValueError, "center must be"),
        ({"center": (np.nan, 3)}, ValueError, "center must be"),
        ({"mask": np.ones((5, 5), bool)}, ValueError, "mask must have the shape"),
        ({"mask": np.ones((20, 20))}, TypeError, "mask must be boolean"),
        ({"mask": np.zeros((20, 20), bool)}, ValueError, "no valid pixel"),
        ({"images": np.ones((20, 20), complex)}, TypeError, "complex"),
        ({"images": np.ones(20)}, ValueError, "must have the shape"),
        ({"step": 1e-9}, ValueError, "more than"),
    ],
)
def test_bad_input_is_refused(change, error, message) -> None:
    arguments = {"images": np.ones((20, 20)), "center": (10, 10), "device": "cpu"} | change
    with pytest.raises(error, match=message):
        diffraction.azimuthal_average(**arguments)


def test_mask_of_the_other_polarity_is_noticed() -> None:
    mask = np.zeros((40, 40), bool)
    mask[3:6, 3:6] = True
    with pytest.warns(StackalignWarning, match="True means valid"):
        diffraction.azimuthal_average(np.ones((40, 40)), (20, 20), mask=mask, device="cpu")


def test_small_and_constant_images() -> None:
    found = diffraction.azimuthal_average(np.full((3, 3), 7, np.uint8), (1, 1), device="cpu")
    np.testing.assert_array_equal(found.intensity, [7, 7])
    np.testing.assert_array_equal(found.weight, [1, 8])
    np.testing.assert_array_equal(found.variance, [0, 0])
    empty = diffraction.azimuthal_average(np.full((5, 5), np.nan), (2, 2), device="cpu")
    assert np.isnan(empty.intensity).all()
