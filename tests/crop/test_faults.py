"""One test for each fault of the script that users have: it does not exist here. The numbers are those of the study."""

import json
import subprocess
import sys

import numpy as np
import pytest

from crop.oracle import content, disks, expected_crop, plain
from stackalign import ops
from stackalign.crop import CroppingConfig, DiffractionCropper, Flag, create_test_data, crop_array, crop_file
from stackalign.errors import DataError
from stackalign.io import Calibration, create_stack, open_stack


def config(**options):
    return CroppingConfig(**{"visualization": False, "verbose": False, **options})


def disk(radius=10, frame=(64, 64), center=(31, 33), dtype=np.float32):
    y, x = np.indices(frame)
    return ((y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2).astype(dtype)


def strict_json(path):
    def refuse(word):
        raise AssertionError(word)

    return json.loads(path.read_text(), parse_constant=refuse)


def test_01_path_may_be_a_string(tmp_path):
    _, results = DiffractionCropper(config()).process_dataset(disks(5), save_path=str(tmp_path / "out.npy"))
    assert np.load(tmp_path / "out.npy").shape[1:] == results["analysis"]["cropped_shape"]
    result = crop_file(str(tmp_path / "out.npy"), str(tmp_path / "again.npy"), config())
    assert result.output_name == str(tmp_path / "again.npy")


def test_02_missed_target_is_said():
    data = create_test_data(60, 64, 0.1, seed=1)
    _, clamped = crop_array(data, config(legacy_window=True, min_retention=0.975))
    assert clamped.validation.n_below_min > 0
    assert clamped.status == "short"
    count, lowest = clamped.validation.n_below_min, clamped.validation.used.min()
    assert f"{count} of 60 patterns keep less than min_retention 0.975 (lowest {lowest:.4f}" in clamped.messages[0]
    assert "clamped to half the frame: drop --legacy-window" in clamped.messages[0]
    _, result = crop_array(data, config(min_retention=0.975))
    assert result.status == "done"
    assert result.messages == ()
    assert result.validation.used.min() >= 0.98


def test_03_last_row_and_column_are_kept():
    pattern = disk()
    assert pattern.sum() == 317
    exact = {"margin_pixels": 0, "target_retention": 1.0}
    cropped, result = crop_array(pattern[None], config(**exact))
    assert result.analysis.global_radius == 10
    assert cropped.shape == (1, 21, 21)
    assert cropped.sum() == 317
    assert result.validation.retentions.tolist() == [1.0]
    legacy, short = crop_array(pattern[None], config(legacy_window=True, **exact))
    assert legacy.shape == (1, 20, 20)
    assert legacy.sum() == 315
    assert short.validation.n_below_target == 1
    assert any("keep less than target_retention 1" in message for message in short.messages)


@pytest.mark.parametrize("center", [(3.7, 4.2), (31.0, 4.7), (60.3, 59.9)])
def test_03_window_that_begins_off_frame_is_not_shifted(center):
    pattern = disk(6, center=center)
    cropped, result = crop_array(pattern[None], config(center_method="manual", manual_center=center, margin_pixels=4))
    top, left = np.floor(center).astype(int) - result.analysis.window_before
    height, width = result.analysis.window
    padded = np.pad(pattern, 40)
    np.testing.assert_array_equal(cropped[0], padded[40 + top :, 40 + left :][:height, :width])


def test_04_hot_pixel_is_flagged_and_moves_nothing():
    clean = np.stack([disk(10, center=(31 + k % 3, 33)) * 100 for k in range(12)])
    stack = clean.copy()
    stack[4, 2, 2] = 1e6
    _, expected = crop_array(clean[np.arange(12) != 4], config())
    cropped, result = crop_array(stack, config())
    assert np.flatnonzero(result.analysis.flags).tolist() == [4]
    assert result.analysis.flags[4] == Flag.HOT_PIXEL
    assert result.analysis.excluded.tolist() == [k == 4 for k in range(12)]
    assert result.analysis.global_radius == expected.analysis.global_radius
    assert np.hypot(*(result.analysis.measured_centers[4] - (32, 33))) > 20
    assert result.analysis.centers[4].tolist() == np.median(expected.analysis.centers, axis=0).tolist()
    assert cropped[4].sum() == clean[4].sum()
    assert "1 of 12 patterns are left out as flagged (hot pixel 1)" in result.messages[0]


def test_04_hot_pixel_of_all_patterns_is_named_and_can_be_masked():
    stack = np.stack([disk(10) * 100] * 6)
    stack[:, 5, 60] = 1e6
    _, result = crop_array(stack, config())
    assert not result.analysis.excluded.any()
    assert any("6 of 6" in note and "(5, 60)" in note and "--mask" in note for note in result.analysis.notes)
    mask = np.ones((64, 64), bool)
    mask[5, 60] = False
    _, masked = crop_array(stack, config(), mask=mask)
    assert masked.analysis.global_radius == 13
    assert not masked.analysis.flags.any()


def test_05_one_bad_pattern_does_not_set_the_radius():
    stack = np.stack([disk(8) * 50 for _ in range(40)])
    stack[7] = np.random.default_rng(1).poisson(2.0, (64, 64))  # no probe, only scatter
    _, largest = crop_array(stack, config())
    assert largest.analysis.global_radius > 30
    assert largest.analysis.largest()[0] == 7
    _, result = crop_array(stack, config(radius_policy=95.0))
    assert result.analysis.global_radius == 11
    assert result.status == "short"
    assert "pattern 7" in result.messages[0]


@pytest.mark.parametrize(("percentile", "radius"), [(50.0, 7), (90.0, 11), (89.0, 11), (88, 10), (1.0, 3), (100, 11)])
def test_05_percentile_takes_a_radius_that_occurs(percentile, radius):
    stack = np.stack([disk(r) for r in range(2, 12)])
    options = {"target_retention": 1.0, "margin_pixels": 0, "min_retention": 0.01}
    _, result = crop_array(stack, config(radius_policy=percentile, **options))
    assert result.analysis.radii.tolist() == list(range(2, 12))
    assert result.analysis.global_radius == radius


def test_06_negative_empty_nan_and_half_precision():
    stack = np.stack([disk(7) * 100 for _ in range(9)])
    stack[2] = 0
    stack[3] -= 0.05
    stack[5, 0, 0] = np.nan
    stack[6, 1, 1] = -np.inf
    _, result = crop_array(stack, config())
    assert result.analysis.flags.tolist() == [0, 0, Flag.EMPTY, Flag.NEGATIVE, 0, *[Flag.NON_FINITE] * 2, 0, 0]
    assert result.analysis.global_radius == 10
    assert np.isnan(result.validation.retentions).tolist() == [k == 2 for k in range(9)]
    assert result.validation.retentions[[5, 6]].tolist() == [1.0, 1.0]
    stats = result.to_dict()["analysis"]["retention_stats"]
    assert (stats["min"], stats["max"]) == (7, 7)  # the empty pattern's radius is in no statistic
    half = np.stack([disk(7) * 1000] * 3).astype(np.float16)  # sums to 149,000, twice what float16 can hold
    cropped, result = crop_array(half, config())
    assert cropped.dtype == np.float16
    assert result.analysis.total.tolist() == [149000.0] * 3
    assert result.validation.retentions.tolist() == [1.0] * 3


@pytest.mark.parametrize("center", [(200, 200), (-1, 30), (30, 64), (63.6, 0)])
def test_07_center_off_the_frame_is_refused(center):
    with pytest.raises(DataError, match=r"manual_center \(.*\) lies outside the 64 x 64 patterns"):
        crop_array(disk()[None], config(center_method="manual", manual_center=center))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("side", [8, 3, 2, 1])
def test_07_tiny_frames(side, legacy):
    stack = np.random.default_rng(side).integers(1, 50, (5, side, side)).astype(np.uint16)
    cropped, result = crop_array(stack, config(legacy_window=legacy, min_retention=0.1))
    assert cropped.size > 0
    assert cropped.shape[1:] == result.analysis.window
    if not legacy:
        np.testing.assert_array_equal(cropped, expected_crop(stack).cropped)
        assert result.validation.retentions.tolist() == [1.0] * 5
    else:
        assert result.validation.used.min() > 0


def test_08_json_is_strict(tmp_path):
    stack = disks(12, dtype=np.float32)
    stack[1] = 0
    stack[2, 3, 3] = np.nan
    np.save(tmp_path / "in.npy", stack)
    crop_file(tmp_path / "in.npy", tmp_path / "out.npy", config())
    stored = strict_json(tmp_path / "out_results.json")
    assert stored["validation"]["retentions"][1] is None
    assert stored["analysis"]["flags"][:3] == [0, Flag.EMPTY, Flag.NON_FINITE]


def test_08_json_is_bounded(tmp_path):
    rng = np.random.default_rng(2)
    tiny = rng.integers(1, 9, (100_002, 4, 4)).astype(np.uint8)
    np.save(tmp_path / "in.npy", tiny)
    result = crop_file(tmp_path / "in.npy", tmp_path / "out.npy", config(chunk_size=50_000))
    stored = strict_json(tmp_path / "out_results.json")
    assert (tmp_path / "out_results.json").stat().st_size < 50_000
    assert stored["analysis"]["retention_radii"] == {"file": "out_results.npz", "array": "retention_radii"}
    with np.load(tmp_path / "out_results.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["retention_radii"], result.analysis.radii)
        np.testing.assert_array_equal(arrays["retentions"], result.validation.retentions)
        np.testing.assert_array_equal(arrays["centers"], result.analysis.centers)
    again = crop_file(tmp_path / "in.npy", tmp_path / "b.npy", config(), reuse=tmp_path / "out_results.json")
    np.testing.assert_array_equal(again.analysis.centers, result.analysis.centers)
    for damage in (lambda file: file.write_bytes(file.read_bytes()[:999]), lambda file: file.unlink()):
        damage(tmp_path / "out_results.npz")
        with pytest.raises(DataError, match=r"points to out_results\.npz, which cannot be read"):
            crop_file(tmp_path / "in.npy", tmp_path / "c.npy", config(), reuse=tmp_path / "out_results.json")


@pytest.mark.parametrize("extension", [".h5", ".emd", ".zarr"])
def test_09_scan_shape_and_calibration_are_carried(extension, tmp_path):
    stack = disks(24)
    scale = Calibration((0.1, 0.25), "1/nm", (20.0, 18.0), (2.0, 3.0), "nm")
    with create_stack(tmp_path / "in.h5", stack.shape, stack.dtype, scan_shape=(4, 6), calibration=scale) as writer:
        writer.write(stack)
        writer.finish({})
    result = crop_file(tmp_path / "in.h5", tmp_path / f"out{extension}", config())
    corners = expected_crop(stack).corners
    with open_stack(tmp_path / f"out{extension}") as reader:
        assert reader.info.scan_shape == (4, 6)
        found = reader.info.calibration
    assert found.pixel_size == pytest.approx(scale.pixel_size)
    assert found.scan_step == pytest.approx(scale.scan_step)
    assert (found.units, found.scan_units) == (scale.units, scale.scan_units)
    assert found.origin == pytest.approx((result.analysis.centers - corners).mean(axis=0))


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from stackalign.crop import CroppingConfig, crop_file

folder = Path(sys.argv[1])
config = CroppingConfig(visualization=False, memory_limit=16_000_000, workers=1)

def write(name, n):
    stack = np.lib.format.open_memmap(folder / name, "w+", "<u2", (n, 256, 256))
    stack[:, 120:136, 118:140] = 7  # the rest is a hole in the file
    stack.flush()

def highest():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

write("small.npy", 200)
write("large.npy", 1600)
# The pages of the memory map that wrote them count as resident, so that the crops run in processes of their own.
"""

MEASURE = (
    MEMORY.split("\nwrite(")[0]
    + """
crop_file(folder / "small.npy", folder / "a.npy", config)
before = highest()
result = crop_file(folder / "large.npy", folder / "b.npy", config)
print(result.input_bytes, highest() - before, result.analysis.n_patterns)
"""
)


def test_10_memory_does_not_grow_with_the_file(tmp_path):
    for script in (MEMORY, MEASURE):
        child = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert child.returncode == 0, child.stderr
    size, growth, n = (int(word) for word in child.stdout.split())
    assert (size, n) == (1600 * 256 * 256 * 2, 1600)
    assert growth < 24_000_000  # an eighth of the file; the limit of the buffers and some slack


def test_11_one_call_for_a_chunk(monkeypatch):
    calls = []
    original = ops.pattern_summary

    def counted(patterns, *arguments, **options):
        calls.append(len(patterns))
        return original(patterns, *arguments, **options)

    monkeypatch.setattr(ops, "pattern_summary", counted)
    crop_array(disks(23), config(chunk_size=10))
    assert calls == [10, 10, 3]


def test_12_out_of_memory_halves_the_chunk_and_says_so(monkeypatch, caplog):
    stack = disks(23)
    expected, result = crop_array(stack, config())
    for name in ("pattern_summary", "crop_windows"):
        original = getattr(ops, name)

        def small(patterns, *arguments, original=original, **options):
            if len(patterns) > 6:
                raise MemoryError("out of memory")
            return original(patterns, *arguments, **options)

        monkeypatch.setattr(ops, name, small)
    cropped, found = crop_array(stack, config())
    np.testing.assert_array_equal(cropped, expected)
    assert plain(found) == plain(result)
    assert "out of memory); going on with 11 patterns at a time" in caplog.text
    monkeypatch.setattr(ops, "pattern_summary", lambda *a, **k: (_ for _ in ()).throw(MemoryError("none at all")))
    with pytest.raises(MemoryError, match="none at all"):
        crop_array(stack, config())


def test_13_nothing_is_loaded_that_is_not_used():
    script = """
import sys
import numpy as np
from stackalign.crop import CroppingConfig, crop_array
crop_array(np.eye(16)[None], CroppingConfig(visualization=False))
print(sorted({"dask", "torch", "matplotlib", "h5py", "zarr", "cupy"} & set(sys.modules)))
"""
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert child.stdout == "[]\n"


def test_13_radial_profiles_are_those_of_the_patterns():
    stack = disks(23)
    profiles = crop_array(stack, config())[1].analysis.profiles
    assert [p.index for p in profiles] == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    y, x = np.indices(stack.shape[1:])
    for profile in profiles:
        squared = (y - profile.center[0]) ** 2 + (x - profile.center[1]) ** 2
        for radius, share in enumerate(profile.cumulative):
            assert share == stack[profile.index][squared <= radius**2].sum() / stack[profile.index].sum()
        assert profile.cumulative[-1] == 1.0


def test_14_progress_has_a_total_and_results_say_where_they_come_from(tmp_path):
    np.save(tmp_path / "in.npy", disks(23))
    seen = []
    result = crop_file(
        tmp_path / "in.npy", tmp_path / "out.npy", config(chunk_size=5), progress=seen.append, command="crop it"
    )
    for stage in ("analyse", "crop"):
        states = [p for p in seen if p.stage == stage]
        assert [p.done for p in states] == [5, 10, 15, 20, 23]
        assert {p.total for p in states} == {23}
        assert states[-1].bytes_done == result.input_bytes
        assert states[-1].remaining == 0
    record = strict_json(tmp_path / "out_results.json")["provenance"]
    assert record["command"] == "crop it"
    assert record["inputs"][0]["path"] == str(tmp_path / "in.npy")
    assert record["inputs"][0]["fingerprint"]
    assert record["parameters"]["target_retention"] == 0.98
    assert set(record["versions"]) >= {"stackalign", "python", "numpy"}
    assert content(tmp_path / "out.npy").shape == (23, *result.analysis.window)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32])
def test_15_totals_of_integers_are_exact(dtype):
    largest = np.iinfo(dtype).max
    stack = np.full((3, 48, 48), largest, dtype)
    stack[1, 7, 9] = 1
    stack[2] = np.random.default_rng(1).integers(0, largest, (48, 48), dtype, endpoint=True)
    _, result = crop_array(stack, config())
    assert result.analysis.total.tolist() == [sum(map(int, p.ravel())) for p in stack]
