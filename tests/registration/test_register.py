"""`register` on pairs of one continuous scene whose transform is known, and on images that leave it open."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import stackalign as sa
from stackalign import transforms
from stackalign.registration import create_test_pair, point_error, random_scene
from stackalign.registration.result import FLAGS

SHAPE = (192, 180)
TRUTH = {
    "shift": (7.3, -4.6),
    "shift+scale": (7.3, -4.6, 1.012, 0.991),
    "rigid": (7.3, -4.6, 3.0),
    "similarity": (7.3, -4.6, 1.02, 2.0),
    "shift+scale+angle": (7.3, -4.6, 1.012, 0.991, 2.0),
    "affine": (7.3, -4.6, 1.012, 0.991, 2.0, 0.01),
}


@pytest.fixture(scope="module")
def scene():
    return random_scene((320, 320), 1)


@pytest.mark.parametrize("model", TRUTH)
def test_finds_the_truth_of_every_model(scene, model) -> None:
    pair = create_test_pair(SHAPE, model, TRUTH[model], scene=scene, noise=0.02, holes=0.1, seed=4)
    found = sa.register(pair.reference, pair.moving, model=model)
    rms, largest = point_error(found.matrix, pair)
    assert rms < 0.01
    assert largest < 0.02
    assert found.ok, found.flags
    assert found.names == transforms.MODELS[model]
    np.testing.assert_allclose(
        found.matrix, transforms.matrices_from_parameters(found.parameters, model, found.center), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_whole_pixels_do_not_repel_and_half_pixels_do_not_attract(scene, phase, noise) -> None:
    """The score of bilinear samples alone is off by 0.07 px (5 %) or 0.3 px (20 %) where the truth is a whole pixel."""
    errors = []
    for seed in range(4):
        pair = create_test_pair(SHAPE, "shift", (3 + phase, -2 - phase), scene=scene, noise=noise, seed=seed)
        errors.append(sa.register(pair.reference, pair.moving).parameters - pair.parameters)
    bound = np.sqrt(np.diag(pair.bound))
    assert np.sqrt(np.mean(np.square(errors), axis=0)).max() < 2.0 * bound.max() + 0.003


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_the_error_bar_is_as_large_as_the_error(scene, noise) -> None:
    errors, sigmas = [], []
    for seed in range(16):
        truth = (2.3 + 0.1 * seed, -1.7, 1.003, 0.998)
        pair = create_test_pair((128, 128), "shift+scale", truth, scene=scene, noise=noise, holes=0.1, seed=seed)
        found = sa.register(pair.reference, pair.moving, model="shift+scale")
        errors.append(found.parameters - pair.parameters)
        sigmas.append(found.sigma)
    pull = np.array(errors) / np.array(sigmas)
    assert 0.7 < np.sqrt(np.mean(pull**2)) < 1.4


def test_wider_point_spread_is_in_the_error_bar(scene) -> None:
    pair = create_test_pair(SHAPE, "shift", (2.3, -1.2), scene=scene, noise=0.02, moving_blur=2.5, seed=1)
    found = sa.register(pair.reference, pair.moving)
    assert np.all(np.abs(found.parameters - pair.parameters) < np.maximum(4 * found.sigma, 0.03))


def test_signals_below_the_noise_are_found(scene) -> None:
    pair = create_test_pair(SHAPE, "shift", (3.2, -5.7), scene=scene, noise=3.0, seed=3)
    found = sa.register(pair.reference, pair.moving)
    assert np.all(np.abs(found.parameters - pair.parameters) < 4 * found.sigma)
    assert found.sigma.max() < 0.5


def test_forty_per_cent_overlap(scene) -> None:
    pair = create_test_pair((200, 150), "shift+scale", (-3.2, 89.7, 1.003, 0.998), noise=0.02, holes=0.05, seed=2)
    found = sa.register(pair.reference, pair.moving, model="shift+scale")
    assert point_error(found.matrix, pair)[1] < 0.06
    assert 0.3 < found.overlap < 0.4


def test_gain_offset_and_values_under_a_mask_change_nothing(scene) -> None:
    pair = create_test_pair(SHAPE, "shift", (1.3, 2.2), scene=scene, noise=0.05, seed=0)
    mask = np.ones(SHAPE, bool)
    mask[40:70, 30:90] = False
    plain = sa.register(pair.reference, pair.moving, moving_mask=mask)
    painted = np.where(mask, pair.moving, 1e30)
    other = sa.register(3 * pair.reference - 100, painted, moving_mask=mask)
    np.testing.assert_allclose(other.parameters, plain.parameters, rtol=0, atol=1e-5)
    holed = sa.register(pair.reference, np.where(mask, pair.moving, np.nan))
    np.testing.assert_array_equal(holed.parameters, plain.parameters)


def test_inputs_are_left_as_they_are(scene) -> None:
    pair = create_test_pair((64, 64), "shift", (1.3, 2.2), scene=scene, seed=0)
    reference, moving, mask = pair.reference.copy(), pair.moving.copy(), np.ones((64, 64), bool)
    for array in (reference, moving, mask):
        array.flags.writeable = False
    sa.register(reference, moving, reference_mask=mask, moving_mask=mask)
    np.testing.assert_array_equal(reference, pair.reference)
    np.testing.assert_array_equal(moving, pair.moving)


def test_a_stack_gives_each_pair_what_it_gets_alone(scene) -> None:
    pairs = [
        create_test_pair(
            (96, 90), "rigid", (k - 1.3, 2.1 * k, 0.5 * k), scene=scene, noise=0.02 + 0.2 * (k == 2), seed=k
        )
        for k in range(4)
    ]
    fixed, moved = (np.array([getattr(p, name) for p in pairs]) for name in ("reference", "moving"))
    together = sa.register_stack(fixed, moved, model="rigid", workers=2)
    assert len(together) == 4
    for k, result in enumerate(together):
        alone = sa.register(fixed[k], moved[k], model="rigid", workers=1)
        np.testing.assert_array_equal(result.parameters, alone.parameters)
        np.testing.assert_array_equal(result.covariance, alone.covariance)
        assert result.flags == alone.flags
        assert result.smooth == alone.smooth
    np.testing.assert_array_equal(together.parameters[2], together[2].parameters)
    columns = together.columns()
    assert list(columns)[:5] == ["pair", "dy", "sigma_dy", "dx", "sigma_dx"]
    assert len(together[1:3]) == 2


def test_one_reference_for_all(scene) -> None:
    pairs = [create_test_pair((96, 90), "shift", (k, -k), scene=scene, noise=0.02, seed=k) for k in range(3)]
    found = sa.register_stack(pairs[0].reference, np.array([p.moving for p in pairs]))
    np.testing.assert_allclose(found.parameters, [p.parameters for p in pairs], atol=0.02)


def test_images_of_other_sizes(scene) -> None:
    pair = create_test_pair((150, 150), "shift", (4.0, -3.0), scene=scene, noise=0.02, seed=0)
    found = sa.register(pair.reference[20:120, 10:130], pair.moving)
    # The reference's pixel (0, 0) was (20, 10).
    np.testing.assert_allclose(found.matrix[:, 2], [20 - 4.0, 10 + 3.0], atol=0.02)
    aligned = found.apply(pair.moving, output_shape=(100, 120))
    both = np.isfinite(aligned)
    assert np.corrcoef(aligned[both], pair.reference[20:120, 10:130][both])[0, 1] > 0.995


def test_start_and_bounds(scene) -> None:
    pair = create_test_pair(SHAPE, "shift+scale", (1.5, -0.8, 1.01, 1.0), scene=scene, noise=0.02, seed=0)
    found = sa.register(pair.reference, pair.moving, model="shift+scale", start={"dy": 1.0})
    assert np.isnan(found.second_score)
    assert point_error(found.matrix, pair)[1] < 0.03
    held = sa.register(pair.reference, pair.moving, model="shift+scale", bounds={"sy": (1.0, 1.0), "sx": (1.0, 1.0)})
    np.testing.assert_array_equal(held.parameters[2:], 1.0)
    tight = sa.register(pair.reference, pair.moving, model="shift+scale", bounds={"sy": (0.999, 1.001)})
    assert "on_bound" in tight.flags


def test_a_centre_of_ones_own(scene) -> None:
    pair = create_test_pair(SHAPE, "rigid", (2.0, 1.0, 2.0), scene=scene, noise=0.02, seed=0)
    middle = sa.register(pair.reference, pair.moving, model="rigid")
    corner = sa.register(pair.reference, pair.moving, model="rigid", center=(0, 0))
    np.testing.assert_allclose(corner.matrix, middle.matrix, atol=2e-2)
    assert corner["angle"] == pytest.approx(middle["angle"], abs=0.01)


def flags(reference, moving, **settings):
    return sa.register(reference, moving, **settings).flags


def test_flags_instead_of_confident_nonsense(scene, rng) -> None:
    image = scene[:128, :128]
    y, x = np.mgrid[:128, :128]
    noise = 0.05 * rng.normal(size=(2, 128, 128))
    few = np.zeros((128, 128), bool)
    few[50:54, 50:55] = True
    stripes = np.sin(2 * np.pi * x / 16.0)
    lattice = stripes * np.sin(2 * np.pi * y / 12.0)
    for seed in range(3):
        assert "ambiguous" in flags(image, random_scene((128, 128), 70 + seed)) or "insignificant" in flags(
            image, random_scene((128, 128), 70 + seed)
        )
        assert flags(rng.normal(size=(128, 128)), rng.normal(size=(128, 128)))
    assert flags(np.ones((128, 128)), image) == ("constant",)
    assert flags(image, np.full((128, 128), np.nan)) == ("empty",)
    with pytest.warns(sa.StackalignWarning, match=r"reference_mask leaves 0\.1%"):
        assert flags(image, image, reference_mask=few) == ("few_pixels",)
    assert "ambiguous" in flags(stripes + noise[0], np.roll(stripes, 3, 1) + noise[1])
    assert "ambiguous" in flags(lattice + noise[0], np.roll(lattice, 3, 1) + noise[1])
    far = create_test_pair((128, 128), "shift", (0, 100.0), noise=0.02, seed=3)
    assert "small_overlap" in flags(far.reference, far.moving, start=(0, 99))
    beyond = create_test_pair((128, 128), "shift", (0, 30.0), scene=scene, noise=0.02, seed=3)
    assert "on_bound" in flags(beyond.reference, beyond.moving, max_shift=20)
    assert not flags(beyond.reference, beyond.moving, max_shift=40)


def test_one_direction_is_left_open(rng) -> None:
    """An edge says nothing about shifts along it."""
    x = np.arange(128) + 0.5 * np.sin(np.arange(128))
    edge = np.tile(np.tanh((x - 64) / 3), (128, 1))
    found = sa.register(edge + 1e-3 * rng.normal(size=edge.shape), edge, max_shift=3)
    assert not found.ok


def test_result_as_text_and_as_json(scene) -> None:
    import json

    pair = create_test_pair((96, 96), "shift", (1.0, 2.0), scene=scene, noise=0.02, seed=0)
    found = sa.register(pair.reference, pair.moving)
    assert str(found).startswith("dy = ")
    assert found["dx"] == found.parameters[1]
    with pytest.raises(KeyError, match="dy, dx"):
        found["sx"]
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["names"] == ["dy", "dx"]
    assert record["provenance"]["parameters"]["model"] == "shift"
    sigma = found.sigma_at([[0, 0], [95, 95]])
    np.testing.assert_allclose(sigma, np.tile(found.sigma, (2, 1)), rtol=1e-9)
    assert found.history.shape[1] == 5
    assert set(found.flags) <= set(FLAGS)


def test_large_images_begin_binned(rng) -> None:
    scene = gaussian_filter(rng.normal(size=(800, 820)), 2.5)
    fixed, moved = scene[100:700, 100:720], scene[63:663, 152:772]  # content moved by (-37, 52)
    found = sa.register(fixed, moved)
    np.testing.assert_allclose(found.parameters, [-37, 52], atol=0.01)
