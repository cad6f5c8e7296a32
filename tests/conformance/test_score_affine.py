"""The masked correlation of image pairs: an oracle made of SciPy's pieces, and what must not change a score."""

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

import stackalign as sa
from stackalign.backends import load

TOLERANCE = 1e-7


def image(rng, shape, holes=0.0, mean=0.0):
    """Structure of a few pixels with some noise, deviation near 1."""
    smooth = gaussian_filter(rng.normal(size=shape), 2.0)
    values = mean + smooth / smooth.std() + 0.3 * rng.normal(size=shape)
    values[rng.random(shape) < holes] = np.nan
    return values


def matrices(rng, n, *, rotated, size=64):
    """Pull matrices about the middle of the image, by fractions of a pixel or of an angle."""
    m = np.empty((n, 2, 3))
    angle = rng.uniform(-0.5, 0.5, n) if rotated else np.zeros(n)
    scale = rng.uniform(0.9, 1.1, (2, n))
    m[:, 0, 0], m[:, 0, 1] = scale[0] * np.cos(angle), scale[0] * np.sin(angle)
    m[:, 1, 0], m[:, 1, 1] = -scale[1] * np.sin(angle), scale[1] * np.cos(angle)
    middle = np.full(2, (size - 1) / 2)
    m[:, :, 2] = middle - m[:, :, :2] @ middle + rng.uniform(-7, 7, (n, 2))
    return m


def oracle(reference, moving, m):
    """Two-pass Pearson in float64 over what is finite in both."""
    r = reference.astype(np.float64)
    v = affine_transform(
        moving.astype(np.float64), m[:, :2], m[:, 2], output_shape=r.shape, order=1, mode="constant", cval=np.nan
    )
    both = np.isfinite(r) & np.isfinite(v)
    r, v = r[both] - r[both].mean(), v[both] - v[both].mean()
    return (r * v).sum() / np.sqrt((r * r).sum() * (v * v).sum()), both.mean()


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("rotated", [False, True], ids=["diagonal", "rotated"])
@pytest.mark.parametrize("holes", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("size", [64, 200, 512])
def test_equals_the_oracle(rng, size, holes, rotated, mean):
    fixed = image(rng, (size, size), holes, mean)
    moved = image(rng, (size, size), holes, mean)
    moved[np.isfinite(moved)] += (fixed - mean)[np.isfinite(moved)]
    pair = sa.prepare_pair(fixed, moved)
    m = matrices(rng, 4, rotated=rotated, size=size)
    scores, overlap = sa.score_affine(pair, m, return_overlap=True)
    wanted = np.array([oracle(pair.reference[0], pair.moving[0], k) for k in m])
    assert np.abs(scores - wanted[:, 0]).max() <= TOLERANCE
    np.testing.assert_allclose(overlap, wanted[:, 1], rtol=0, atol=1e-15)


@pytest.mark.parametrize("rotated", [False, True], ids=["diagonal", "rotated"])
@pytest.mark.parametrize("holes", [0.0, 0.1])
@pytest.mark.parametrize("level", [1.0, 10.0, 100.0])
def test_an_overlap_far_from_the_mean_equals_the_oracle(rng, level, holes, rotated):
    """Planes as if what the images do not share had brought their means to 0."""
    size = 300
    fixed, moved = (image(rng, (size, size), holes, level).astype(np.float32) for _ in range(2))
    moved[np.isfinite(fixed)] += fixed[np.isfinite(fixed)] - np.float32(level)
    fixed[:, size // 2 :] = np.nan
    pair = sa.ImagePair(fixed[None], moved[None], single=True)
    m = matrices(rng, 6, rotated=rotated, size=size)
    scores = sa.score_affine(pair, m)
    wanted = np.array([oracle(fixed, moved, k)[0] for k in m])
    assert np.abs(scores - wanted).max() <= TOLERANCE


@pytest.mark.parametrize("rotated", [False, True], ids=["diagonal", "rotated"])
@pytest.mark.parametrize("scene", ["bright patch", "gradient"])
@pytest.mark.parametrize("size", [96, 320, 1024])
def test_an_overlap_far_from_the_mean_loses_nothing(rng, size, scene, rotated):
    fixed, moved = image(rng, (size, size), 0.1), image(rng, (size, size), 0.1)
    moved[np.isfinite(moved)] += np.nan_to_num(fixed)[np.isfinite(moved)]
    seen = np.zeros((size, size), bool)
    if scene == "gradient":
        background = np.linspace(0, 1000, size)[:, None]
        seen[size // 8 : size // 8 + 4] = True
    else:
        background = np.zeros((size, size))
        background[size // 4 : size * 5 // 8, size // 3 :] = 400.0
        seen[size // 4 + 8 : size * 5 // 8 - 8, size // 3 + 8 :] = True
    pair = sa.prepare_pair(fixed + background, moved + background, reference_mask=seen)
    m = np.tile(np.eye(2, 3), (6, 1, 1))
    m[:, :, 2] = rng.uniform(-3, 3, (6, 2))
    m[:, 0, 0] = 1 + rng.uniform(-1, 1, 6) / size
    m[:, 1, 1] = 1 + rng.uniform(-1, 1, 6) / size
    if rotated:
        m[:, 0, 1], m[:, 1, 0] = 1 / size, -1.2 / size
    where = np.isfinite(pair.reference[0]) & np.isfinite(pair.moving[0])
    values = pair.moving[0][where].astype(np.float64)
    assert values.mean() ** 2 > (3e4 if scene == "bright patch" else 1e2) * values.var()
    wanted = [oracle(pair.reference[0], pair.moving[0], k)[0] for k in m]
    np.testing.assert_allclose(sa.score_affine(pair, m), wanted, rtol=0, atol=TOLERANCE)


TURNED = [[np.cos(t), np.sin(t), -np.sin(t), np.cos(t)] for t in (1e-3, 1e-5, 1e-9, 1e-12, 0.02, 0.1, 0.3, np.pi / 2)]
SPECIAL = [
    *TURNED,
    [np.cos(np.pi), np.sin(np.pi), -np.sin(np.pi), np.cos(np.pi)],  # a half turn, but for the last bits
    *([1.0, shear, 0.0, 1.0] for shear in (0.05, -1 / 16, 1e-9, 1e-17, -1e-13, 1e-300)),
    *([1.0, 0.0, shear, 1.0 + stretch] for shear in (0.05, -1 / 16) for stretch in (0.0, 1e-9, -1e-10, 2**-20)),
    *([1.0 + a, b, c, 1.0 + d] for a, b, c, d in ((0, 2**-6, 2**-6, 0), (2**-6, -(2**-5), 2**-10, -(2**-5)))),
    *([sy, 0.0, 0.0, sx] for sy in (0.5, 1.0, 2.0, -1.0) for sx in (0.1, 1.0, 3.0, -1.0)),
]


@pytest.mark.parametrize(
    "shapes", [((26, 66), (58, 11)), ((33, 150), (40, 133)), ((5, 3), (9, 64)), ((60, 40), (1, 40))]
)
def test_pixels_on_the_edge_of_a_tap_are_counted_as_the_protocol_says(rng, shapes):
    planes = [rng.normal(size=(1, *shape)).astype(np.float32) for shape in shapes]
    for plane in planes:
        plane[rng.random(plane.shape) < 0.1] = np.nan
    m = np.empty((1, len(SPECIAL) * 4, 2, 3))
    m[..., :2] = np.repeat(np.reshape(SPECIAL, (-1, 2, 2)), 4, axis=0)
    offsets = rng.integers(-4, 5, (4, len(SPECIAL), 2)) + np.reshape([0.0, 4.4e-16, 0.5, 0.3], (4, 1, 1))
    m[0, :, :, 2] = offsets.swapaxes(0, 1).reshape(-1, 2)
    m[..., 2] += np.where(m[..., [0, 1], [0, 1]] < 0, np.subtract(shapes[1], 1), 0)
    found, wanted = (backend.score_affine(*planes, m, 1) for backend in map(load, ("cpu", "reference")))
    np.testing.assert_array_equal(found.overlap, wanted.overlap)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-5)


@pytest.fixture
def problems(rng):
    """Three problems with candidates of every kind, some of which share their half along x."""
    fixed = np.stack([image(rng, (97, 133), 0.1) for _ in range(3)])
    moved = np.stack([image(rng, (110, 120), 0.1) for _ in range(3)])
    moved[1] = image(rng, (110, 120))
    fixed[1] = image(rng, (97, 133))
    m = np.concatenate([matrices(rng, 24, rotated=False), matrices(rng, 6, rotated=True)])
    m[:12, 1] = m[0, 1]
    return sa.prepare_pair(fixed, moved), np.stack([m, m[::-1], m])


@pytest.mark.parametrize("smooth", [0.0, 0.7, 2.0])
def test_bits_of_planes_do_not_depend_on_workers_or_on_how_images_are_divided_among_calls(smooth):
    rng = np.random.default_rng(5)
    images = rng.normal(3.0, 1.0, (5, 61, 83))
    images[1, 20:30, 11:70] = np.nan  # whole images, and rows without a valid pixel, take ways of their own
    images[2, :, :40][rng.random((61, 40)) < 0.2] = np.inf
    images[3, 40:48] = np.nan
    wanted = sa.prepare_pair(images, images, smooth=smooth, workers=1).reference
    for workers in (2, 3, 7):
        found = sa.prepare_pair(images, images, smooth=smooth, workers=workers).reference
        assert found.tobytes() == wanted.tobytes(), workers
    single = [sa.prepare_pair(one, one, smooth=smooth, workers=2).reference for one in images]
    assert np.concatenate(single).tobytes() == wanted.tobytes()


def test_planes_need_a_worker():
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        sa.prepare_pair(np.ones((3, 4)), np.ones((3, 4)), workers=0)


@pytest.mark.parametrize("workers", [2, 5])
def test_bits_do_not_depend_on_the_number_of_workers(problems, workers):
    pair, m = problems
    one, several = (sa.score_affine(pair, m, workers=n, return_overlap=True) for n in (1, workers))
    np.testing.assert_array_equal(one, several)


def test_bits_do_not_depend_on_the_other_candidates(problems, rng):
    pair, m = problems
    whole = sa.score_affine(pair, m)
    for cut in (1, 7, 29):
        parts = [sa.score_affine(pair, np.ascontiguousarray(part)) for part in np.split(m, [cut], axis=1)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    order = rng.permutation(m.shape[1])
    np.testing.assert_array_equal(sa.score_affine(pair, m[:, order]), whole[:, order])


def test_bits_do_not_depend_on_the_other_problems(problems):
    pair, m = problems
    whole = sa.score_affine(pair, m)
    for b in range(3):
        alone = sa.ImagePair(pair.reference[b : b + 1], pair.moving[b : b + 1], single=True)
        np.testing.assert_array_equal(sa.score_affine(alone, m[b]), whole[b])


@pytest.mark.parametrize("rotated", [False, True], ids=["diagonal", "rotated"])
def test_gain_and_offset_change_nothing_but_the_sign(rng, rotated):
    fixed, moved = image(rng, (80, 90), 0.1), image(rng, (80, 90), 0.1)
    m = matrices(rng, 9, rotated=rotated)
    scores = sa.score_affine(sa.prepare_pair(fixed, moved), m)
    for gain, offset in ((3.7, -11.0), (1e-3, 5.0)):
        same = sa.score_affine(sa.prepare_pair(gain * fixed + offset, moved * gain - offset), m)
        np.testing.assert_allclose(same, scores, rtol=0, atol=TOLERANCE)
        opposite = sa.score_affine(sa.prepare_pair(fixed, offset - gain * moved), m)
        np.testing.assert_allclose(opposite, -scores, rtol=0, atol=TOLERANCE)


def test_the_identity_of_an_image_with_itself_is_one(rng):
    fixed = image(rng, (50, 61), 0.3)
    scores, overlap = sa.score_affine(sa.prepare_pair(fixed, fixed), np.eye(2, 3)[None], return_overlap=True)
    np.testing.assert_allclose(scores, 1.0, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(overlap, np.isfinite(fixed).mean())


def test_nothing_to_correlate_is_zero(rng):
    fixed = image(rng, (40, 50))
    flat = fixed.copy()
    flat[:, 25:] = 0.3  # constant where the images overlap, though not as a whole
    away, half = np.eye(2, 3), np.eye(2, 3)
    away[0, 2], half[1, 2] = 1000.0, 25.5
    corner = np.eye(2, 3)
    corner[:, 2] = 39.0, 49.0  # one pixel
    scores, overlap = sa.score_affine(sa.prepare_pair(fixed, flat), [away, half, corner], return_overlap=True)
    np.testing.assert_array_equal(scores, 0.0)
    assert overlap[0] == 0
    assert overlap[1] > 0.4
    assert overlap[2] == 1 / fixed.size
    constant = sa.score_affine(sa.prepare_pair(fixed, np.full_like(fixed, 0.1)), np.eye(2, 3)[None])
    np.testing.assert_array_equal(constant, 0.0)


@pytest.mark.parametrize("smooth", [0.0, 1.5])
def test_what_is_under_the_mask_is_not_seen(rng, smooth):
    fixed, moved = image(rng, (60, 70)), image(rng, (60, 70))
    valid = rng.random((2, 60, 70)) > 0.2
    m = np.concatenate([matrices(rng, 4, rotated=True), matrices(rng, 4, rotated=False)])
    answers = []
    for under in (0.0, 1e30, np.nan, np.inf):
        pair = sa.prepare_pair(
            np.where(valid[0], fixed, under),
            np.where(valid[1], moved, under),
            reference_mask=valid[0],
            moving_mask=valid[1],
            smooth=smooth,
        )
        answers.append(sa.score_affine(pair, m))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_smoothing_fits_a_plane_to_the_valid_pixels_around(rng):
    """Weighted least squares at a few pixels, written out; beside a hole it differs from the weighted mean."""
    smooth, ridge = 1.2, 0.02
    values = rng.normal(size=(30, 33)) + np.linspace(0, 20, 33)
    values[8:14, 5:20] = np.nan
    values[rng.random(values.shape) < 0.2] = np.nan
    plane = sa.prepare_pair(values, values, smooth=smooth).reference[0].astype(np.float64)
    wanted, mean_only = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    y, x = np.nonzero(np.isfinite(values))
    for at in np.argwhere(np.isfinite(values)):
        dy, dx = (y - at[0]) / smooth, (x - at[1]) / smooth
        near = np.maximum(np.abs(y - at[0]), np.abs(x - at[1])) <= int(4 * smooth + 0.5)
        w = np.exp(-0.5 * (dy**2 + dx**2)) * near
        w /= w.sum()
        m = np.array([(w * dy).sum(), (w * dx).sum()])
        f = values[y, x]
        mean = (w * f).sum()
        centred = np.stack([dy - m[0], dx - m[1]])
        slope = np.linalg.solve((w * centred) @ centred.T + ridge * np.eye(2), (w * centred) @ (f - mean))
        wanted[*at], mean_only[*at] = mean - slope @ m, mean
    for answer in (wanted, mean_only):
        answer -= np.nanmean(answer)
        answer /= np.nanstd(answer)
    assert np.nanmax(np.abs(plane - wanted)) < 1e-5
    assert np.nanmax(np.abs(plane - mean_only)) > 0.05


def test_smoothing_keeps_the_mask_and_a_constant_background(rng):
    values = image(rng, (60, 70), 0.2)
    pair = sa.prepare_pair(values, np.where(np.isfinite(values), 7.0, np.nan), smooth=2.0)
    np.testing.assert_array_equal(np.isfinite(pair.reference[0]), np.isfinite(values))
    np.testing.assert_array_equal(pair.moving[0][np.isfinite(values)], 0.0)


def test_images_that_are_no_pair_are_refused(rng):
    fixed = image(rng, (20, 30))
    with pytest.raises(ValueError, match="same number"):
        sa.prepare_pair(fixed, np.stack([fixed, fixed]))
    with pytest.raises(ValueError, match="same number"):
        sa.prepare_pair(np.stack([fixed] * 3), np.stack([fixed] * 2))
    with pytest.raises(TypeError, match="complex"):
        sa.prepare_pair(fixed, fixed + 1j)
    for smooth in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="smooth"):
            sa.prepare_pair(fixed, fixed, smooth=smooth)
    with pytest.raises(TypeError, match="bool"):
        sa.prepare_pair(fixed, fixed, reference_mask=np.ones((20, 30)))
    with pytest.raises(ValueError, match="mask"):
        sa.prepare_pair(fixed, fixed, moving_mask=np.ones((20, 31), bool))


@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 3), (0, 2, 3), (3, 4, 2, 3), (1, 1, 1, 2, 3)])
def test_matrices_of_another_shape_are_refused(rng, shape):
    fixed = np.stack([image(rng, (20, 30))] * 2)
    with pytest.raises(ValueError, match="matrices must have the shape"):
        sa.score_affine(sa.prepare_pair(fixed, fixed), np.ones(shape))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_matrices_must_be_finite(rng, wrong):
    fixed = image(rng, (20, 30))
    m = np.eye(2, 3)[None].copy()
    m[0, 1, 2] = wrong
    with pytest.raises(ValueError, match="finite"):
        sa.score_affine(sa.prepare_pair(fixed, fixed), m)


def test_an_image_of_too_many_pixels_is_refused():
    huge = np.broadcast_to(np.float32(0.0), (1, 2**16, 2**16))
    with pytest.raises(ValueError, match="in parts"):
        load("cpu").score_affine(huge, huge, np.eye(2, 3)[None, None], 1)


@pytest.mark.parametrize("shape", [(50, 70), (33, 40), (64, 17)])
@pytest.mark.parametrize("rotated", [False, True], ids=["diagonal", "rotated"])
def test_bits_do_not_depend_on_the_batch(rng, shape, rotated):
    fixed, moved = (np.stack([image(rng, shape) for _ in range(3)]) for _ in range(2))
    m = matrices(rng, 9, rotated=rotated, size=min(shape))
    if rotated:
        m[:5, 0, 1] *= 0.1  # nearly level rows are sampled in runs
        m[:5, 1, 0] *= 0.1
    together = sa.score_affine(sa.prepare_pair(fixed, moved), m)
    backwards = sa.score_affine(sa.prepare_pair(fixed[::-1].copy(), moved[::-1].copy()), m)[::-1]
    alone = np.stack([sa.score_affine(sa.prepare_pair(fixed[k], moved[k]), m, workers=1) for k in range(3)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(backwards, alone)
