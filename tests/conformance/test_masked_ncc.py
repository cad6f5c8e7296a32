"""Masked correlation over all shifts: scikit-image and plain sums as oracles, and what must not change a score."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation
from skimage.registration._masked_phase_cross_correlation import cross_correlate_masked

import stackalign as sa

TOLERANCE = 1e-6


def scene(rng, shape, *, margin=30, noise=0.1, dtype=np.float64):
    """Structure of a few pixels, deviation near 1, with room around it to be shifted."""
    smooth = gaussian_filter(rng.normal(size=(shape[0] + 2 * margin, shape[1] + 2 * margin)), 1.5)
    return (smooth / smooth.std() + noise * rng.normal(size=smooth.shape)).astype(dtype)


def cut(values, shape, dy, dx, margin=30):
    """The part of a scene whose content has to move by (dy, dx) to lie on the part with (0, 0)."""
    return values[margin + dy : margin + dy + shape[0], margin + dx : margin + dx + shape[1]].copy()


def block(shape):
    """A beam block with rounded corners of the frame, True = valid."""
    y, x = np.indices(shape)
    valid = ~((y < 0.6 * shape[0]) & (np.abs(x - 0.52 * shape[1]) < 0.05 * shape[1]))
    return valid & (np.hypot(y / shape[0] - 0.5, x / shape[1] - 0.5) < 0.65)


def pearson(reference, moving, r_mask, v_mask, lag):
    """Two-pass coefficient over the pixels that are valid in both, and their number."""
    pairs = [
        (reference[y, x], moving[y - lag[0], x - lag[1]])
        for y in range(max(0, lag[0]), min(reference.shape[0], moving.shape[0] + lag[0]))
        for x in range(max(0, lag[1]), min(reference.shape[1], moving.shape[1] + lag[1]))
        if r_mask[y, x] and v_mask[y - lag[0], x - lag[1]]
    ]
    r, v = np.array(pairs).T
    r, v = r - r.mean(), v - v.mean()
    return (r * v).sum() / np.sqrt((r * r).sum() * (v * v).sum()), len(pairs)


def skimage_map(reference, moving, r_mask, v_mask, overlap_ratio):
    """scikit-image's map, its axes turned to ours."""
    turned = cross_correlate_masked(moving, reference, v_mask, r_mask, axes=(0, 1), overlap_ratio=overlap_ratio)
    return turned[::-1, ::-1]


@pytest.mark.parametrize(
    ("masked", "overlap_ratio"), [("both", 0.3), ("reference", 0.6), ("moving", 0.3), ("none", 0.6), ("none", 0.1)]
)
@pytest.mark.parametrize(("shape", "small"), [((64, 64), (64, 64)), ((47, 90), (60, 31)), ((200, 120), (200, 120))])
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_equals_scikit_image(rng, shape, small, masked, overlap_ratio, mean):
    whole = scene(rng, np.maximum(shape, small))
    r = cut(whole, shape, 0, 0) * 3 + mean
    v = cut(whole, small, 5, -9) + mean + 0.1 * rng.normal(size=small)
    r_mask = block(shape) if masked in ("both", "reference") else np.ones(shape, bool)
    v_mask = rng.random(small) < 0.9 if masked in ("both", "moving") else np.ones(small, bool)
    found = sa.masked_ncc(r, v, reference_mask=r_mask, moving_mask=v_mask, overlap_ratio=overlap_ratio)
    wanted = skimage_map(r, v, r_mask, v_mask, overlap_ratio)
    assert np.abs(found.scores - wanted).max() <= TOLERANCE
    assert found.scores.dtype == np.float32
    assert found.origin == (small[0] - 1, small[1] - 1)
    peak = found.shift_at(np.unravel_index(found.scores.argmax(), found.scores.shape))
    assert peak == (5, -9)


def test_equals_plain_sums(rng):
    shape, small = (31, 40), (26, 44)
    r, v = rng.normal(size=shape), rng.normal(size=small)
    r_mask, v_mask = rng.random(shape) < 0.7, rng.random(small) < 0.8
    found = sa.masked_ncc(r, v, reference_mask=r_mask, moving_mask=v_mask, overlap_ratio=0.1)
    lags = [(0, 0), (3, 0), (0, -7), (-11, 13), (14, -15), (-15, -21)]
    at = [pearson(r, v, r_mask, v_mask, lag) for lag in lags]
    scores = [found.scores[lag[0] + found.origin[0], lag[1] + found.origin[1]] for lag in lags]
    np.testing.assert_allclose(scores, [score for score, _ in at], rtol=0, atol=TOLERANCE)
    best = np.unravel_index(found.scores.argmax(), found.scores.shape)
    result = sa.masked_shift(r, v, reference_mask=r_mask, moving_mask=v_mask, overlap_ratio=0.1, subpixel=False)
    np.testing.assert_array_equal(result.shift, found.shift_at(best))
    score, n = pearson(r, v, r_mask, v_mask, found.shift_at(best))
    np.testing.assert_allclose(result.score, score, rtol=0, atol=TOLERANCE)
    assert result.overlap == n / r.size


@pytest.mark.parametrize("max_shift", [0, 1, 12, (3, 20), (500, 2)])
def test_a_window_is_a_part_of_the_whole(rng, max_shift):
    shape, small = (50, 61), (44, 70)
    whole = scene(rng, (50, 70))
    r, v = cut(whole, shape, 0, 0), cut(whole, small, 2, 1)
    mask = block(shape)
    complete = sa.masked_ncc(r, v, reference_mask=mask, overlap_ratio=0.0)
    window = sa.masked_ncc(r, v, reference_mask=mask, overlap_ratio=0.0, max_shift=max_shift)
    y, x = np.broadcast_to(max_shift, 2)
    oy, ox = complete.origin
    part = complete.scores[oy - min(y, 43) : oy + y + 1, ox - x : ox + x + 1]
    assert window.scores.shape == part.shape
    assert window.origin == (min(y, 43), min(x, 69))
    np.testing.assert_allclose(window.scores, part, rtol=0, atol=1e-4 if y > 12 else TOLERANCE)


def test_whole_pixel_shift_equals_scikit_image(rng):
    shape = (96, 110)
    mask = block(shape)
    whole = scene(rng, shape, noise=0.5)
    r = cut(whole, shape, 0, 0)
    shifts = rng.integers(-20, 21, (12, 2))
    stack = np.stack([cut(whole, shape, *s) + 0.3 * rng.normal(size=shape) for s in shifts])
    stack[:, ~mask] = 50.0
    found = sa.masked_shift(r, stack, reference_mask=mask, moving_mask=mask, subpixel=False)
    wanted = [phase_cross_correlation(r, v, reference_mask=mask, moving_mask=mask)[0] for v in stack]
    np.testing.assert_array_equal(found.shift, wanted)
    np.testing.assert_array_equal(found.shift, shifts)


@pytest.fixture
def problem(rng):
    """A reference, five moving images, and masks; some images have invalid pixels of their own."""
    shape = (60, 71)
    whole = scene(rng, shape, dtype=np.float32)
    stack = np.stack([cut(whole, shape, 3 * k, -2 * k) for k in range(5)])
    stack[2, 10:30, 5:12] = np.nan
    stack[4, :, 50:] = np.inf
    return cut(whole, shape, 0, 0), stack, {"reference_mask": block(shape), "moving_mask": rng.random(shape) < 0.9}


def arrays(problem, **options):
    reference, stack, masks = problem
    options = {**masks, **options}
    result = sa.masked_shift(reference, stack, **options)
    return [sa.masked_ncc(reference, stack, **options).scores, *vars(result).values()]


@pytest.mark.parametrize("max_shift", [None, 9])
@pytest.mark.parametrize("workers", [2, 5])
def test_bits_do_not_depend_on_the_number_of_workers(problem, workers, max_shift):
    one, several = (arrays(problem, workers=n, max_shift=max_shift) for n in (1, workers))
    for a, b in zip(one, several, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("own_masks", [False, True, None])
def test_bits_do_not_depend_on_the_rest_of_the_stack(problem, rng, own_masks):
    reference, stack, masks = problem
    if own_masks is None:  # some images are whole, some are not: each has its own way
        masks = {"moving_mask": None}
    elif own_masks:
        masks = {**masks, "moving_mask": rng.random(stack.shape) < 0.9}
    whole = arrays((reference, stack, masks))
    for k in range(len(stack)):
        own = {**masks, "moving_mask": masks["moving_mask"][k] if own_masks else masks["moving_mask"]}
        for a, b in zip(arrays((reference, stack[k], own)), whole, strict=True):
            np.testing.assert_array_equal(a, b[k])


def test_one_reference_for_each_image(problem):
    reference, stack, masks = problem
    references = np.stack([reference, reference[::-1], stack[1], reference, stack[0]])
    found = arrays((references, stack, masks))
    for k, r in enumerate(references):
        for a, b in zip(found, arrays((r, stack[k], masks)), strict=True):
            np.testing.assert_array_equal(a[k], b)
    one_moving = arrays((references, stack[0], masks))
    for a, b in zip(one_moving, arrays((references[3], stack[0], masks)), strict=True):
        np.testing.assert_array_equal(a[3], b)


def test_nan_is_a_mask(problem):
    reference, stack, masks = problem
    marked = np.where(masks["moving_mask"], stack, np.nan), np.where(masks["reference_mask"], reference, np.nan)
    for a, b in zip(arrays((marked[1], marked[0], {})), arrays(problem), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("under", [0.0, 1e30, -np.inf, np.nan])
def test_what_is_under_the_mask_is_not_seen(problem, under):
    reference, stack, masks = problem
    hidden = np.where(masks["reference_mask"], reference, under).astype(np.float32)
    covered = np.where(masks["moving_mask"], stack, under).astype(np.float32)
    for a, b in zip(arrays((hidden, covered, masks)), arrays(problem), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gain_and_offset_change_nothing_but_the_sign(problem):
    reference, stack, masks = (problem[0].astype(np.float64), problem[1].astype(np.float64), problem[2])
    scores = arrays(problem)[0]
    for gain, offset in ((3.7, -11.0), (1e-3, 0.5)):
        same = arrays((gain * reference + offset, stack * gain - offset, masks))
        np.testing.assert_allclose(same[0], scores, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(same[1], arrays(problem)[1], rtol=0, atol=1e-4)
        opposite = arrays((reference, offset - gain * stack, masks))[0]
        np.testing.assert_allclose(opposite, -scores, rtol=0, atol=TOLERANCE)


def test_exchanged_images_have_the_opposite_shifts(problem):
    reference, stack, masks = problem
    there = sa.masked_ncc(reference, stack, **masks)
    back = sa.masked_ncc(stack, reference, reference_mask=masks["moving_mask"], moving_mask=masks["reference_mask"])
    np.testing.assert_allclose(back.scores, there.scores[:, ::-1, ::-1], rtol=0, atol=TOLERANCE)
    one, other = (
        arrays(p)[1] for p in (problem, (stack, reference, dict(zip(masks, [*masks.values()][::-1], strict=True))))
    )
    np.testing.assert_allclose(one, -other, rtol=0, atol=1e-4)


def test_a_moved_scene_moves_the_answer(rng):
    shape = (70, 60)
    whole = scene(rng, shape)
    mask = block(shape)
    stack = np.stack([cut(whole, shape, dy, dx) for dy, dx in ((0, 0), (7, 0), (0, -11), (-9, 8))])
    found = sa.masked_shift(stack[0], stack, reference_mask=mask, moving_mask=mask)
    np.testing.assert_allclose(found.shift, [[0, 0], [7, 0], [0, -11], [-9, 8]], rtol=0, atol=0.05)
    np.testing.assert_allclose(found.score, 1.0, rtol=0, atol=TOLERANCE)
    assert (found.second_score < 0.7).all()
    assert found.overlap[0] == mask.mean()


def test_repeated_structure_has_a_second_peak(rng):
    tile = scene(rng, (16, 16), margin=0)
    image = np.tile(tile, (6, 6)) + 0.05 * rng.normal(size=(96, 96))
    found = sa.masked_shift(image, image)
    assert found.second_score > 0.95
    assert sa.masked_shift(image, image, max_shift=0).second_score == 0.0


def test_nothing_to_correlate(rng):
    image = scene(rng, (30, 31), margin=0)
    empty = np.full_like(image, np.nan)
    for other in (np.full_like(image, 7.0), empty, np.zeros_like(image)):
        for pair in ((image, other), (other, image), (other, other)):
            assert (sa.masked_ncc(*pair).scores == 0.0).all()
            result = sa.masked_shift(*pair)
            np.testing.assert_array_equal(result.shift, [0.0, 0.0])
            assert (result.score, result.second_score, result.overlap) == (0.0, 0.0, 0.0)


def test_noise_of_the_transforms_is_no_match(rng):
    # Constant but for a bright half: where the dark parts lie on each other there is nothing but rounding.
    image = np.zeros((64, 64))
    image[:, :20] = 1e3 * (1.0 + rng.random((64, 20)))
    other = image[:, ::-1] + 1e-6 * rng.random((64, 64))
    found = sa.masked_ncc(image, other, overlap_ratio=0.2)
    truth = skimage_map(image, other, np.ones((64, 64), bool), np.ones((64, 64), bool), 0.2)
    assert np.abs(found.scores).max() <= 1.0
    assert (found.scores <= truth + 1e-3).all()
    dark = found.scores[found.origin[0], found.origin[1] + 40]
    assert dark == 0.0


@pytest.mark.parametrize("size", [255, 256, 521])
def test_large_images(rng, size):
    shape = (size, size)
    whole = scene(rng, shape, dtype=np.float32)
    mask = block(shape)
    r, v = cut(whole, shape, 0, 0), cut(whole, shape, 13, -7)
    found = sa.masked_ncc(r, v, reference_mask=mask, moving_mask=mask)
    wanted = skimage_map(r.astype(np.float64), v.astype(np.float64), mask, mask, 0.3)
    assert np.abs(found.scores - wanted).max() <= TOLERANCE


def test_what_is_refused(rng):
    image = scene(rng, (20, 30), margin=0)
    for options in ({"max_shift": -1}, {"max_shift": 1.5}, {"max_shift": (1, 2, 3)}, {"max_shift": (1, -2)}):
        with pytest.raises(ValueError, match="max_shift must be a whole number of pixels"):
            sa.masked_ncc(image, image, **options)
    for ratio in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="overlap_ratio must be from 0 to 1"):
            sa.masked_shift(image, image, overlap_ratio=ratio)
    with pytest.raises(ValueError, match="as many images as each other"):
        sa.masked_ncc(np.stack([image] * 2), np.stack([image] * 3))
    with pytest.raises(TypeError, match="complex"):
        sa.masked_ncc(image, image + 1j)
    with pytest.raises(TypeError, match="boolean"):
        sa.masked_ncc(image, image, moving_mask=np.ones((20, 30)))
    with pytest.raises(ValueError, match="mask must have the shape"):
        sa.masked_ncc(image, image, reference_mask=np.ones((20, 31), bool))
    with pytest.raises(ValueError, match="workers"):
        sa.masked_ncc(image, image, workers=0)
    with pytest.raises(TypeError, match="NumPy or CuPy"):
        sa.masked_ncc(image, image.tolist())


@pytest.mark.parametrize(
    ("sigma", "noise", "limit"), [(0.5, 0.05, 0.01), (0.7, 1.0, 0.03), (1.5, 0.2, 0.01), (4, 0.1, 0.02)]
)
def test_fractions_of_a_pixel_under_a_fixed_block(rng, sigma, noise, limit):
    n, margin = 192, 20
    shape = (n + 2 * margin,) * 2
    frequencies = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    spectrum = np.fft.fft2(rng.normal(size=shape)) * np.exp(
        -2 * (np.pi * sigma) ** 2 * (frequencies[0] ** 2 + frequencies[1] ** 2)
    )
    scale = np.fft.ifft2(spectrum).real.std()

    def view(shift):
        """One continuous scene, periodic and band-limited, sampled elsewhere."""
        moved = np.fft.ifft2(spectrum * np.exp(-2j * np.pi * np.tensordot(shift, frequencies, 1))).real / scale
        return moved[margin:-margin, margin:-margin] + noise * rng.normal(size=(n, n))

    shifts = rng.uniform(-10, 10, (16, 2))
    mask = block((n, n))
    stack = np.where(mask, np.stack([view(s) for s in shifts]), 5.0)
    reference = np.where(mask, view(np.zeros(2)), 5.0)
    found = sa.masked_shift(reference, stack, reference_mask=mask, moving_mask=mask)
    error = found.shift + shifts
    assert np.sqrt((error**2).mean()) <= limit
    assert np.abs(error).max() <= 3 * limit


def test_a_peak_at_the_edge_is_left_where_it_is(rng):
    image = scene(rng, (40, 41), margin=0)
    result = sa.masked_shift(image, image, max_shift=0)
    np.testing.assert_allclose(result.shift, [0.0, 0.0], atol=1e-3)
    single = sa.masked_shift(np.array([[1.0, 5.0, 2.0, 7.0]]), np.array([[5.0, 2.0, 7.0]]), overlap_ratio=1.0)
    np.testing.assert_array_equal(single.shift, [0.0, 1.0])  # no neighbours above and below
