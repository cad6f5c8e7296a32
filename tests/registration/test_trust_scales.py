"""What the residual, scales and all parameters say against a result where noise hides it from single pixels."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

import stackalign as sa

SHAPE = (150, 170)


def smooth_scene(seed: int, size: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scene = gaussian_filter(rng.normal(size=(SHAPE[0] + 60, SHAPE[1] + 60)), size, mode="wrap")
    return (scene - scene.mean()) / scene.std()


def sampled(scene: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """The scene moved by (dy, dx), by a spline of its own."""
    y, x = np.indices(SHAPE).astype(float)
    coefficients = spline_filter(scene, 5, mode="grid-wrap")
    return map_coordinates(coefficients, (y + 30 - dy, x + 30 - dx), order=5, mode="grid-wrap", prefilter=False)


def noisy(images, noise: float, seed: int):
    rng = np.random.default_rng(seed)
    return [image + noise * rng.normal(size=image.shape) for image in images]


def test_error_bars_hold_on_a_smooth_scene_with_a_scale() -> None:
    """Shift and scale are hard to tell apart there, and noise in the slopes makes them seem easy to."""
    pulls = []
    for seed in range(12):
        scene = smooth_scene(seed, 14.0)
        images = noisy([sampled(scene, 0.0, 0.0), sampled(scene, 1.3, -0.8)], 0.2, 100 + seed)
        result = sa.register(*images, model="affine")
        pulls.append((result.parameters - (-1.3, 0.8, 1.0, 1.0, 0.0, 0.0)) / result.sigma)
    pull = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert np.all((pull > 0.35) & (pull < 1.7)), pull


def test_brightness_that_rises_to_one_side_does_not_pull_noisy_images() -> None:
    ramp = 2.5 * np.linspace(-1, 1, SHAPE[1] + 60) ** 3
    errors, sigmas = [], []
    for seed in range(12):
        scene = smooth_scene(50 + seed, 8.0) * 0.7 + ramp
        images = [sampled(scene, 0.0, 0.0), sampled(scene, 0.6, 1.7)]
        result = sa.register(*noisy(images, 0.4, 300 + seed))
        errors.append(result["dx"] + 1.7)
        sigmas.append(result.sigma[1])
    assert abs(np.mean(errors)) < 3.0 * np.median(sigmas) / np.sqrt(len(errors))


@pytest.mark.parametrize("still", [True, False])
def test_light_that_stands_still_is_a_misfit_below_the_noise_of_pixels(still) -> None:
    scene, light = smooth_scene(3, 5.0), 2.0 * smooth_scene(4, 11.0)
    first, second = sampled(scene, 0.0, 0.0), sampled(scene, 2.1, 1.4)
    lights = sampled(light, 0.0, 0.0), sampled(light, 0.0, 0.0) if still else sampled(light, 2.1, 1.4)
    result = sa.register(*noisy([first + lights[0], second + lights[1]], 0.6, 5))
    assert ("misfit" in result.flags) == still, result.remarks
    assert result.ok != still


def test_fine_structure_that_stands_still_disagrees_with_the_coarse() -> None:
    scene, pattern = smooth_scene(7, 9.0), 0.25 * smooth_scene(8, 1.3)
    still = sampled(pattern, 0.0, 0.0)
    images = [sampled(scene, 0.0, 0.0) + still, sampled(scene, 1.2, 0.9) + still]
    result = sa.register(*noisy(images, 0.02, 9))
    assert {"inconsistent", "misfit"} & set(result.flags), result.remarks


def test_vignetting_is_no_misfit() -> None:
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    scene = smooth_scene(11, 4.0)
    images = noisy([sampled(scene, 0.0, 0.0), sampled(scene, -2.4, 3.1)], 0.1, 12)
    result = sa.register(images[0], (images[1] + 4) * (1 - 0.1 * (y**2 + x**2)))
    assert result.ok, result.remarks
    np.testing.assert_allclose(result.parameters, (2.4, -3.1), atol=0.05)


def test_displacements_say_where_regions_would_move_on() -> None:
    scene = smooth_scene(15, 3.0)
    moving = np.where(np.arange(SHAPE[1]) < 110, sampled(scene, 1.0, 0.5), sampled(scene, 1.0, 1.1))
    result = sa.register(*noisy([sampled(scene, 0.0, 0.0), moving], 0.02, 16))
    y, x, dy, dx, sigma_dy, sigma_dx = result.displacements.T
    inside = (x > 15) & (x < 150) & (y > 15) & (y < 130)
    left, right = inside & (x < 90), inside & (x > 130)
    # The content of the moving image is to go back to where the reference has it.
    assert np.median(result["dx"] + dx[left]) == pytest.approx(-0.5, abs=0.03)
    assert np.median(result["dx"] + dx[right]) == pytest.approx(-1.1, abs=0.03)
    assert np.median(dy[inside]) == pytest.approx(-1.0 - result["dy"], abs=0.03)
    assert np.all((sigma_dy > 0) & (sigma_dx > 0))
    record = result.to_dict()["displacements"]
    assert np.shape(record) == (len(y), 6)


@pytest.mark.parametrize("still", [True, False])
def test_one_region_that_carries_the_answer_is_named(still) -> None:
    scene = smooth_scene(17, 3.0)
    y, x = np.indices(SHAPE).astype(float)
    images = [sampled(scene, 0.0, 0.0), sampled(scene, 0.9, -0.6)]
    for k, image in enumerate(images):
        away = 0.0 if still else k
        image += 12 * np.exp(-0.5 * ((y - 120 - 0.9 * away) ** 2 + (x - 30 + 0.6 * away) ** 2) / 6.0**2)
    result = sa.register(*noisy(images, 0.3, 18))
    assert ("inconsistent" in result.flags) == still, result.remarks
    if still:
        assert "carries the answer" in result.remarks["inconsistent"] or "disagree by" in result.remarks["inconsistent"]


@pytest.mark.parametrize(("model", "open_parameter"), [("rigid", "angle"), ("shift", None)])
def test_rings_leave_an_angle_open(model, open_parameter) -> None:
    y, x = np.indices(SHAPE).astype(float)

    def rings(dy: float, dx: float) -> np.ndarray:
        r = np.hypot(y - 74.5 - dy, x - 84.5 - dx)
        return np.cos(2e-3 * r**2) * np.exp(-r / 60)

    result = sa.register(*noisy([rings(0.0, 0.0), rings(0.7, -0.4)], 0.03, 13), model=model)
    np.testing.assert_allclose(result.shift, (-0.7, 0.4), atol=0.03)
    assert ("undetermined" in result.flags) == (open_parameter is not None)
    if open_parameter:
        assert open_parameter in result.remarks["undetermined"]
        assert result.sigma[result.names.index(open_parameter)] > 10
