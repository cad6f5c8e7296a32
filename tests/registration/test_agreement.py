"""What tiles say together, by least squares of one pair after the other; bends, and directions that are open."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

import stackalign as sa
from stackalign.registration import create_test_pair, random_scene
from stackalign.registration._agreement import FEWEST_LEFT, agreement_of, displacements_at, surface

SHAPE = (150, 130)


def tiles_of(rng, n_problems, side=15):
    """Places, shifts and inverse covariances of tiles, of which a fifth say nothing."""
    middles = [np.arange(side / 2, n, side) - n / 2 for n in SHAPE]
    place = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)
    root = rng.normal(size=(n_problems, len(place), 2, 2))
    weight = root @ np.swapaxes(root, 2, 3) * 100
    weight[rng.random(weight.shape[:2]) < 0.2] = 0.0
    shift = 0.1 * rng.normal(size=(*weight.shape[:2], 2)) + 0.3 * place[:, ::-1] / 75
    return place, np.where(weight[..., :1, 0] > 0, shift, 0.0), weight


def solved(design, weight, shift):
    """Weighted least squares by whitening: values and the squares that they explain."""
    root = np.linalg.cholesky(weight)
    rows = np.concatenate([r.T @ d for r, d in zip(root, design, strict=True)])
    right = np.concatenate([r.T @ s for r, s in zip(root, shift, strict=True)])
    values = np.linalg.lstsq(rows, right, rcond=None)[0]
    return values, right @ right - ((right - rows @ values) ** 2).sum(), right @ right


def test_a_batch_says_of_each_pair_what_least_squares_say(rng) -> None:
    place, shift, weight = tiles_of(rng, 3)
    fields = np.zeros((3, 2, 6))
    fields[:, 0, 2], fields[:, 1, 5] = 1.0, 1.0
    agreement = agreement_of(shift, weight, fields, place, SHAPE)
    every_affine = displacements_at(place, np.eye(6)[None])[0]
    terms = surface(place[:, 0], place[:, 1], SHAPE).T
    curved = np.stack([np.hstack([terms, 0 * terms]), np.hstack([0 * terms, terms])], axis=1)
    for b in range(3):
        used = weight[b, :, 0, 0] > 0
        w, s = weight[b][used], shift[b][used]
        mean, by_model, _ = solved(every_affine[used][:, :, [2, 5]], w, s)
        values, by_affine, every = solved(every_affine[used], w, s)
        _, by_curve, _ = solved(curved[used], w, s)
        disagreement = (every - by_affine) / (2 * used.sum() - 6)
        values[[2, 5]] -= mean
        np.testing.assert_allclose(agreement.disagreement[b], disagreement)
        np.testing.assert_allclose(agreement.affine[b], values, atol=1e-9)
        np.testing.assert_allclose(
            agreement.significance[b], np.sqrt((by_affine - by_model) / 4 / max(disagreement, 1))
        )
        left = max((every - by_curve) / (2 * used.sum() - 12), 1)
        np.testing.assert_allclose(agreement.bent[b], np.sqrt((by_curve - by_affine) / 6 / left))
        assert used.sum() > FEWEST_LEFT


def test_a_pair_says_the_same_alone(rng) -> None:
    place, shift, weight = tiles_of(rng, 4)
    fields = rng.normal(size=(4, 3, 6))
    whole = agreement_of(shift, weight, fields, place, SHAPE)
    for b in range(4):
        alone = agreement_of(shift[b : b + 1], weight[b : b + 1], fields[b : b + 1], place, SHAPE)
        for name, value in vars(alone).items():
            np.testing.assert_array_equal(value[0], getattr(whole, name)[b], err_msg=name)


@pytest.mark.parametrize("bend", [0.0, 0.8])
def test_images_that_are_bent_are_inconsistent(bend, rng) -> None:
    scene = gaussian_filter(rng.normal(size=(200, 200)), 2.0)
    y, x = np.indices((160, 160)) + 20.0
    unit = (y - 99.5) / 80
    moving = map_coordinates(scene, (y - 1.3 + bend * (unit**2 - 1 / 3), x + 0.7), order=3)
    images = [image + 0.3 * scene.std() * rng.normal(size=image.shape) for image in (scene[20:180, 20:180], moving)]
    result = sa.register(*images)
    assert ("inconsistent" in result.flags) == (bend > 0), result.remarks


def test_an_angle_and_a_shear_of_a_narrow_image_are_told_apart() -> None:
    scene = random_scene((340, 120), 4)
    truth = {"dy": 1.2, "dx": -0.7, "angle": 0.6, "shear": 0.01}
    pair = create_test_pair((290, 52), "affine", truth, scene=scene, noise=0.02, seed=1)
    result = sa.register(pair.reference, pair.moving, model="affine")
    assert result.ok, result.remarks
    # In a narrow frame the one undoes nearly all that the other does to pixels: each by itself is known worse.
    assert result["angle"] == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("blur", [0.0, 1.3])
def test_noise_where_images_are_bright_is_not_taken_for_a_blur(blur, rng) -> None:
    """Speckle on a few bright spots: most of both images is dark and shows no noise at all."""
    spots = np.zeros((170, 170))
    spots[tuple(rng.integers(0, 170, (2, 60)))] = rng.uniform(0.5, 1.0, 60)
    scene = gaussian_filter(spots, 3.0)
    moving = gaussian_filter(scene[11:161, 8:158], blur) if blur else scene[11:161, 8:158]
    reference = scene[10:160, 10:160]
    if not blur:
        reference, moving = (image * rng.gamma(20.0, 1 / 20.0, image.shape) for image in (reference, moving))
    result = sa.register(reference, moving)
    assert (result.smooth[0] != result.smooth[1]) == (blur > 0)
    assert result.smooth[0] > 0
    np.testing.assert_allclose(result.parameters, (1.0, -2.0), atol=0.02 + 4 * result.sigma.max())
