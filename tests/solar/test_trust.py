"""What a coalignment says when the images are not as its model takes them to be, and is silent about when they are."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

from solar.make import pc_cards, wcs_of
from stackalign import solar
from stackalign.errors import StackalignWarning
from stackalign.plot.solar_report import write_coalignment_report
from stackalign.registration.spikes import without_spikes
from stackalign.solar.apart import far_apart, seconds_between
from stackalign.solar.dead_lines import find_dead_lines
from stackalign.solar.observation import Observation

STEP = 3.2
SHAPE = (150, 160)


def head(shape, step=STEP, center=(0.0, 0.0), roll=0.0):
    made = fits.Header()
    made.update(
        {
            "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
            "CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2, "CRVAL1": center[0], "CRVAL2": center[1],
            "CDELT1": step, "CDELT2": step, "DATE-OBS": "2023-02-03T04:05:06", "RSUN_REF": 695700000.0,
            "DSUN_OBS": 149597870700.0, "HGLN_OBS": 0.0, "HGLT_OBS": 0.0, "TELESCOP": "NONE", "FILENAME": "x.fits",
        }
        | pc_cards(roll, (step, step))
    )  # fmt: skip
    return made


def pair(seed, *, scale=1.0, roll=0.0, noise=0.05, change=None):
    """Target with a wrong header, reference, and the right header; `change` works on the target before its noise."""
    rng = np.random.default_rng(seed)
    parts = [gaussian_filter(rng.standard_normal((340, 340)), size) for size in (1.7, 5.0, 14.0)]
    texture = sum(part / part.std() for part in parts)
    image = 30.0 * np.exp(0.7 * texture / texture.std())
    reference, truth = head(image.shape, 3.0), head(SHAPE, STEP, tuple(rng.uniform(-60, 60, 2)), rng.uniform(-8, 8))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sky = wcs_of(truth).wcs_pix2world(np.stack([x.ravel(), y.ravel()], -1), 0)
    at = wcs_of(reference).wcs_world2pix(sky, 0)
    data = map_coordinates(spline_filter(image), [at[:, 1], at[:, 0]], prefilter=False).reshape(SHAPE)
    if change is not None:
        data = change(data, rng)
    data = data + noise * data.std() * rng.standard_normal(SHAPE)
    angle = np.rad2deg(np.arctan2(truth["PC2_1"], truth["PC1_1"]))
    wrong = truth.copy()
    wrong.update({"CRVAL1": truth["CRVAL1"] + 17.0, "CRVAL2": truth["CRVAL2"] - 11.0, "CDELT1": STEP * scale,
                  "CDELT2": STEP * scale} | pc_cards(angle + roll, (STEP, STEP)))  # fmt: skip
    return (data, wrong), (image, reference), truth


def coalign(target, reference, **settings):
    return solar.coalign(target, reference, **{"max_shift": 12.0, "rotation": None} | settings)


def error(result, truth):
    """(2,) pixels by which the middle of the corrected map is off."""
    middle = [[(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2]]
    return wcs_of(truth).wcs_world2pix(result.corrected_map.wcs.wcs_pix2world(middle, 0), 0)[0] - middle[0]


@pytest.mark.parametrize(
    ("wrong", "word", "value", "model"),
    [({"roll": 1.2}, "roll (degrees) -1.", -1.2, "rigid"), ({"scale": 1.02}, "sx 0.98", 1 / 1.02, "shift+scale")],
    ids=["roll", "pixel length"],
)
def test_what_the_model_holds_is_said(wrong, word, value, model) -> None:
    target, reference, truth = pair(1, **wrong)
    held = coalign(target, reference)
    assert "model_too_small" in held.flags
    assert word in held.to_dict()["flags"]["model_too_small"]
    fitted = coalign(target, reference, model=model)
    assert fitted.ok
    assert fitted["angle" if model == "rigid" else "sx"] == pytest.approx(value, abs=0.02 if model == "rigid" else 1e-3)
    assert np.abs(error(fitted, truth)).max() < 0.05


@pytest.mark.parametrize("wrong", [{"roll": -5.0}, {"scale": 0.94}, {"scale": 1.09}, {"roll": 9.0}])
def test_a_header_that_is_far_off_is_flagged(wrong) -> None:
    target, reference, _ = pair(2, **wrong)
    result = coalign(target, reference)
    assert "model_too_small" in result.flags
    said = dict(zip(result.wanted.names, result.wanted.values, strict=True))
    assert said["sx"] == pytest.approx(1 / wrong.get("scale", 1.0), abs=0.003)
    assert said["angle"] == pytest.approx(-wrong.get("roll", 0.0), abs=0.2)
    assert f"sx {said['sx']:.4g}" in result.to_dict()["flags"]["model_too_small"]
    assert result.to_dict()["wanted"]["values"] == said


@pytest.mark.parametrize(
    ("change", "noise"),
    [
        (None, 0.02),
        (None, 0.6),
        (lambda data, rng: gaussian_filter(data, 1.3), 0.05),
        (lambda data, rng: data**0.7, 0.05),
        (lambda data, rng: data * np.linspace(0.6, 1.4, SHAPE[1]), 0.05),
    ],
    ids=["clean", "noisy", "softer", "gamma", "vignetting"],
)
def test_what_is_harmless_is_not_flagged(change, noise) -> None:
    target, reference, truth = pair(3, change=change, noise=noise)
    result = coalign(target, reference)
    assert result.ok, result.to_dict()["flags"]
    assert np.abs(error(result, truth)).max() < 0.15


def hits(share, height):
    def change(data, rng):
        return data + (rng.random(data.shape) < share) * rng.exponential(height * data.std(), data.shape)

    return change


def columns(kind):
    def change(data, rng):
        width = data.shape[1]
        return {
            "gain": data * (1 + 0.25 * rng.standard_normal(width)),
            "stripes": data + 2.0 * data.std() * rng.standard_normal(width),
        }[kind]

    return change


@pytest.mark.parametrize("change", [hits(0.002, 10), hits(0.02, 15), hits(0.003, 100)], ids=["few", "many", "bright"])
def test_hits_of_cosmic_rays_do_no_harm(change) -> None:
    pulls = []
    for seed in range(3):
        target, reference, truth = pair(seed, change=change)
        result = coalign(target, reference)
        assert result.ok
        off = error(result, truth)
        assert np.abs(off).max() < 0.02
        pulls.append(off / result.sigma)
    assert np.sqrt(np.mean(np.square(pulls))) < 2.2


@pytest.mark.parametrize("kind", ["gain", "stripes", "evolved", "brightenings"])
def test_error_bars_hold_where_the_images_differ(kind) -> None:
    """Residuals that hang together along columns or over structures."""

    def evolved(data, rng):
        new = gaussian_filter(rng.standard_normal(data.shape), 3.5)
        return data + 0.5 * data.std() * new / new.std()

    def brightenings(data, rng):
        new = np.zeros(data.shape)
        new[tuple(rng.integers(0, SHAPE, (12, 2)).T)] = rng.uniform(30, 120, 12) * data.std()
        return data + gaussian_filter(new, 3.0)

    change = {"evolved": evolved, "brightenings": brightenings}.get(kind) or columns(kind)
    pulls = []
    for seed in range(5):
        target, reference, truth = pair(20 + seed, change=change)
        result = coalign(target, reference)
        if result.ok:
            pulls.append(error(result, truth) / result.sigma)
    assert len(pulls) >= 3
    assert np.sqrt(np.mean(np.square(pulls))) < 1.9


def test_lost_columns_that_are_zero() -> None:
    (data, wrong), reference, truth = pair(5)
    data[:, np.random.default_rng(0).random(SHAPE[1]) < 0.4] = 0.0
    result = coalign((data, wrong), reference)
    assert result.ok
    assert np.abs(error(result, truth)).max() < 0.03


def spikes_of(image):
    cleaned = without_spikes(image[None])[0][0]
    return np.isfinite(image) & ~np.isfinite(cleaned)


def test_spikes_are_single_pixels_and_not_structure(rng) -> None:
    image = gaussian_filter(rng.standard_normal((90, 80)), 2.0)
    image = np.exp(2 * image / image.std())
    assert spikes_of(image).mean() < 5e-3
    noisy = image + 0.05 * rng.standard_normal(image.shape)
    hit = rng.random(image.shape) < 0.01
    struck = np.where(hit, noisy + 60 * image.std(), noisy)
    struck[:3] = np.nan
    found = spikes_of(struck)
    assert found[hit & np.isfinite(struck)].mean() > 0.97
    assert found[~hit].mean() < 5e-3
    assert spikes_of(np.round(noisy)).mean() < 5e-3
    assert not spikes_of(np.ones((20, 20))).any()


def test_dead_lines_are_whole_columns_and_rows(rng) -> None:
    image = rng.random((12, 9))
    image[:, 3], image[7] = 0.0, 5.0
    image[2, :4] = 1.0
    image[7, 3] = np.nan
    found = find_dead_lines(image)
    expected = np.zeros(image.shape, bool)
    expected[:, 3], expected[7] = True, True
    expected[7, 3] = expected[2, 3] = False
    assert not found[0, 0]
    assert found[7, [0, 1, 2, 4, 8]].all()


def test_no_warning_of_another_library_reaches_the_user() -> None:
    (data, wrong), reference, _ = pair(6)
    wrong["CUNIT1"] = wrong["CUNIT2"] = "arcsec"
    wrong["MJD-OBS"] = 1.0  # contradicts DATE-OBS, which astropy mends and says so
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        coalign((data, wrong), reference)
    assert not [w for w in said if "stackalign" not in str(w.category)]


@pytest.mark.parametrize(
    ("cards", "words", "flagged"),
    [
        ({"HGLN_OBS": 3.0}, "degrees apart", False),
        ({"HGLN_OBS": 14.0}, "degrees apart", True),
        ({"DATE-OBS": "2023-02-04T10:05:06"}, "were taken 30 hours apart", True),
    ],
    ids=["near", "far", "days"],
)
def test_observers_and_dates_that_are_far_apart(cards, words, flagged) -> None:
    made = head((60, 60))
    one = Observation(solar.as_map((np.ones((60, 60)), made)))
    made.update(cards)
    other = Observation(solar.as_map((np.ones((60, 60)), made)))
    settings = {"rotation": "howard", "sigma": np.array([0.02, 0.02])}
    with pytest.warns(StackalignWarning, match=words):
        found = far_apart(one, other, seconds=seconds_between(one, other), **settings)
    assert ("misfit" in found) == flagged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert far_apart(one, one, seconds=0.0, **settings) == {}


def test_the_page_names_what_stays_uncorrected(tmp_path) -> None:
    (data, wrong), reference, _ = pair(7)
    other = head((60, 90))
    wrong["INSTRUME"], other["INSTRUME"] = "ONE", "TWO"
    hdus = [fits.PrimaryHDU(data, wrong), fits.ImageHDU(np.ones((60, 90)), other, name="SECOND")]
    fits.HDUList(hdus).writeto(tmp_path / "target.fits")
    result = coalign(tmp_path / "target.fits", reference)
    assert result.uncorrected_hdus() == ("SECOND (INSTRUME is TWO, not ONE)",)
    write_coalignment_report(result, tmp_path / "page.html")
    assert "<li>SECOND (INSTRUME is TWO, not ONE)</li>" in (tmp_path / "page.html").read_text()
