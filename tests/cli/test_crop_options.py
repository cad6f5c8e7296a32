"""Each option of `stackalign crop` has its effect, seen in what was written."""

import math
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from cli.runner import STACK, crop, results_of, save, strict_json
from crop.oracle import expected_crop, legacy_crop
from stackalign import ops
from stackalign.backends import load

INTEGERS = STACK.astype(np.int16)
INTEGERS[:, 0, 0] = -3


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "in.npy")


def cropped(source: Path, *arguments: object, code: int = 0) -> np.ndarray:
    output = source.with_name("out.npy")
    ran = crop("--input", source, "--output", output, *arguments)
    assert ran.code == code, ran.err
    return np.load(output)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--target-retention", "0.5", "--min-retention", "0.4"], {"target": 0.5}),
        (["--margin-pixels", "0"], {"margin": 0}),
        (["--center-method", "center"], {"center": (15.5, 15.5)}),
        (["--center-method", "manual", "--manual-center", "14", "17.25"], {"center": (14.0, 17.25)}),
        (["--radius-policy", "60", "--min-retention", "0.1"], {"percentile": 60.0}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_of_the_window(arguments: list[str], expected: dict, source: Path) -> None:
    wanted = expected_crop(STACK, **expected)
    np.testing.assert_array_equal(cropped(source, *arguments), wanted.cropped)
    assert results_of(source.with_name("out.npy"))["analysis"]["global_radius"] == wanted.radius
    if expected:
        plain = expected_crop(STACK)
        assert (plain.radius, plain.corners.tolist()) != (wanted.radius, wanted.corners.tolist())


def test_short_names_and_positions(source: Path, tmp_path: Path) -> None:
    assert crop("-i", source, "-o", tmp_path / "a.npy", "-q").code == 0
    assert crop(source, "-o", tmp_path / "b.npy", "-q").code == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_min_retention_decides_the_exit_code(source: Path) -> None:
    too_small = ["--radius-policy", "10", "--margin-pixels", "0"]
    cropped(source, *too_small, code=3)
    cropped(source, *too_small, "--min-retention", "0.01", "--overwrite", code=0)


def chunks_of(source: Path, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Number of chunks of the analysis, counted by the lines of progress."""
    monkeypatch.setattr("stackalign.cli._console.PLAIN_SECONDS", 0.0)
    ran = crop("-i", source, "-o", source.with_name("chunks.npy"), "--overwrite", *arguments)
    assert ran.code == 0
    np.testing.assert_array_equal(np.load(source.with_name("chunks.npy")), expected_crop(STACK).cropped)
    return ran.err.count("analyse: ")


def test_chunk_size(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chunks_of(source, monkeypatch) == 1
    assert chunks_of(source, monkeypatch, "--chunk-size", "5") == 3


def test_memory_limit(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Five buffers of 2 kB per pattern, and some memory for the rows of the results.
    assert chunks_of(source, monkeypatch, "--memory-limit", "30kB") == 6
    assert chunks_of(source, monkeypatch, "--memory-limit", "1GiB") == 1


def test_workers(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = ops.pattern_summary
    seen = []

    def spy(*arguments: object, **options: object) -> object:
        seen.append(options["workers"])
        return summary(*arguments, **options)

    monkeypatch.setattr("stackalign.ops.pattern_summary", spy)
    np.testing.assert_array_equal(cropped(source, "--workers", "2"), expected_crop(STACK).cropped)
    assert seen == [2]


def test_device(source: Path) -> None:
    output = source.with_name("out.npy")
    ran = crop("-i", source, "-o", output, "--device", "cpu", "--json")
    assert strict_json(ran.out)[0]["device"] == "cpu"


@pytest.fixture
def without_cupy(monkeypatch: pytest.MonkeyPatch):
    """The same where there is a GPU: `import cupy` fails."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.mark.usefixtures("without_cupy")
def test_device_cuda_without_one(source: Path, tmp_path: Path) -> None:
    for device in ("cuda", "cuda:1"):
        ran = crop("-i", source, "-o", tmp_path / "out.npy", "--device", device)
        assert ran.code == 1
        assert ran.errors == [ran.err.strip()]
        assert "--device cuda" in ran.err
        assert 'pip install "stackalign[gpu13]"' in ran.err
        assert not (tmp_path / "out.npy").exists()


@pytest.mark.usefixtures("without_cupy")
def test_use_gpu_without_one(source: Path) -> None:
    output = source.with_name("out.npy")
    ran = crop("-i", source, "-o", output, "--use-gpu", "--json")
    assert ran.code == 0
    assert [line for line in ran.err.splitlines() if line.startswith("warning: --use-gpu, but CuPy is not installed")]
    assert strict_json(ran.out)[0]["device"] == "cpu"
    np.testing.assert_array_equal(np.load(output), expected_crop(STACK).cropped)
    assert crop("-i", source, "-o", output, "--use-gpu", "--overwrite", "--quiet").err == ""


def test_overwrite(source: Path) -> None:
    first = cropped(source)
    before = source.with_name("out.npy").read_bytes()
    ran = crop("-i", source, "-o", source.with_name("out.npy"), "--margin-pixels", "1")
    assert ran.code == 1
    assert "out.npy exists; choose another name or allow it to be replaced (--overwrite)" in ran.errors[0]
    assert source.with_name("out.npy").read_bytes() == before
    assert cropped(source, "--margin-pixels", "1", "--overwrite").shape < first.shape


def test_resume(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cropped(source, "--chunk-size", "3")
    again = source.with_name("again.npy")
    wanted = ["-i", source, "-o", again, "--chunk-size", "3"]
    say = "stackalign.cli._console.say"
    with monkeypatch.context() as patch:
        patch.setattr("stackalign.cli._console.PLAIN_SECONDS", 0.0)
        patch.setattr(say, lambda text: text.startswith("crop: 6/12") and signal.raise_signal(signal.SIGINT))
        ran = crop(*wanted)
    assert ran.code == 1
    assert "the same command with --resume goes on from here" in ran.err
    assert not again.exists()
    assert again.with_name("again.npy.partial").is_dir()
    ran = crop(*wanted, "--resume")
    assert ran.code == 0
    assert "analyse:" not in ran.err  # it is not done again
    assert "crop: 3/3" in ran.err
    np.testing.assert_array_equal(np.load(again), whole)
    assert not again.with_name("again.npy.partial").exists()


@pytest.mark.parametrize("kind", ["npy", "tif", "h5"])
def test_mask(kind: str, source: Path, tmp_path: Path) -> None:
    valid = np.ones(STACK.shape[1:], bool)
    valid[:, 20:] = False
    file = tmp_path / f"mask.{kind}"
    if kind == "npy":
        np.save(file, valid)
    elif kind == "tif":
        tifffile.imwrite(file, valid.astype(np.uint8) * 255)
    else:
        with h5py.File(file, "w") as handle:
            handle["a/mask"] = valid.astype(np.uint8)
    wanted = expected_crop(STACK, mask=valid)
    np.testing.assert_array_equal(cropped(source, "--mask", file), wanted.cropped)
    assert wanted.corners.tolist() != expected_crop(STACK).corners.tolist()


def test_negative(tmp_path: Path) -> None:
    source = save(tmp_path / "in.npy", INTEGERS)
    manual = ["--center-method", "center", "--margin-pixels", "40"]  # the whole frame, with its negative pixels
    assert cropped(source, *manual).min() == -3
    np.testing.assert_array_equal(cropped(source, *manual, "--negative", "clip", "--overwrite"), INTEGERS.clip(0))
    ran = crop("-i", source, "-o", tmp_path / "no.npy", "--negative", "error")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "pattern 0 of" in ran.errors[0]
    assert "use --negative keep or clip" in ran.errors[0]


def test_nan(tmp_path: Path) -> None:
    stack = STACK.astype(np.float32)
    stack[4, 0, 0] = np.nan
    source = save(tmp_path / "in.npy", stack)
    assert cropped(source).shape[0] == 12
    assert results_of(tmp_path / "out.npy")["analysis"]["excluded"] == [4]
    ran = crop("-i", source, "-o", tmp_path / "no.npy", "--nan", "error")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "pattern 4 of" in ran.errors[0]
    assert "use --nan mask" in ran.errors[0]


def test_legacy_window(source: Path) -> None:
    wanted, radius, _ = legacy_crop(STACK, 0.98, 3)
    np.testing.assert_array_equal(cropped(source, "--legacy-window", "--min-retention", "0.1"), wanted)
    assert wanted.shape[1:] == (2 * radius, 2 * radius)


def test_reuse_analysis(source: Path, tmp_path: Path) -> None:
    first = expected_crop(STACK)
    cropped(source)
    other = save(tmp_path / "other.npy", np.roll(STACK, 3, axis=1))
    ran = crop("-i", other, "-o", tmp_path / "b.npy", "--reuse-analysis", tmp_path / "out_results.json")
    assert ran.code in (0, 3)
    assert "radius and centres are those of out_results.json" in ran.err
    wanted = expected_crop(np.load(other), radius=first.radius, centers=first.centers)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), wanted.cropped)


def test_strict(tmp_path: Path) -> None:
    stack = STACK.copy()
    stack[5] = 0
    source = save(tmp_path / "in.npy", stack)
    cropped(source, code=0)
    cropped(source, "--strict", "--overwrite", code=3)
    assert results_of(tmp_path / "out.npy")["analysis"]["excluded"] == [5]


def test_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["one"], file["two"] = STACK, STACK[:7]
        file["three"] = STACK
    output = tmp_path / "out.npy"
    assert crop("-i", tmp_path / "in.h5", "-o", output).code == 1
    assert crop("-i", tmp_path / "in.h5", "-o", output, "--dataset", "two").code == 0
    np.testing.assert_array_equal(np.load(output), expected_crop(STACK[:7]).cropped)


@pytest.mark.parametrize("shape", ["12,32,32", "3,4,32,32", "12x32x32"])
def test_raw_binary(shape: str, tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(b"head!" + STACK.astype(">u2").tobytes())
    raw = ["--shape", shape, "--dtype", ">u2"]
    values = cropped(tmp_path / "in.bin", *raw, "--offset", "5")
    assert values.shape[:-2] == ((3, 4) if shape.startswith("3,") else (12,))
    np.testing.assert_array_equal(values.reshape(12, *values.shape[-2:]), expected_crop(STACK).cropped)
    ran = crop("-i", tmp_path / "in.bin", "-o", tmp_path / "b.npy", *raw)
    assert ran.code == 1
    assert f"{STACK.nbytes + 5} bytes" in ran.errors[0]


def test_scan_shape(source: Path) -> None:
    assert cropped(source, "--scan-shape", "3,4").shape[:2] == (3, 4)
    assert results_of(source.with_name("out.npy"))["analysis"]["scan_shape"] == [3, 4]


def test_center_fit(tmp_path: Path) -> None:
    y, x = np.indices((40, 40))
    centers = [(15 + 0.5 * i, 20 - 0.25 * j) for i in range(5) for j in range(4)]
    stack = np.array([np.where(np.hypot(y - cy, x - cx) < 7, 100, 0) for cy, cx in centers], np.uint16)
    stack[7] = np.roll(stack[7], 9, axis=1)
    source = save(tmp_path / "in.npy", stack.reshape(5, 4, 40, 40))
    cropped(source, "--min-retention", "0.1")
    measured = results_of(tmp_path / "out.npy")["analysis"]
    assert measured["center_fit"] is None
    assert math.dist(measured["centers"][7], centers[7]) > 5
    cropped(source, "--center-fit", "plane", "--min-retention", "0.1", "--overwrite")
    fitted = results_of(tmp_path / "out.npy")["analysis"]
    np.testing.assert_allclose(fitted["centers"], centers, atol=0.3)
    np.testing.assert_allclose(fitted["center_fit"]["coefficients"], [(15, 20), (0.5, 0), (0, -0.25)], atol=0.3)
    assert math.dist(fitted["measured_centers"][7], centers[7]) > 5


def test_compression(source: Path, tmp_path: Path) -> None:
    for name, wanted in (("none", 0), ("lz4", 1), ("zstd", 1)):
        assert crop("-i", source, "-o", tmp_path / f"{name}.zarr", "--compression", name).code == 0
        array = zarr.open_array(tmp_path / f"{name}.zarr", mode="r")
        assert len(array.compressors) == wanted
        assert wanted == 0 or name in str(array.compressors).lower()
    assert crop("-i", source, "-o", tmp_path / "a.h5", "--compression", "zstd").code == 0
    ran = crop("-i", source, "-o", tmp_path / "a.npy", "--compression", "zstd")
    assert ran.code == 1
    assert "cannot be compressed (zstd was asked for); write .zarr or .h5 instead" in ran.errors[0]


def test_test_mode(tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    ran = crop("--test-mode", "--test-patterns", "7", "--test-size", "48", "-o", output)
    assert ran.code == 0
    results = results_of(output)["analysis"]
    assert results["original_shape"] == [48, 48]
    assert np.load(output).shape == (7, 1, *results["cropped_shape"])
    assert results["cropped_shape"] < [48, 48]  # there is something to crop
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "out_results.json"]


def test_background_type_layout_and_one_window(source: Path) -> None:
    save(source, STACK.astype(np.uint16) + np.uint16(2))
    plain = cropped(source, "--background", "corner")
    whole = cropped(source, "--overwrite")
    assert plain.shape[1] < whole.shape[1]
    typed = cropped(source, "--background", "2", "--output-dtype", "float32", "--layout", "NCHW", "--overwrite")
    assert (typed.dtype, typed.shape) == (np.float32, (len(plain), 1, *plain.shape[1:]))
    np.testing.assert_array_equal(typed[:, 0], plain)
    one = cropped(source, "--background", "0%", "--one-window", "--overwrite")
    assert one.shape[1] >= plain.shape[1]


def test_faults_are_left_out_by_themselves(source: Path) -> None:
    stack = STACK.astype(np.uint16)
    clean = expected_crop(stack).cropped
    stack[:, 2] = 65535
    save(source, stack)
    ran = crop(source, "-o", source.with_name("a.npy"), "--mask", "auto")
    assert "mask auto: 32 pixels left out" in ran.err
    assert np.load(source.with_name("a.npy")).shape == clean.shape
    assert "row 2" in crop(source, "-o", source.with_name("b.npy")).err


def test_axes_and_skipped_frames(source: Path) -> None:
    expected = cropped(source)
    save(source, np.moveaxis(STACK, 0, 2))
    np.testing.assert_array_equal(cropped(source, "--axes", "yxN", "--overwrite"), expected)
    save(source, np.concatenate([STACK[:2] + 1, STACK]))
    np.testing.assert_array_equal(cropped(source, "--skip-frames", "2", "--overwrite"), expected)
    save(source, np.insert(STACK, [4, 8, 12], 99, axis=0))
    rows = cropped(source, "--skip-per-row", "1", "--scan-shape", "3,4", "--overwrite")
    np.testing.assert_array_equal(rows.reshape(expected.shape), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--background", "much"], 'background must be a number, "corner" or a percentile'),
        (["--output-dtype", "complex64"], "output_dtype must be an integer or float type"),
        (["--layout", "HWC"], "layout must be one of input, NHW, NCHW"),
        (["--one-window", "--legacy-window"], "one_window cannot be combined with legacy_window"),
    ],
)
def test_wrong_values_of_new_options(arguments: list[str], message: str, source: Path) -> None:
    ran = crop(source, "-o", source.with_name("a.npy"), *arguments)
    assert ran.code == 2
    assert message in ran.err
