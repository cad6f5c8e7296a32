"""Noise that is not the same everywhere, as of counts and of speckle, is neither spikes nor a misfit nor motion."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

import stackalign as sa
from stackalign.ops import resample_affine
from stackalign.registration._noise import sampled_noise
from stackalign.registration.spikes import without_spikes


def particles(rng, shape=(170, 160), count=40):
    """Projections of spheres, apart from each other on a dark ground."""
    y, x = np.indices(shape, dtype=float)
    image = np.zeros(shape)
    for _ in range(count):
        cy, cx, radius = *(rng.uniform(0, side) for side in shape), rng.uniform(5, 10)
        image += np.sqrt(np.clip(1 - ((y - cy) ** 2 + (x - cx) ** 2) / radius**2, 0, None))
    return gaussian_filter(image, 1.2)


@pytest.mark.parametrize("seed", range(6))
def test_counts_of_particles_agree_about_a_shift(seed) -> None:
    rng = np.random.default_rng(seed)
    scene = particles(rng)
    moved = shift(scene, (1.3, -2.4), order=5)
    images = [rng.poisson(level * np.clip(s[8:-8, 8:-8], 0, None)) for level, s in ((12, scene), (1500, moved))]
    result = sa.register(*images)
    assert result.ok, result.remarks
    np.testing.assert_array_less(np.abs(result.parameters - (-1.3, 2.4)), 4 * result.sigma)


def test_particles_that_moved_apart_do_not(rng) -> None:
    scene = particles(rng, count=80)
    moved = np.where(np.arange(160) < 80, shift(scene, (0.0, 0.8), order=5), shift(scene, (0.0, -0.8), order=5))
    images = [rng.poisson(100 * np.clip(s[8:-8, 8:-8], 0, None)) for s in (scene, moved)]
    assert "inconsistent" in sa.register(*images).flags


def test_speckle_has_no_spikes_and_cosmic_rays_in_it_are_found(rng) -> None:
    scene = 0.05 + particles(rng, count=20)
    speckle = scene * rng.gamma(12.0, 1.0 / 12.0, scene.shape)
    assert without_spikes(speckle[None])[1][0] <= 2  # were 40 when all pixels had the noise of the dark ones
    hit = speckle.copy()
    places = rng.choice(scene.size, 60, replace=False)
    hit.ravel()[places] += 30 * speckle.std()
    cleaned, counts = without_spikes(hit[None])
    assert counts[0] >= 58
    assert np.isnan(cleaned[0].ravel()[places]).mean() > 0.95


@pytest.mark.parametrize("smooth", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("places", [(0.5, 0.5), (0.25, 0.0), (0.1, 0.6)])
def test_what_a_spline_leaves_of_noise(smooth, places, rng) -> None:
    noise = gaussian_filter(rng.normal(size=(500, 500)), smooth)
    sampled = resample_affine(noise, [[1, 0, places[0]], [0, 1, places[1]]], order=3)[5:-5, 5:-5]
    shares = sampled_noise(smooth, np.cos(2 * np.pi * np.array([places])))
    assert sampled.var() / noise.var() == pytest.approx(shares.variance[0], rel=0.03)
    responses = [np.diff(np.diff(plane, 2, axis=0), 2, axis=1).var() for plane in (sampled, noise)]
    assert responses[0] / responses[1] == pytest.approx(shares.response[0], rel=0.05)
