"""Templates within images: scikit-image and plain sums as oracles, and what must not change a score."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import feature

import stackalign as sa

TOLERANCE = 1e-5


def image(rng, shape):
    """Structure of a few pixels on an offset, half of it twenty times weaker."""
    values = gaussian_filter(rng.normal(size=shape), (*(0,) * (len(shape) - 2), 1.5, 1.5))
    values[..., shape[-1] // 2 :] *= 0.05
    return 3.0 + values


def cut(rng, images, shape, n):
    """Pieces of images with noise and a gain, and where they come from."""
    corners = np.stack([rng.integers(0, a - b + 1, n) for a, b in zip(images.shape[-2:], shape, strict=True)], axis=1)
    pieces = np.stack([images[..., y : y + shape[0], x : x + shape[1]] for y, x in corners])
    return 2.0 * pieces + 0.1 * pieces.std() * rng.normal(size=pieces.shape), corners


def pearson(a, b, valid):
    a, b = a[valid] - a[valid].mean(), b[valid] - b[valid].mean()
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("shape", "small"), [((60, 71), (20, 17)), ((64, 64), (60, 50)), ((30, 40), (30, 40))])
def test_equals_scikit_image(rng, shape, small, dtype):
    whole = image(rng, shape).astype(dtype)
    templates, corners = cut(rng, whole, small, 3)
    templates = templates.astype(dtype)
    found = sa.match_template(whole, templates)
    wanted = np.stack([feature.match_template(whole.astype(float), t.astype(float)) for t in templates])
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() <= TOLERANCE
    single = sa.match_template(whole, templates[0])
    np.testing.assert_array_equal(single, found[0])
    bright = corners[:, 1] + small[1] < shape[1] // 2
    for scores, corner in zip(found[bright], corners[bright], strict=True):
        np.testing.assert_array_equal(np.unravel_index(scores.argmax(), scores.shape), corner)


def test_images_that_belong_together(rng):
    whole = image(rng, (4, 50, 61)) * np.array([1.0, 20.0, 0.1, 5.0])[:, None, None]
    templates, _ = cut(rng, whole, (21, 30), 3)
    joint = sa.match_template(whole, templates)
    wanted = np.stack([feature.match_template(whole, t)[0] for t in templates])
    assert np.abs(joint - wanted).max() <= TOLERANCE
    each = sa.match_template(whole, templates, combine="each")
    wanted = np.stack(
        [[feature.match_template(i, t) for i, t in zip(whole, several, strict=True)] for several in templates]
    )
    assert each.shape == (3, 4, 30, 32)
    assert np.abs(each - wanted).max() <= TOLERANCE
    np.testing.assert_array_equal(sa.match_template(whole, templates[1], combine="each"), each[1])
    same = sa.match_template(whole, templates[:, 2:3], combine="each")
    np.testing.assert_array_equal(same[:, 2], each[:, 2])


@pytest.mark.parametrize("masks", ["image", "template", "both", "each template", "nan"])
def test_masks_equal_plain_sums(rng, masks):
    whole = rng.normal(size=(2, 26, 31))
    templates, _ = cut(rng, whole, (11, 14), 3)
    valid, wanted_valid = np.ones(whole.shape, bool), np.ones(templates.shape, bool)
    options = {}
    if masks in ("image", "both", "nan"):
        valid = rng.random(whole.shape) < 0.8
        options["image_mask"] = valid
    if masks in ("template", "both"):
        wanted_valid[:] = rng.random(templates.shape[1:]) < 0.7
        options["template_mask"] = wanted_valid[0]
    if masks in ("each template", "nan"):
        wanted_valid = rng.random(templates.shape) < 0.7
        options["template_mask"] = wanted_valid
    if masks == "nan":
        whole, templates, options = np.where(valid, whole, np.nan), np.where(wanted_valid, templates, np.inf), {}
    found = sa.match_template(whole, templates, **options)
    for k, y, x in ((0, 0, 0), (1, 15, 17), (2, 3, 9), (0, 7, 2)):
        part = np.s_[:, y : y + 11, x : x + 14]
        score = pearson(whole[part], templates[k], valid[part] & wanted_valid[k])
        assert abs(found[k, y, x] - score) <= TOLERANCE
    each = sa.match_template(whole, templates, combine="each", **options)
    score = pearson(whole[1, 3:14, 9:23], templates[2, 1], valid[1, 3:14, 9:23] & wanted_valid[2, 1])
    assert abs(each[2, 1, 3, 9] - score) <= TOLERANCE


def test_bits_do_not_depend_on_workers_or_the_other_templates(rng):
    whole = image(rng, (2, 40, 52))
    templates, _ = cut(rng, whole, (12, 19), 7)
    found = sa.match_template(whole, templates, workers=1)
    np.testing.assert_array_equal(sa.match_template(whole, templates, workers=3), found)
    np.testing.assert_array_equal(sa.match_template(whole, templates[2:5]), found[2:5])


def test_gain_and_offset_change_nothing_but_the_sign(rng):
    whole = image(rng, (40, 52))
    templates, _ = cut(rng, whole, (12, 19), 2)
    found = sa.match_template(whole, templates)
    np.testing.assert_allclose(sa.match_template(whole * 7 - 3, templates / 5 + 1), found, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(sa.match_template(-whole, templates), -found, rtol=0, atol=TOLERANCE)


def test_what_does_not_vary_scores_nothing(rng):
    whole = image(rng, (20, 30))
    whole[:, 10:20] = 2.0
    template = whole[:8, :9].copy()
    found = sa.match_template(whole, np.stack([template, np.full_like(template, 0.1)]))
    np.testing.assert_array_equal(found[0, :, 10:12], 0.0)
    np.testing.assert_array_equal(found[1], 0.0)
    assert found[0, 0, 0] == pytest.approx(1.0, abs=1e-6)


def test_what_is_refused(rng):
    whole = image(rng, (3, 20, 30))
    template = whole[:, :5, :6].copy()
    with pytest.raises(ValueError, match='combine must be "joint" or "each"'):
        sa.match_template(whole, template, combine="sum")
    with pytest.raises(ValueError, match="templates must have the axes of images"):
        sa.match_template(whole, template[0])
    with pytest.raises(ValueError, match="templates must have the axes of images"):
        sa.match_template(whole[0], template[None])
    with pytest.raises(ValueError, match="one plane for each of 3 images, or one for all"):
        sa.match_template(whole, template[:2])
    with pytest.raises(ValueError, match="no larger than images"):
        sa.match_template(whole[0], rng.normal(size=(21, 5)))
    with pytest.raises(ValueError, match="mask must have the shape"):
        sa.match_template(whole, template, template_mask=np.ones((6, 5), bool))
    with pytest.raises(TypeError, match="boolean"):
        sa.match_template(whole, template, image_mask=np.ones((20, 30)))
    with pytest.raises(TypeError, match="complex"):
        sa.match_template(whole, template + 1j)
    with pytest.raises(ValueError, match="workers"):
        sa.match_template(whole, template, workers=0)
