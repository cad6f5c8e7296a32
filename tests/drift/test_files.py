"""`drift_file` and `stackalign drift`: frames in, aligned frames, an average and a record out."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli.runner import run
from stackalign.drift import create_test_series, drift_file, estimate_drift, load_drift_file
from stackalign.errors import DataError, FinishedError, Interrupted, StackalignError
from stackalign.runs import StopRequest


@pytest.fixture(scope="module")
def made():
    return create_test_series(12, (64, 72), counts=60, seed=5)


@pytest.fixture
def source(tmp_path: Path, made) -> Path:
    path = tmp_path / "series.npy"
    np.save(path, made.images)
    return path


def test_frames_are_aligned(source: Path, made, tmp_path: Path) -> None:
    done = drift_file(source, tmp_path / "out.npy", average=tmp_path / "mean.tif")
    in_memory = estimate_drift(made.images)
    np.testing.assert_allclose(done.result.shifts, in_memory.shifts, atol=1e-9)
    expected = np.asarray(in_memory.apply(made.images, order=3))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-6, atol=1e-4)
    average = np.asarray(in_memory.average(made.images))
    np.testing.assert_allclose(tifffile.imread(tmp_path / "mean.tif"), average, rtol=1e-5)
    record = json.loads((tmp_path / "out_drift.json").read_text())
    assert record["run"]["status"] == "done"
    loaded = load_drift_file(record)
    np.testing.assert_array_equal(loaded.result.shifts, done.result.shifts)
    np.testing.assert_array_equal(loaded.result.covariance, done.result.covariance)


@pytest.mark.parametrize("extension", [".h5", ".zarr", ".tif", ".fits"])
def test_formats(source: Path, tmp_path: Path, extension: str) -> None:
    from stackalign.io.stacks import open_stack

    drift_file(source, tmp_path / "a.npy")
    drift_file(source, tmp_path / f"b{extension}")
    with open_stack(tmp_path / f"b{extension}") as reader:
        block = np.empty(reader.info.shape, reader.info.dtype)
        reader.read(0, len(block), block)
    np.testing.assert_array_equal(block, np.load(tmp_path / "a.npy"))


def test_bytes_depend_on_neither_memory_nor_workers(source: Path, tmp_path: Path) -> None:
    made = []
    for name, options in (("a", {}), ("b", {"memory_limit": 1 << 21, "workers": 1})):
        drift_file(source, tmp_path / f"{name}.npy", average=tmp_path / f"{name}.tif", **options)
        made.append(((tmp_path / f"{name}.npy").read_bytes(), tifffile.imread(tmp_path / f"{name}.tif").tobytes()))
    assert made[0] == made[1]


def test_an_interrupted_run_goes_on(source: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    drift_file(source, whole)
    for stage in ("drift", "resample"):
        stop = StopRequest()

        def progress(state, stop=stop, stage=stage) -> None:
            if state.stage == stage:
                stop.request()

        with pytest.raises(Interrupted):
            drift_file(source, out, stop=stop, progress=progress, resume=True, memory_limit=1 << 20)
        assert not out.exists()
    drift_file(source, out, resume=True)
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(FinishedError) as finished:
        drift_file(source, out, resume=True)
    assert load_drift_file(finished.value.record).result.shifts.shape == (12, 2)
    with pytest.raises(StackalignError, match="max_step"):
        drift_file(source, out, resume=True, max_step=3.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output": "out.xyz"}, "extension"),
        ({"output": "series.npy"}, "is the input"),
        ({"average": "mean.h6"}, "extension"),
        ({"average": "sub/mean.tif"}, "folder"),
        ({"average": "out.npy"}, "both"),
        ({"reference": 12}, "no frame 12"),
        ({"mask": np.ones((3, 3), np.bool_)}, "mask"),
    ],
)
def test_what_does_not_fit_is_said(source: Path, tmp_path: Path, change: dict, words: str) -> None:
    options = {"output": "out.npy", **change}
    output = tmp_path / options.pop("output")
    if "average" in options:
        options["average"] = tmp_path / options["average"]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=words):
        drift_file(source, output, **options)
    assert sorted(tmp_path.iterdir()) == before


def test_command(source: Path, made, tmp_path: Path) -> None:
    out, table, page = tmp_path / "o.npy", tmp_path / "t.csv", tmp_path / "p.html"
    words = ("drift", source, "-o", out, "--average", tmp_path / "mean.npy", "--table", table, "--max-step", 4)
    ran = run(*words, "--report", page, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    away = np.stack([told["drift"]["dy"], told["drift"]["dx"]], axis=1) - made.shifts
    assert np.abs(away - away.mean(axis=0)).max() < 0.1
    assert len(table.read_text().splitlines()) == 13
    assert "average before and after" in page.read_text()
    again = run(*words, "--resume")
    assert again.code == 0
    assert "finished by an earlier run" in again.err


def test_command_flags_noise(tmp_path: Path) -> None:
    source = tmp_path / "noise.npy"
    np.save(source, np.random.default_rng(1).poisson(3.0, (6, 48, 48)).astype(np.uint16))
    ran = run("drift", source, "-o", tmp_path / "o.npy")
    assert ran.code == 3
    assert "insignificant" in ran.err


def test_command_usage(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.npy"
    assert run("drift", source).code == 2
    (tmp_path / "second.npy").write_bytes(source.read_bytes())
    assert run("drift", source, tmp_path / "second.npy", "-o", out).code == 2
    for words in (("--order", 2), ("--pairs", 0), ("--max-step", -1), ("--table", "t.txt")):
        assert run("drift", source, "-o", out, *words).code == 2
    assert run("drift", tmp_path / "none.npy", "-o", out).code == 1
    assert not out.exists()


def test_a_page_of_a_finished_run_is_not_left_out_in_silence(tmp_path) -> None:
    np.save(tmp_path / "series.npy", create_test_series(4, (32, 32), seed=3).images)
    words = ("drift", tmp_path / "series.npy", "-o", tmp_path / "out.npy")
    assert run(*words).code in (0, 3)
    again = run(*words, "--resume", "--report", tmp_path / "page.html")
    assert "page.html is not written: the pictures were not kept" in " ".join(again.err.split())
    assert not (tmp_path / "page.html").exists()
