"""What decides on the window and should not is said, with the number and the option that helps."""

import numpy as np
import pytest

from stackalign.crop import CroppingConfig, crop_array, crop_file
from stackalign.crop.detector import find_faults
from stackalign.errors import DataError


def config(**options):
    return CroppingConfig(**{"visualization": False, "verbose": False, **options})


def beams(n=40, frame=(60, 72), sigma=4.0, level=40.0, background=0.0, seed=3, dtype=np.uint16):
    rng = np.random.default_rng(seed)
    y, x = np.indices(frame)
    spot = level * np.exp(-((y - 29) ** 2 + (x - 36) ** 2) / (2 * sigma**2)) + background
    return rng.poisson(spot, (n, *frame)).astype(dtype)


def words(result):
    return " | ".join([*result.analysis.notes, *result.messages])


FAULTS = {
    "one": (np.s_[:, 50, 12], "(y, x) = (50, 12)"),
    "three in an L": ((slice(None), np.array([8, 8, 9]), np.array([60, 61, 60])), "(y, x) = (8, 60) and others"),
    "column": (np.s_[:, :, 5], "column 5"),
    "two rows": (np.s_[:, 52:54], "rows 52 to 53"),
    "half a column": (np.s_[:, 30:, 70], "(y, x) = (30, 70) and others"),
    "cluster": (np.s_[:, 3:7, 3:8], "(y, x) = (3, 3) and others"),
}


@pytest.mark.parametrize("value", [65535, 4000])
@pytest.mark.parametrize("name", FAULTS)
def test_bright_faults_are_named_and_masked(name, value):
    stack, clean = beams(), beams()
    where, place = FAULTS[name]
    stack[where] = value
    _, result = crop_array(stack, config())
    assert place in words(result)
    assert "--mask auto" in words(result)
    expected = crop_array(clean, config())[1]
    _, masked = crop_array(stack, config(), mask="auto")
    assert masked.analysis.window == expected.analysis.window
    count = np.count_nonzero(stack[0] == value)
    assert masked.analysis.notes[0].startswith(f"mask auto: {count} pixel")
    assert "detector faults" not in words(masked)


@pytest.mark.parametrize("where", [np.s_[:, 31], np.s_[:, :, 33:36], np.s_[:, 27, 38], np.s_[:, 26:30, 30:33]])
def test_pixels_without_signal_are_named(where):
    stack = beams(background=0.7)
    stack[where] = 0
    faults = find_faults(stack.mean(axis=0), len(stack), stack.dtype)
    expected = np.zeros(stack.shape, np.bool_)
    expected[where] = True
    np.testing.assert_array_equal(faults.dark, expected[0])
    assert not faults.bright.any()


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.6, 3.0, 8.0])
@pytest.mark.parametrize("background", [0.0, 0.05, 2.0])
def test_a_beam_is_no_fault(sigma, background):
    stack = beams(sigma=sigma, level=3000.0, background=background)
    faults = find_faults(stack.mean(axis=0), len(stack), stack.dtype)
    assert not faults.any.any()


@pytest.mark.parametrize("radius", [1.5, 2.5, 6.0])
def test_sharp_disks_and_a_beam_stop_are_no_faults(radius):
    y, x = np.indices((80, 80))
    rng = np.random.default_rng(1)
    image = np.full((80, 80), 0.3)
    for j in (-1, 0, 1):
        for i in (-1, 0, 1):
            image[(y - 40 - 18 * j) ** 2 + (x - 39 - 18 * i) ** 2 <= radius**2] = 300 if i or j else 3000
    stack = rng.poisson(image, (30, 80, 80)).astype(np.uint16)
    assert not find_faults(stack.mean(axis=0), 30, stack.dtype).any.any()
    stack[:, 20:60, 30:48] = 0
    assert not find_faults(stack.mean(axis=0), 30, stack.dtype).dark.any()


@pytest.mark.parametrize("sigma", [0.5, 3.0])
@pytest.mark.parametrize("offset", [0.0, -0.4, 5.0])
def test_noise_about_a_level_is_no_fault(sigma, offset):
    rng = np.random.default_rng(9)
    clean = beams(level=200.0, dtype=np.float32) + rng.normal(offset, sigma, (40, 60, 72)).astype(np.float32)
    assert not find_faults(clean.mean(axis=0), 40, clean.dtype).any.any()
    clean[:, :, 68] = 300
    faults = find_faults(clean.mean(axis=0), 40, clean.dtype)
    np.testing.assert_array_equal(np.unique(np.argwhere(faults.any)[:, 1]), [68])
    assert faults.bright[:, 68].all()


@pytest.mark.parametrize("dtype", ["u4", "i2", ">u2"])
def test_largest_values_of_other_types(dtype):
    stack = beams(dtype=np.dtype(dtype))
    stack[:, :, 30:33] = np.iinfo(dtype).max
    faults = find_faults(stack.astype(np.float64).mean(axis=0), 40, np.dtype(dtype))
    assert faults.top[:, 30:33].all()
    assert faults.any.sum() == 3 * 60
    assert faults.words() == "180 pixels at the type's largest value (columns 30 to 32)"


def test_single_events_are_no_faults(tmp_path):
    rng = np.random.default_rng(5)
    stack = np.zeros((9, 64, 64), np.uint16)
    y, x = np.indices((64, 64))
    spot = (900 * np.exp(-((y - 30) ** 2 + (x - 33) ** 2) / 10)).astype(np.uint16)
    for pattern in stack:
        pattern += spot
        pattern[rng.integers(0, 64, 60), rng.integers(0, 64, 60)] = 700  # one electron fills a pixel
    stack[:, 55, 7] = 4000
    _, result = crop_array(stack, config())
    assert "detector faults: 1 pixel far above all around them ((y, x) = (55, 7))" in words(result)
    assert crop_array(stack, config(), mask="auto")[1].analysis.notes[0].startswith("mask auto: 1 pixel")


def test_a_margin_of_zeros_is_no_fault():
    stack = np.tile(np.arange(50, dtype=np.uint16), (9, 40, 1))
    assert not find_faults(stack.mean(axis=0), 9, stack.dtype).any.any()


def test_three_patterns_have_nothing_in_common():
    stack = beams(3)
    stack[:, 50] = 65535
    assert not find_faults(stack.mean(axis=0), 3, stack.dtype).any.any()


def test_known_faults_are_not_named_again():
    stack = beams()
    stack[:, 50] = 65535
    mask = np.ones(stack.shape[1:], np.bool_)
    mask[50] = False
    assert "detector faults" not in words(crop_array(stack, config(), mask=mask)[1])
    with pytest.raises(DataError, match='mask must be a boolean frame or "auto"'):
        crop_array(stack, config(), mask="automatic")


@pytest.mark.parametrize("n_odd", [1, 2])
def test_a_few_patterns_that_set_the_radius(n_odd):
    stack = beams(600, (48, 48), 2.5).reshape(20, 30, 48, 48)
    stack = np.roll(stack, (-5, -12), axis=(2, 3))
    rng = np.random.default_rng(7)
    for k in range(n_odd):
        stack[11, 4 + k] = rng.poisson(9, (48, 48))
    _, result = crop_array(stack, config())
    note = next(text for text in result.analysis.notes if "alone ask" in text)
    assert f"{11 * 30 + 4} (scan position 11, 4)" in note
    percentile = float(note.split("--radius-policy ")[1].split()[0])
    _, after = crop_array(stack, config(radius_policy=percentile))
    assert f"saves {after.saved - result.saved:.0%}" in note
    assert after.saved - result.saved > 0.1
    assert not any("alone ask" in text for text in after.analysis.notes)


def test_one_of_a_few_patterns_that_sets_the_radius():
    stack = beams(9, (48, 48), 2.5)
    stack = np.roll(stack, (-5, -12), axis=(1, 2))
    stack[6] = np.random.default_rng(7).poisson(9, (48, 48))
    _, result = crop_array(stack, config())
    note = next(text for text in result.analysis.notes if "alone asks" in text)
    assert note.startswith("pattern 6 alone asks for a radius of ")
    _, after = crop_array(stack, config(radius_policy=float(note.split("--radius-policy ")[1].split()[0])))
    assert f"saves {after.saved - result.saved:.0%}" in note


def test_patterns_alike_are_not_named():
    _, result = crop_array(beams(300, (48, 48), 2.5), config())
    assert not any("alone ask" in text for text in result.analysis.notes)
    assert "background" not in words(result)


@pytest.mark.parametrize("how", [7.0, "corner", "30%"])
def test_pedestal_is_said_and_can_be_taken_off(how):
    plain = beams(background=0)
    stack = plain + np.uint16(7)
    _, before = crop_array(stack, config())
    assert "uniform background of about 7 per pixel" in words(before)
    assert "--background corner" in words(before)
    cropped, after = crop_array(stack, config(background=how))
    expected, reference = crop_array(plain, config())
    assert after.analysis.global_radius == reference.analysis.global_radius
    np.testing.assert_array_equal(cropped, expected + np.uint16(7))
    np.testing.assert_allclose(after.validation.retentions, reference.validation.retentions, atol=1e-6)
    assert "background" not in words(after)
    assert "negative" not in words(after)


@pytest.mark.parametrize(("level", "background"), [(5.0, 0.1), (5.0, 0.3), (40.0, 1.6), (40.0, 0.3)])
def test_the_remedy_for_a_noisy_background_helps(level, background):
    options = {"sigma": 4.5, "level": level, "n": 60, "frame": (64, 64)}
    true = crop_array(beams(**options), config())[1].analysis.global_radius
    stack = beams(**options, background=background)
    _, before = crop_array(stack, config())
    assert "--background corner" in words(before)
    assert "with --radius-policy 50" in words(before)
    after = crop_array(stack, config(background="corner", radius_policy=50, min_retention=0.1))[1]
    assert before.analysis.global_radius > 1.5 * true
    assert after.analysis.global_radius == pytest.approx(true, abs=2)
    assert "more than all" not in words(after)


def test_retention_above_one_is_said(tmp_path):
    stack = beams(dtype=np.float32) - np.float32(0.5)
    _, result = crop_array(stack, config())
    most = result.validation.used.max()
    assert most > 1.01
    assert f"40 of 40 patterns keep more than all of their intensity (up to {most:.3f})" in words(result)
    np.save(tmp_path / "in.npy", stack)
    corrected = crop_file(tmp_path / "in.npy", tmp_path / "out.npy", config(background="corner"))
    assert "more than all" not in words(corrected)
    assert corrected.analysis.global_radius == crop_array(beams(), config())[1].analysis.global_radius


@pytest.mark.parametrize("wrong", ["corners", "101%", "x%", float("nan")])
def test_unknown_backgrounds_are_refused(wrong):
    with pytest.raises(ValueError, match="background"):
        config(background=wrong)
