"""What `stackalign crop` writes and prints, and how it ends."""

import logging
from pathlib import Path

import numpy as np
import pytest

from cli.runner import STACK, Ran, crop, results_of, run, save, strict_json
from crop.oracle import expected_crop

SEED_KEYS = {
    "analysis": "global_radius retention_radii retention_stats centers original_shape cropped_shape n_patterns "
    "sample_profiles",
    "validation": "mean_retention min_retention max_retention std_retention median_retention retentions "
    "passes_min_threshold passes_target_threshold n_patterns",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "in.npy")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_beside_the_output(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    ran = run("crop", source, "-o", tmp_path / "out.npy", "--report", tmp_path / "page.html")
    assert ran.code == 0, ran.err
    assert names(tmp_path) == ["in.npy", "out.npy", "out_results.json", "out_visualization.png", "page.html"]
    wanted = expected_crop(STACK)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted.cropped)
    picture = (tmp_path / "out_visualization.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 10_000
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert "in.npy" in page
    results = results_of(tmp_path / "out.npy")
    for section, keys in SEED_KEYS.items():
        assert set(keys.split()) <= results[section].keys()
    assert {"processing_time", "config"} <= results.keys()
    assert results["analysis"]["global_radius"] == wanted.radius
    assert results["validation"]["retentions"] == wanted.retentions.tolist()
    assert results["config"]["target_retention"] == 0.98
    assert source.read_bytes() == before


def test_results_are_strict_json_where_numbers_are_missing(tmp_path: Path) -> None:
    stack = STACK.astype(np.float32)
    stack[3] = 0  # its retention is 0 / 0
    stack[4, 1, 1] = np.inf
    ran = crop(save(tmp_path / "in.npy", stack), "-o", tmp_path / "out.npy", "--json")
    assert ran.code == 0
    results = results_of(tmp_path / "out.npy")
    assert results["validation"]["retentions"][3] is None
    assert results["analysis"]["excluded"] == [3, 4]
    assert strict_json(ran.out)[0]["flagged"] == 2


@pytest.mark.parametrize("extension", [".npy", ".pt", ".pth", ".h5", ".hdf5", ".emd", ".zarr"])
def test_every_output_format(extension: str, source: Path, tmp_path: Path) -> None:
    from crop.oracle import content

    if extension in (".pt", ".pth"):
        pytest.importorskip("torch", reason="PyTorch is not installed")
    output = tmp_path / f"out{extension}"
    assert crop(source, "-o", output).code == 0
    np.testing.assert_array_equal(content(output), expected_crop(STACK).cropped)


def test_table_on_stdout_and_the_rest_on_stderr(source: Path, tmp_path: Path) -> None:
    ran = crop(source, "-o", tmp_path / "out.npy")
    wanted = expected_crop(STACK)
    rows = dict(line.split(None, 1) for line in ran.out.splitlines())
    assert list(rows) == ["input", "output", "radius", "retention", "flagged", "time", "status"]
    side = wanted.cropped.shape[1]
    assert rows["radius"].strip() == f"{wanted.radius} px, window {side}x{side}"
    assert rows["status"].strip() == "done"
    assert rows["input"].strip() == f"{source}, 12x32x32"
    lines = [line for line in ran.err.splitlines() if not line.startswith("first use of")]
    assert [line.split(",")[0] for line in lines[:2]] == ["analyse: 12/12 patterns", "crop: 12/12 patterns"]
    assert [line.partition(": ")[2].partition(":")[0] for line in lines[2:]] == [
        "the beam touches the frame's edge (bottom)"  # in the patterns 3 and 10
    ]


def test_json_is_all_of_stdout(source: Path, tmp_path: Path) -> None:
    ran = crop(source, "-o", tmp_path / "out.npy", "--json")
    (row,) = strict_json(ran.out)
    wanted = expected_crop(STACK)
    assert row["status"] == "done"
    assert row["output"] == str(tmp_path / "out.npy")
    assert row["global_radius"] == wanted.radius
    assert row["cropped_shape"] == list(wanted.cropped.shape[1:])
    assert row["min_retention"] == wanted.retentions.min()
    assert row["size_saved"] == 1 - wanted.cropped.nbytes / STACK.nbytes
    assert "analyse" in ran.err


def test_quiet_prints_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = save(tmp_path / "mask.npy", np.pad(np.ones((7, 7)), (12, 13)))  # so little that a warning would be due
    logger = logging.getLogger("stackalign.crop.files")
    check_output = "stackalign.crop.files.check_output"
    monkeypatch.setattr(check_output, lambda *_: logger.warning("kernels are being compiled"))
    arguments = ["-i", source, "--mask", mask, "--min-retention", "0.01", "--strict"]
    loud = crop(*arguments, "-o", tmp_path / "loud.npy")
    assert loud.err.count("kernels are being compiled") == 1  # once, however many commands ran in this process
    assert "leaves 4.8% of the pixels" in loud.err
    quiet = crop(*arguments, "-o", tmp_path / "quiet.npy", "--quiet")
    assert quiet == Ran(loud.code, "", "")
    assert (tmp_path / "quiet.npy").read_bytes() == (tmp_path / "loud.npy").read_bytes()
    assert "kernels are being compiled" in crop(*arguments, "-o", tmp_path / "again.npy").err
    test_mode = ["--test-mode", "--test-patterns", "3", "--test-size", "48"]
    assert crop(*test_mode, "-o", tmp_path / "test.npy", "-q") == Ran(0, "", "")


def test_quiet_still_says_what_failed_and_gives_json(source: Path, tmp_path: Path) -> None:
    ran = crop(tmp_path / "none.npy", "-o", tmp_path / "out.npy", "-q")
    assert ran.code == 1
    assert ran.out == ""
    assert ran.errors == [ran.err.strip()]
    ran = crop(source, "-o", tmp_path / "out.npy", "-q", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert strict_json(ran.out)[0]["status"] == "done"


def test_short_of_min_retention_says_so(source: Path, tmp_path: Path) -> None:
    ran = crop(source, "-o", tmp_path / "out.npy", "--radius-policy", "10", "--margin-pixels", "0", "--json")
    assert ran.code == 3
    assert strict_json(ran.out)[0]["status"] == "short"
    assert "patterns keep less than min_retention 0.95" in ran.err
    assert "raise --radius-policy or --margin-pixels" in ran.err
    assert results_of(tmp_path / "out.npy")["status"] == "short"
    assert not ran.errors
    again = crop(
        source, "-o", tmp_path / "out.npy", "--radius-policy", "10", "--margin-pixels", "0", "--json", "--resume"
    )
    assert again.code == 3  # the output is still short, although there was nothing to do
    assert strict_json(again.out)[0]["message"] == "finished by an earlier run"


def test_resume_of_a_finished_output_with_other_options_is_refused(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    assert crop(source, "-o", output).code == 0
    before = output.read_bytes()
    assert crop(source, "-o", output, "--resume", "--chunk-size", "5", "--workers", "1").code == 0
    other = save(tmp_path / "other.npy", STACK + 1)
    for arguments in ([source, "--margin-pixels", "1"], [other]):
        ran = crop(*arguments, "-o", output, "--resume")
        assert ran.code == 1
        assert "out.npy exists and belongs to another run" in ran.errors[0]
        assert output.read_bytes() == before
    assert crop(source, "-o", output, "--resume", "--margin-pixels", "1", "--overwrite").code == 0
    np.testing.assert_array_equal(np.load(output), expected_crop(STACK, margin=1).cropped)


def test_output_in_a_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert crop(source, "-o", tmp_path / "out").code == 0
    assert names(tmp_path / "out") == ["cropped_in.npy", "cropped_in_results.json"]


def test_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    source = save(tmp_path / "scan[1].npy")
    assert crop(source, "-o", tmp_path / "out.npy").code == 0
    assert (tmp_path / "out.npy").is_file()


def test_report_is_checked_before_the_work(source: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("of an earlier day")
    for wrong, text in (
        (page, "exists"),
        (tmp_path / "none" / "a.html", "in a folder that exists"),
        (tmp_path, "give"),
    ):
        ran = crop(source, "-o", tmp_path / "out.npy", "--report", wrong)
        assert ran.code == 1
        assert len(ran.errors) == 1
        assert str(wrong) in ran.errors[0]
        assert text in ran.errors[0]
    assert names(tmp_path) == ["in.npy", "page.html"]
    assert page.read_text() == "of an earlier day"


def test_picture_without_matplotlib(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ran = run("crop", source, "-o", tmp_path / "out.npy")
    assert ran.code == 0
    assert 'without matplotlib there are no pictures: pip install "stackalign[plot]"' in ran.err
    assert names(tmp_path) == ["in.npy", "out.npy", "out_results.json"]
    page = run("crop", source, "-o", tmp_path / "other.npy", "--report", tmp_path / "page.html")
    assert page.code == 1
    assert 'pip install "stackalign[plot]", or use --no-visualization' in page.errors[0]


USAGE = {
    "target 0": (["--target-retention", "0"], "target_retention must be above 0 and at most 1, got 0.0"),
    "target above 1": (["--target-retention", "1.5"], "target_retention must be above 0 and at most 1, got 1.5"),
    "target NaN": (["--target-retention", "nan"], "target_retention must be above 0"),
    "min above target": (
        ["--target-retention", "0.9"],
        "min_retention must not exceed target_retention (0.9), got 0.95",
    ),
    "margin": (["--margin-pixels", "-1"], "margin_pixels must be a whole number, 0 or more, got -1"),
    "chunk size": (["--chunk-size", "0"], "chunk_size must be a whole number, 1 or more, got 0"),
    "workers": (["--workers", "0"], "workers must be a whole number, 1 or more, got 0"),
    "centre method": (["--center-method", "middle"], "center_method must be one of centroid, center, manual"),
    "no manual centre": (["--center-method", "manual"], "manual_center must be (y, x)"),
    "centre fit": (["--center-fit", "cone"], "center_fit must be one of none, plane, got 'cone'"),
    "negative": (["--negative", "drop"], "negative must be one of keep, clip, error, got 'drop'"),
    "nan": (["--nan", "zero"], "nan must be one of mask, error, got 'zero'"),
    "radius policy": (["--radius-policy", "most"], "--radius-policy must be max or a percentile, got 'most'"),
    "percentile": (["--radius-policy", "101"], 'radius_policy must be "max" or a percentile above 0 and up to 100'),
    "size": (["--memory-limit", "12XB"], "a size must be a positive number with a unit such as MB or GiB, got '12XB'"),
    "device": (["--device", "tpu"], "device must be"),
    "compression": (["--compression", "brotli"], "--compression must be one of none, lz4, zstd, gzip, got 'brotli'"),
    "shape": (["--shape", "12,32,a"], "--shape must be whole numbers separated by commas, got '12,32,a'"),
    "scan shape": (["--scan-shape", "3;4"], "--scan-shape must be whole numbers separated by commas, got '3;4'"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage(name: str, source: Path, tmp_path: Path) -> None:
    arguments, message = USAGE[name]
    ran = crop(source, "-o", tmp_path / "out.npy", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.errors == [ran.err.strip()]
    assert message in ran.errors[0]
    assert names(tmp_path) == ["in.npy"]


@pytest.mark.parametrize("arguments", [["--bogus"], ["--margin-pixels", "many"], ["--manual-center", "3"]])
def test_wrong_command_line(arguments: list[str], source: Path, tmp_path: Path) -> None:
    ran = crop(source, "-o", tmp_path / "out.npy", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert arguments[0] in ran.err
    assert names(tmp_path) == ["in.npy"]


def test_input_and_output_must_be_given(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    for arguments, message in (
        ([source], "give an output with --output"),
        (["-o", output], "give one or more inputs, or --test-mode, not both"),
        ([source, "-o", output, "--test-mode"], "give one or more inputs, or --test-mode, not both"),
        (["-o", output, "--test-mode", "--test-patterns", "0"], "--test-patterns must be at least 1"),
        (["-o", output, "--test-mode", "--test-size", "7"], "--test-size at least 8"),
    ):
        ran = crop(*arguments)
        assert ran.code == 2
        assert len(ran.errors) == 1
        assert message in ran.errors[0]
    assert names(tmp_path) == ["in.npy"]
