"""`stackalign align`: files in, aligned files, a table and a page out."""

import json

import numpy as np
import pytest

from cli.runner import run, strict_json
from stackalign.diffraction.synthetic import powder
from stackalign.registration import create_test_pair, random_scene

SHIFTS = [(0.0, 0.0), (2.5, -1.5), (-4.25, 3.0), (6.0, 5.5)]
SHAPE = (96, 80)


@pytest.fixture(scope="module")
def frames():
    scene = random_scene((200, 200), 3)
    pairs = [create_test_pair(SHAPE, "shift", s, scene=scene, noise=0.02, seed=k) for k, s in enumerate(SHIFTS)]
    return pairs[0].reference.astype(np.float32), np.array([p.moving for p in pairs], np.float32)


@pytest.fixture
def files(tmp_path, frames):
    np.save(tmp_path / "reference.npy", frames[0])
    np.save(tmp_path / "stack.npy", frames[1])
    return tmp_path


def write(path, array) -> None:
    """Save an image or a stack in the format of its name."""
    kind = path.suffix
    if kind == ".npy":
        np.save(path, array)
    elif kind == ".tif":
        import tifffile

        tifffile.imwrite(path, array, photometric="minisblack")
    elif kind == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file["entry/image"] = array
    elif kind == ".zarr":
        import zarr

        zarr.create_array(path, shape=array.shape, dtype=array.dtype)[...] = array
    else:
        from astropy.io import fits

        fits.PrimaryHDU(array).writeto(path)


def read(path):
    kind = path.suffix
    if kind == ".npy":
        return np.load(path)
    if kind == ".tif":
        import tifffile

        return tifffile.imread(path)
    if kind == ".h5":
        import h5py

        with h5py.File(path) as file:
            found = []
            file.visititems(lambda _, item: found.append(item[...]) if isinstance(item, h5py.Dataset) else None)
            return found[0]
    if kind == ".zarr":
        import zarr

        opened = zarr.open(path, mode="r")
        return np.asarray(opened[...] if isinstance(opened, zarr.Array) else next(iter(opened.arrays()))[1][...])
    from astropy.io import fits

    return fits.getdata(path)


def test_stack_to_table_and_page(files, frames) -> None:
    from astropy.table import Table

    done = run(
        "align", files / "reference.npy", files / "stack.npy", "-o", files / "aligned.npy", "--table",
        files / "table.ecsv", "--report", files / "page.html", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    summary = strict_json(done.out)[0]
    assert summary["images"] == 4
    assert summary["flagged"] == 0
    table = Table.read(files / "table.ecsv")
    assert str(table["dy"].unit) == "pix"
    np.testing.assert_allclose(np.column_stack([table["dy"], table["dx"]]), SHIFTS, atol=0.02)
    assert np.all(table["sigma_dy"] < 0.02)
    aligned = np.load(files / "aligned.npy")
    assert aligned.shape == frames[1].shape
    for image in aligned:
        both = np.isfinite(image)
        assert np.corrcoef(image[both], frames[0][both])[0, 1] > 0.99
    record = json.loads((files / "aligned_alignment.json").read_text())
    assert record["alignment"]["dy"] == pytest.approx(table["dy"].tolist())
    assert record["provenance"]["parameters"]["model"] == "shift"
    page = (files / "page.html").read_text()
    assert page.count("<img") >= 6
    assert "http" not in page.split("</style>")[-1]
    assert not list(files.glob("*.partial"))


@pytest.mark.parametrize("kind", [".npy", ".tif", ".h5", ".zarr", ".fits"])
def test_single_images_in_every_format(tmp_path, frames, kind) -> None:
    write(tmp_path / f"reference{kind}", frames[0])
    write(tmp_path / f"moving{kind}", frames[1][1])
    out = tmp_path / f"out{kind}"
    done = run("align", tmp_path / f"reference{kind}", tmp_path / f"moving{kind}", "-o", out, "-q")
    assert done.code == 0, done.err
    image = np.squeeze(read(out))
    assert image.shape == SHAPE
    both = np.isfinite(image)
    assert np.corrcoef(image[both], frames[0][both])[0, 1] > 0.99


@pytest.mark.parametrize("kind", [".tif", ".h5", ".zarr", ".fits"])
def test_stacks_in_every_format_against_their_own_frame(tmp_path, frames, kind) -> None:
    write(tmp_path / f"stack{kind}", frames[1])
    out = tmp_path / f"out{kind}"
    done = run("align", tmp_path / f"stack{kind}", "-o", out, "--reference-index", 2, "--json")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out_alignment.json").read_text())
    expected = np.array(SHIFTS) - np.array(SHIFTS[2])
    np.testing.assert_allclose(
        np.column_stack([record["alignment"]["dy"], record["alignment"]["dx"]]), expected, atol=0.03
    )
    assert read(out).shape == frames[1].shape


def test_several_files_into_a_folder(files) -> None:
    np.save(files / "second.npy", np.load(files / "stack.npy")[1:3])
    arguments = ("align", files / "reference.npy", files / "stack.npy", files / "second.npy", "-o", files / "out")
    done = run(*arguments, "--table", files / "all.csv")
    assert done.code == 0, done.err
    assert {p.name for p in (files / "out").glob("*.npy")} == {"aligned_stack.npy", "aligned_second.npy"}
    lines = (files / "all.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 + 2
    assert lines[0].startswith("file,pair,dy,sigma_dy")


def test_flagged_results_exit_3(files, rng) -> None:
    np.save(files / "noise.npy", rng.normal(size=(2, *SHAPE)))
    done = run("align", files / "reference.npy", files / "noise.npy", "-o", files / "out.npy", "--json")
    assert done.code == 3
    assert strict_json(done.out)[0]["flagged"] == 2


def test_a_mask_is_used_and_doubted(files, frames) -> None:
    mask = np.ones(SHAPE, bool)
    mask[20:40, 20:60] = False
    np.save(files / "mask.npy", mask)
    dirty = frames[1].copy()
    dirty[:, 20:40, 20:60] = 1e6
    np.save(files / "dirty.npy", dirty)
    done = run(
        "align",
        files / "reference.npy",
        files / "dirty.npy",
        "-o",
        files / "out.npy",
        "--moving-mask",
        files / "mask.npy",
    )
    assert done.code == 0, done.err
    record = json.loads((files / "out_alignment.json").read_text())
    np.testing.assert_allclose(record["alignment"]["dy"], [s[0] for s in SHIFTS], atol=0.03)
    few = np.zeros(SHAPE, bool)
    few[:2, :60] = True
    np.save(files / "few.npy", few)
    done = run(
        "align", files / "reference.npy", files / "stack.npy", "-o", files / "b.npy", "--mask", files / "few.npy"
    )
    assert done.code == 3
    assert "inverted?" in done.err


def test_existing_output_and_resume(files) -> None:
    arguments = ("align", files / "reference.npy", files / "stack.npy", "-o", files / "out.npy", "-q")
    assert run(*arguments).code == 0
    first = (files / "out.npy").read_bytes()
    again = run(*arguments)
    assert again.code == 1
    assert "exists" in again.errors[0]
    assert run(*arguments, "--resume").code == 0
    assert run(*arguments, "--overwrite").code == 0
    assert (files / "out.npy").read_bytes() == first


def test_interrupted_and_resumed_gives_the_same_bytes(files, frames) -> None:
    from stackalign.chunks import StopRequest
    from stackalign.errors import Interrupted
    from stackalign.registration.files import align_file

    settings = {"memory_limit": SHAPE[0] * SHAPE[1] * 40 * 2, "model": "shift"}  # one frame at a time
    whole = align_file(files / "stack.npy", files / "whole.npy", files / "reference.npy", **settings)
    stop = StopRequest()

    def after_two(state) -> None:
        if state.done >= 2:
            stop.request()

    with pytest.raises(Interrupted):
        align_file(
            files / "stack.npy", files / "parts.npy", files / "reference.npy", progress=after_two, stop=stop, **settings
        )
    assert not (files / "parts.npy").exists()
    rest = align_file(files / "stack.npy", files / "parts.npy", files / "reference.npy", resume=True, **settings)
    assert (files / "parts.npy").read_bytes() == (files / "whole.npy").read_bytes()
    np.testing.assert_array_equal(rest.results.parameters, whole.results.parameters)
    stop.request()
    with pytest.raises(Interrupted):
        align_file(files / "stack.npy", files / "c.npy", files / "reference.npy", stop=stop, **settings)
    from stackalign.errors import DataError

    with pytest.raises(DataError, match="belongs to another run"):
        align_file(
            files / "stack.npy", files / "c.npy", files / "reference.npy", resume=True, **{**settings, "model": "rigid"}
        )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "projective", "-o", "x.npy"], 2, "--model must be one of shift"),
        ([], 2, "give an output"),
        (["-o", "x.npy", "--order", "2"], 2, "--order must be 0, 1 or 3"),
        (["-o", "x.npy", "--smooth", "much"], 2, "could not convert"),
        (["-o", "x.npy", "--table", "t.txt"], 2, "--table must end with .csv or .ecsv"),
        (["-o", "x.npy", "--max-shift", "-3"], 2, "max_shift must be a number of pixels"),
        (["-o", "x.jpg"], 2, "no known extension"),
        (["-o", "x.npy", "--reference-index", "7"], 1, "there is no frame 7"),
        (["-o", "x.npy", "--memory-limit", "many"], 2, "many"),
    ],
)
def test_bad_options_are_one_sentence(files, monkeypatch, options, code, message) -> None:
    monkeypatch.chdir(files)
    done = run("align", "reference.npy", "stack.npy", *options)
    assert done.code == code
    assert any(message in line for line in done.errors), done.err
    assert {p.name for p in files.iterdir()} == {"reference.npy", "stack.npy"}


def test_bad_files_are_one_sentence(files, monkeypatch) -> None:
    monkeypatch.chdir(files)
    missing = run("align", "reference.npy", "nothing.npy", "-o", "x.npy")
    assert missing.code == 1
    assert "does not exist" in missing.errors[0]
    (files / "torn.npy").write_bytes((files / "stack.npy").read_bytes()[:4000])
    torn = run("align", "reference.npy", "torn.npy", "-o", "x.npy")
    assert torn.code == 1
    assert len(torn.errors) == 1
    np.save(files / "complex.npy", np.ones((2, 20, 20), complex))
    odd = run("align", "reference.npy", "complex.npy", "-o", "x.npy")
    assert odd.code == 1
    assert "complex128" in odd.errors[0]
    assert not (files / "x.npy").exists()
    assert not list(files.glob("*.partial"))


def test_background_takes_a_halo_that_stands_still_away(tmp_path) -> None:
    pattern = powder(256)
    y, x = np.indices(pattern.image.shape)
    halo = 3000 * np.exp(-((y - 127) ** 2 + (x - 127) ** 2) / 5000)
    np.save(tmp_path / "reference.npy", pattern.image + halo)
    np.save(tmp_path / "moved.npy", np.roll(pattern.image, (5, 6), (0, 1)) + halo)
    np.save(tmp_path / "mask.npy", pattern.mask & np.roll(pattern.mask, (5, 6), (0, 1)))
    names = ("reference.npy", "moved.npy", "-o", "out.npy", "--mask", "mask.npy")
    files = [tmp_path / name if name.endswith(".npy") else name for name in names]
    errors = []
    for more in ((), ("--background", 8)):
        ran = run("align", *files, "--overwrite", *more)
        assert ran.code in (0, 3), ran.err
        record = strict_json((tmp_path / "out_alignment.json").read_text())["alignment"]
        errors.append(np.hypot(record["dy"][0] + 5, record["dx"][0] + 6))
    assert errors[0] > 3
    assert errors[1] < 0.5
    assert run("align", *files, "--overwrite", "--background", -1).code == 2


def test_remarks_stand_in_table_json_and_page(files, frames) -> None:
    """A torn image beside a good one: why it is flagged, with numbers, wherever its flag stands."""
    from astropy.table import Table

    torn = frames[1][:2].copy()
    torn[1, :, 40:] = np.roll(frames[1][1], 3, axis=0)[:, 40:]
    np.save(files / "torn.npy", torn)
    done = run(
        "align", files / "reference.npy", files / "torn.npy", "-o", files / "out.npy", "--table",
        files / "table.ecsv", "--report", files / "page.html", "--json",
    )  # fmt: skip
    assert done.code == 3, done.err
    remarks = strict_json(done.out)[0]["remarks"]
    assert set(remarks) == set(strict_json(done.out)[0]["flags"].split())
    assert all(text.startswith("image 1: ") for text in remarks.values())
    table = Table.read(files / "table.ecsv")
    assert not str(table["remarks"][0]).strip("-")
    assert all(flag in table["remarks"][1] for flag in remarks)
    page = (files / "page.html").read_text()
    assert "Displacements of regions" in page
    assert all(f"<code>{flag}</code>: " in page for flag in remarks)
    lines = run("align", files / "reference.npy", files / "torn.npy", "-o", files / "out.npy", "--overwrite")
    assert lines.code == 3
    assert all(flag in lines.out for flag in remarks)
