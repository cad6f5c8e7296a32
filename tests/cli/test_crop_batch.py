"""Several inputs: a failed one stops nothing, names do not collide, parts of a series are no inputs."""

import os
from pathlib import Path

import numpy as np
import pytest

from cli.runner import STACK, crop, io_tests, run, save, strict_json
from crop.oracle import content, digest, disks, expected_crop

SECOND = disks(9, frame=(28, 30), seed=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good files, and a corrupt one between them."""
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.npy")
    (tmp_path / "in" / "b.npy").write_bytes(b"\x93NUMPY and nothing else that makes sense" * 3)
    save(tmp_path / "in" / "c.npy", SECOND)
    return tmp_path / "in"


def inputs(how: str, folder: Path) -> list[object]:
    if how == "folder":
        return [folder]
    if how == "glob":
        return [f"{folder}/*.npy"]
    if how == "options":
        return [part for name in "abc" for part in ("-i", folder / f"{name}.npy")]
    return [folder / "a.npy", folder / "b.npy", "--input", folder / "c.npy"]


@pytest.mark.parametrize("how", ["folder", "glob", "files", "options"])
def test_corrupt_file_fails_alone(how: str, folder: Path, tmp_path: Path) -> None:
    before = digest(folder)
    output = tmp_path / "deep" / "out"
    ran = crop(*inputs(how, folder), "-o", output)
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert str(folder / "b.npy") in ran.errors[0]
    np.testing.assert_array_equal(np.load(output / "cropped_a.npy"), expected_crop(STACK).cropped)
    np.testing.assert_array_equal(np.load(output / "cropped_c.npy"), expected_crop(SECOND).cropped)
    written = {"cropped_a.npy", "cropped_a_results.json", "cropped_c.npy", "cropped_c_results.json"}
    assert {path.name for path in output.iterdir()} == written
    rows = [line.split() for line in ran.out.splitlines()]
    assert [(row[0], row[-1]) for row in rows] == [
        ("output", "status"),
        ("cropped_a.npy", "done"),
        ("cropped_b.npy", "failed"),
        ("cropped_c.npy", "done"),
    ]
    assert digest(folder) == before


def test_json_has_a_row_for_each(folder: Path, tmp_path: Path) -> None:
    ran = crop(folder, "-o", tmp_path / "out", "--json")
    rows = strict_json(ran.out)
    assert [Path(row["input"]).name for row in rows] == ["a.npy", "b.npy", "c.npy"]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[1]["message"] == ran.errors[0].removeprefix("error: ")


def test_failed_counts_more_than_short(folder: Path, tmp_path: Path) -> None:
    too_small = ["--radius-policy", "10", "--margin-pixels", "0"]
    assert crop(folder, "-o", tmp_path / "one", *too_small).code == 1
    (folder / "b.npy").unlink()
    assert crop(folder, "-o", tmp_path / "two", *too_small).code == 3


def test_resume_does_the_rest(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert crop(folder, "-o", output).code == 1
    finished = {path: os.stat(path).st_mtime_ns for path in output.iterdir()}
    save(folder / "b.npy", STACK + 1)
    refused = crop(folder, "-o", output)
    assert refused.code == 1
    assert len(refused.errors) == 2  # a and c exist; b is done, although it stands between them
    (output / "cropped_b.npy").unlink()
    ran = crop(folder, "-o", output, "--resume", "--json")
    assert ran.code == 0
    assert [row["status"] for row in strict_json(ran.out)] == ["complete", "done", "complete"]
    assert ran.err.count("analyse:") == 1
    assert {path: os.stat(path).st_mtime_ns for path in finished} == finished
    np.testing.assert_array_equal(np.load(output / "cropped_b.npy"), expected_crop(STACK + 1).cropped)


def test_one_page_on_all(folder: Path, tmp_path: Path) -> None:
    ran = crop(folder, "-o", tmp_path / "out", "--report", tmp_path / "page.html", "-q")
    assert ran.code == 1
    page = (tmp_path / "page.html").read_text()
    assert "a.npy" in page
    assert "c.npy" in page


def test_no_page_on_nothing(folder: Path, tmp_path: Path) -> None:
    ran = run("crop", "--no-visualization", folder / "b.npy", "-o", tmp_path / "b.npy", "--report", tmp_path / "p.html")
    assert ran.code == 1
    assert "p.html: nothing was cropped" in ran.err
    assert not (tmp_path / "p.html").exists()


def test_same_stem_does_not_collide(tmp_path: Path) -> None:
    stacks = [STACK, STACK + 1, STACK + 2]
    sources = []
    for name, stack in zip(("x", "y", "z"), stacks, strict=True):
        (tmp_path / name).mkdir()
        sources.append(save(tmp_path / name / "a.npy", stack))
    (tmp_path / "x" / "a.mib").write_bytes(io_tests("test_formats").mib_bytes(STACK + 3))
    output = tmp_path / "out"
    ran = crop(*sources, tmp_path / "x" / "a.mib", sources[0], "-o", output, "--json")
    assert ran.code == 0, ran.err
    rows = strict_json(ran.out)
    assert len(rows) == 4  # one is named twice
    written = [Path(row["output"]) for row in rows]
    assert len({path.stem for path in written}) == 4  # results and pictures have names of the stem
    assert written[3].suffix == ".h5"  # Merlin files are not written
    for path, stack in zip(written, [*stacks, STACK + 3], strict=True):
        np.testing.assert_array_equal(content(path), expected_crop(stack).cropped)
        results = strict_json(path.with_name(path.stem + "_results.json").read_text())
        assert results["validation"]["retentions"] == expected_crop(stack).retentions.tolist()


def test_parts_of_a_series_are_no_inputs(tmp_path: Path) -> None:
    from stackalign.cli._plan import plan_jobs

    folder = tmp_path / "in"
    folder.mkdir()
    io_tests("test_hdf5_family").write_master(folder, scan=(3, 4))
    for name in (
        "s_000.tvips",
        "s_001.tvips",
        "s_002.tvips",
        "t_001.tvips",
        "y_data_000001.h5",
        ".hidden.npy",
        "a.txt",
    ):
        (folder / name).touch()
    assert {path.name for path in folder.glob("x*")} == {
        "x.h5", "x_master.h5", "x_data_000001.h5", "x_data_000002.h5"
    }  # fmt: skip
    jobs = plan_jobs([str(folder)], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["s_000.tvips", "t_001.tvips", "x_master.h5", "y_data_000001.h5"]
    for path in folder.iterdir():
        if not path.name.startswith("x"):
            path.unlink()
    ran = crop(folder, "-o", tmp_path / "out", "--json")
    assert ran.code in (0, 3), ran.err
    assert [Path(row["input"]).name for row in strict_json(ran.out)] == ["x_master.h5"]
    assert strict_json(ran.out)[0]["shape"] == [3, 4, 8, 6]


def test_stores_are_inputs_and_no_folders(tmp_path: Path) -> None:
    import zarr

    for name in ("a.zarr", "plain"):
        store = zarr.create_array(str(tmp_path / name), shape=STACK.shape, dtype=STACK.dtype, chunks=(4, 32, 32))
        store[...] = STACK
        assert crop(tmp_path / name, "-o", tmp_path / f"{name}.npy").code == 0
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected_crop(STACK).cropped)


def test_nothing_to_do_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for wrong, message in (
        (tmp_path / "empty", "holds no file that can be read"),
        (tmp_path / "*.mib", "nothing matches"),
    ):
        ran = crop(wrong, "-o", tmp_path / "out")
        assert ran.code == 1
        assert len(ran.errors) == 1
        assert message in ran.errors[0]
        assert str(wrong) in ran.errors[0]
    ran = crop(folder, "-o", folder / "a.npy")
    assert ran.code == 1
    assert "several inputs need a folder" in ran.errors[0]
    np.testing.assert_array_equal(np.load(folder / "a.npy"), STACK)
