"""What `register` says against itself: each situation in which a flag is due, and its nearest neighbour without."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import stackalign as sa
from stackalign import transforms
from stackalign.registration import create_test_pair, random_scene
from stackalign.registration.result import FLAGS
from stackalign.registration.spikes import without_spikes

SHAPE = (144, 152)


@pytest.fixture(scope="module")
def scene():
    return random_scene((320, 320), 21)


@pytest.fixture(scope="module")
def fine():
    """Broad-band texture: noise of equal power below 0.2 cycles per pixel."""
    rng = np.random.default_rng(5)
    frequency = np.hypot(np.fft.fftfreq(320)[:, None], np.fft.rfftfreq(320))
    return np.fft.irfft2(np.fft.rfft2(rng.normal(size=(320, 320))) * (frequency < 0.2), (320, 320))


def found(pair, model="shift", **settings):
    return sa.register(pair.reference, pair.moving, model=model, **settings)


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ({"dy": 2.3, "dx": -1.4, "sy": 1.01, "sx": 1.01}, "sy", 1.01),
        ({"dy": 2.3, "dx": -1.4, "angle": 0.8}, "angle", 0.8),
        ({"dy": 2.3, "dx": -1.4, "sx": 0.985}, "sx", 0.985),
        ({"dy": 2.3, "dx": -1.4, "shear": 0.01}, "shear", 0.01),
    ],
)
def test_a_parameter_left_out_is_named_with_its_value(scene, parameters, name, value) -> None:
    pair = create_test_pair(SHAPE, "affine", parameters, scene=scene, noise=0.05, seed=2)
    small = found(pair)
    assert "model_too_small" in small.flags
    said = dict(part.split(" = ") for part in small.remarks["model_too_small"][16:].split(", which")[0].split(", "))
    assert float(said[name].split()[0]) == pytest.approx(value, rel=0.15, abs=0.0015)
    full = found(pair, "affine")
    assert full.ok, full.remarks


def test_a_parameter_too_small_to_matter_is_not_missed(scene) -> None:
    pair = create_test_pair(SHAPE, "affine", {"dy": 2.3, "angle": 0.01}, scene=scene, noise=0.05, seed=3)
    assert found(pair).ok


def test_a_turn_far_beyond_the_features_is_a_misfit(scene) -> None:
    pair = create_test_pair(SHAPE, "rigid", (1.0, 2.0, 7.0), scene=scene, noise=0.05, seed=4)
    result = found(pair)
    assert "misfit" in result.flags
    assert result.goodness > 20
    assert "times its noise" in result.remarks["misfit"]
    assert found(pair, "rigid").ok


@pytest.mark.parametrize("noise", [0.02, 0.2, 0.5])
@pytest.mark.parametrize("kind", ["scene", "fine"])
def test_goodness_is_one_where_only_noise_is_left(kind, noise, request) -> None:
    scene = request.getfixturevalue(kind)
    pair = create_test_pair(SHAPE, "shift", (2.4, -3.3), scene=scene, noise=noise, seed=5)
    result = found(pair)
    assert 0.8 < result.goodness < 1.7
    assert result.ok


def test_slowly_varying_brightness_and_a_wider_point_spread_are_no_misfit(scene) -> None:
    pair = create_test_pair(SHAPE, "shift", (2.4, -3.3), scene=scene, noise=0.05, seed=6)
    x = np.linspace(-1, 1, SHAPE[1])
    shaded = sa.register(pair.reference, pair.moving * (1 + 0.05 * x))
    assert shaded.ok, shaded.remarks
    blurred = sa.register(pair.reference, gaussian_filter(pair.moving, 1.3))
    assert blurred.ok, blurred.remarks
    np.testing.assert_allclose(blurred.parameters, pair.parameters, atol=0.03)


def test_structures_that_moved_against_others_are_a_misfit() -> None:
    one, two = random_scene((220, 220), 31), random_scene((220, 220), 32)
    moved = np.roll(one, (3, -2), (0, 1)) + np.roll(two, (3, 2), (0, 1))
    inner = slice(30, 190)
    rng = np.random.default_rng(0)
    images = [image[inner, inner] + 0.05 * rng.normal(size=(160, 160)) for image in (one + two, moved)]
    assert "misfit" in sa.register(*images).flags
    images[1] = np.roll(one + two, (3, -2), (0, 1))[inner, inner]
    assert sa.register(*images).ok


def test_halves_that_moved_apart_are_inconsistent(scene) -> None:
    rng = np.random.default_rng(1)
    images = [scene[50:200, 50:210], np.concatenate([scene[48:198, 50:130], scene[50:200, 130:210]], axis=1)]
    result = sa.register(*(image + 0.05 * rng.normal(size=image.shape) for image in images))
    assert "inconsistent" in result.flags
    assert "px beyond their errors" in result.remarks["inconsistent"]


def test_scatter_of_regions_is_in_the_error_bar(scene) -> None:
    """A warp too small for a flag: what regions scatter together is larger than what each does by itself."""
    from scipy.ndimage import map_coordinates

    rng = np.random.default_rng(2)
    y, x = np.indices((160, 160)) + 60.0
    u, v = (gaussian_filter(rng.normal(size=y.shape), 30, mode="wrap") for _ in range(2))
    pair = [
        map_coordinates(scene, at, order=5) + 0.02 * rng.normal(size=y.shape)
        for at in ((y, x), (y + 0.1 * u / u.std(), x + 0.1 * v / v.std()))
    ]
    result = sa.register(*pair)
    calm = sa.register(pair[0], map_coordinates(scene, (y, x), order=5) + 0.02 * rng.normal(size=y.shape))
    assert result.systematic is not None
    assert np.sqrt(np.diag(result.systematic)).min() > 5 * np.sqrt(np.diag(calm.systematic)).max()
    assert np.all(np.abs(result.parameters) < 3 * result.sigma)
    assert np.all(np.diag(result.covariance) > 0.5 * np.diag(result.systematic))


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_lattices_are_ambiguous_unless_the_shift_is_limited(noise) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        periods, turn = rng.uniform(6, 35, 2), rng.uniform(0, np.pi)
        shift = rng.uniform(-0.2, 0.2, 2) * periods.min()

        def at(dy, dx, periods=periods, turn=turn):
            waves = [
                np.cos(2 * np.pi * ((y - dy) * np.sin(a) + (x - dx) * np.cos(a)) / p)
                for a, p in zip((turn, turn + 1.3), periods, strict=True)
            ]
            return waves[0] + waves[1]

        pair = [at(*d) + noise * rng.normal(size=SHAPE) for d in ((0.0, 0.0), shift)]
        assert "ambiguous" in sa.register(*pair).flags
        near = sa.register(*pair, max_shift=0.45 * periods.min())
        assert near.ok, near.remarks
        np.testing.assert_allclose(near.parameters, -shift, atol=0.01 + 0.3 * noise)


@pytest.mark.parametrize("turn", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_shifts_along_lines_are_left_open(turn, noise) -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:160, :160].astype(float)
    profile = gaussian_filter(rng.normal(size=800), 2.5)
    profile /= profile.std()
    across = y * np.sin(turn) + x * np.cos(turn) + 300
    images = [np.interp(across - d, np.arange(800), profile) for d in (0.0, 2.4)]
    images = [image + noise * rng.normal(size=image.shape) for image in images]
    result = sa.register(*images, max_shift=8)
    assert "undetermined" in result.flags
    along = np.array([np.cos(turn), -np.sin(turn)])
    if np.isfinite(result.covariance).all():
        across_lines = np.array([np.sin(turn), np.cos(turn)])
        assert along @ result.covariance @ along > 100**2
        assert across_lines @ result.covariance @ across_lines < 2**2
    assert "direction" in result.remarks["undetermined"]
    # As much structure in the other direction, and both components are known.
    other = np.interp(-x * np.sin(turn) + y * np.cos(turn) + 300, np.arange(800), np.roll(profile, 111))
    assert "undetermined" not in sa.register(images[0] + other, images[1] + other).flags


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("shift+scale", (0.3, -0.4, 1.06, 1.06)),
        ("shift+scale", (5.3, -2.4, 0.9, 0.91)),
        ("rigid", (0.3, -0.4, 9.0)),
        ("similarity", (-3.3, 4.4, 1.05, -12.0)),
    ],
)
def test_fine_texture_with_a_scale_or_a_turn_is_found(fine, model, parameters) -> None:
    pair = create_test_pair((180, 190), model, parameters, scene=fine, noise=0.05, seed=7)
    result = found(pair, model)
    assert result.ok, result.remarks
    np.testing.assert_allclose(result.matrix, pair.matrix, atol=0.05)


def test_clean_shifts_are_found_to_three_thousandths_of_a_pixel(scene, fine) -> None:
    for image in (scene, fine):
        pair = create_test_pair(SHAPE, "shift", (2.37, -3.71), scene=image, seed=8)
        np.testing.assert_allclose(found(pair).parameters, pair.parameters, atol=0.003)


@pytest.mark.parametrize("counts", [(34, 34), (3, 3), (340, 1)])
def test_error_bars_hold_at_low_counts(counts) -> None:
    scene = gaussian_filter(np.random.default_rng(4).random((190, 190)), 3)
    scene = (scene - scene.min()) / np.ptp(scene)
    pulls = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        one, two = rng.poisson(counts[0] * scene[20:164, 20:164]), rng.poisson(counts[1] * scene[17:161, 24:168])
        result = sa.register(one, two)
        pulls.append((result.parameters - [-3, 4]) / result.sigma)
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.6


@pytest.mark.parametrize(("share", "size"), [(0.002, 100.0), (0.01, 30.0), (0.02, 10.0)])
def test_spikes_are_left_out(scene, share, size) -> None:
    pair = create_test_pair(SHAPE, "shift", (2.37, -3.71), scene=scene, noise=0.05, seed=9)
    rng = np.random.default_rng(9)
    images = [pair.reference.copy(), pair.moving.copy()]
    n = 0
    for image in images:
        hit = rng.random(SHAPE) < share
        n += int(hit.sum())
        image[hit] += size * image.std()
    result = sa.register(*images)
    assert result.ok, result.remarks
    assert 0.9 * n < result.spikes <= n
    assert np.all(np.abs(result.parameters - pair.parameters) < np.maximum(0.02, 3 * result.sigma))


def test_hot_pixels_that_stand_still_do_not_outweigh_what_moves(scene) -> None:
    pair = create_test_pair(SHAPE, "shift", (6.0, -5.0), scene=scene, noise=0.05, seed=10)
    place = np.random.default_rng(3).integers(0, 140, (2, 30))
    for image in (pair.reference, pair.moving):
        image[tuple(place)] = 1e4
    np.testing.assert_allclose(found(pair).parameters, (6.0, -5.0), atol=0.03)


def test_a_block_that_stands_still_is_flagged(scene) -> None:
    pair = create_test_pair(SHAPE, "shift", (6.0, -5.0), scene=scene, noise=0.05, seed=11)
    still = 8.0 * (np.arange(SHAPE[1]) < 50)
    result = sa.register(pair.reference + still, (pair.moving - 3.0) / 1.7 + still)
    assert not result.ok


def test_a_pattern_of_pixels_that_stands_still_is_flagged(scene) -> None:
    """The neighbour: as much noise that is not the same in both images."""
    rng = np.random.default_rng(16)
    images = [scene[40:200, 40:200], scene[46:206, 35:195]]
    pattern = 2.0 * rng.normal(size=(160, 160))
    still = sa.register(images[0] + pattern, images[1] + pattern)
    assert not still.ok
    assert sa.register(images[0] + pattern, images[1] + 2.0 * rng.normal(size=(160, 160))).ok


def test_spikes_are_told_from_stars_and_counts() -> None:
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:120, :130]
    sky = rng.normal(size=(3, 120, 130))
    for cy, cx in rng.uniform(5, 95, (40, 2)):
        sky[:2] += 300 * np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / 0.8**2)
    sky[1, 110, 9] = 200.0
    sky[1, 110, 10] = 200.0  # two neighbours
    sky[1, 110, 60] = -90.0
    sky[2] = rng.poisson(0.3, sky[2].shape)
    cleaned, counts = without_spikes(sky)
    np.testing.assert_array_equal(counts, [0, 3, 0])
    np.testing.assert_array_equal(np.argwhere(np.isnan(cleaned)), [[1, 110, 9], [1, 110, 10], [1, 110, 60]])
    assert np.isfinite(sky).all()
    same, none = without_spikes(sky[:1])
    assert same is not None
    assert not none.any()
    masked = np.ones((120, 130), bool)
    masked[110, :50] = False
    assert without_spikes(sky, masked)[1].tolist() == [0, 1, 0]


def test_integers_lose_spikes_and_keep_everything_else() -> None:
    image = np.random.default_rng(12).poisson(100, (1, 90, 90)).astype(np.uint16)
    image[0, 40, 41] = 65535
    cleaned, counts = without_spikes(image)
    assert counts[0] == 1
    assert cleaned.dtype == np.float32
    image[0, 40, 41] = 0
    np.testing.assert_array_equal(np.nan_to_num(cleaned), image)


def test_every_flag_has_a_sentence_with_a_number(scene) -> None:
    rng = np.random.default_rng(13)
    unrelated = sa.register(scene[:90, :90], random_scene((90, 90), 77))
    bound = create_test_pair((96, 96), "shift", (0, 30.0), scene=scene, noise=0.02, seed=3)
    results = [
        unrelated,
        found(bound, max_shift=20),
        sa.register(np.ones((40, 40)), rng.normal(size=(40, 40))),
        sa.register(np.full((40, 40), np.nan), rng.normal(size=(40, 40))),
        found(bound, max_iter=1),
    ]
    for result in results:
        assert result.flags
        assert set(result.flags) == set(result.remarks) <= set(FLAGS)
        assert all(len(text) > 30 for text in result.remarks.values())
    record = unrelated.to_dict()
    assert record["remarks"].keys() == set(unrelated.flags)
    assert np.isfinite(record["goodness"])


def test_long_images_need_memory_for_their_pixels() -> None:
    from stackalign.registration._search import Images
    from stackalign.registration._trust import correlated_pixels

    tracemalloc = pytest.importorskip("tracemalloc")
    planes = np.random.default_rng(14).normal(size=(1, 8000, 16)).astype(np.float32)
    tracemalloc.start()
    correlated_pixels(Images(planes, planes), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * planes.nbytes


def test_chance_by_parseval_is_the_sum_over_lags() -> None:
    from scipy.signal import correlate

    from stackalign.registration._search import Images
    from stackalign.registration._trust import correlated_pixels

    planes = [gaussian_filter(np.random.default_rng(k).normal(size=(40, 57)), 2) for k in range(2)]
    both = []
    for plane in planes:
        centred = (plane - plane.mean()).astype(np.float32).astype(np.float64)
        lags = correlate(centred, centred)
        both.append(lags / lags.max())
    images = Images(*(p[None].astype(np.float32) for p in planes))
    np.testing.assert_allclose(correlated_pixels(images, 1), (both[0] * both[1]).sum(), rtol=1e-4)


def test_matrices_are_those_of_the_parameters_at_the_end(fine) -> None:
    pair = create_test_pair((120, 130), "rigid", (1.2, 0.4, 0.5), scene=fine, noise=0.05, seed=15)
    result = found(pair, "rigid")
    np.testing.assert_allclose(
        result.matrix, transforms.matrices_from_parameters(result.parameters, "rigid", result.center), atol=1e-12
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("both", [False, True])
def test_lines_of_a_scan_to_and_fro_stand_apart(scene, axis, both) -> None:
    pair = create_test_pair(SHAPE, "shift", (4, -2), scene=scene, noise=0.03, seed=3)
    images = [pair.reference.copy(), pair.moving.copy()]
    for image in images if both else images[1:]:
        lines = np.moveaxis(image, axis, 0)
        lines[1::2] = np.roll(lines[1::2], 2, axis=1)
    result = sa.register(*(image[4:-4, 4:-4] for image in images))
    assert ("odd and even lines" in result.remarks.get("inconsistent", "")) == (not both), result.remarks


def test_blocks_with_few_pixels_are_no_structure(rng) -> None:
    """Their means are noisier than those of full ones: here they would make it 1.8 times the noise."""
    from stackalign.registration._regions import _structure

    residual = rng.normal(size=(1, 120, 120)).astype(np.float32)
    residual[:, :60].reshape(1, 60, 30, 4)[..., 1:] = np.nan
    white = np.ones(1), np.full((1, 2), 0.1), (0.0, 0.0)
    assert _structure(residual, *white)[1][0] < 4.0
    assert _structure(residual + 0.3 * np.repeat(np.tile([1.0, -1.0], 15), 4).astype(np.float32), *white)[1][0] > 6.0
