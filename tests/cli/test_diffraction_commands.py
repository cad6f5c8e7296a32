"""`stackalign profile` and `stackalign mask`: files in, profiles, masks and pages out."""

import csv
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile

from cli.runner import run, strict_json
from stackalign import diffraction
from stackalign.diffraction import masks_file, profiles_file


@pytest.fixture
def images(rng):
    y, x = np.indices((40, 44))
    ring = 20 + 300 * np.exp(-((np.hypot(y - 19.5, x - 21.25) - 12) ** 2) / 4)
    return rng.poisson(ring, (5, 40, 44)).astype(np.uint16)


@pytest.fixture
def files(tmp_path, images):
    np.save(tmp_path / "a_stack.npy", images[:3])
    tifffile.imwrite(tmp_path / "b_one.tif", images[3])
    np.save(tmp_path / "c_one.npy", images[4])
    mask = np.ones(images[0].shape, bool)
    mask[:20, 18:24] = False
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "mask.npy", mask)
    return tmp_path


def load(path) -> dict[str, np.ndarray]:
    """Read all arrays of a file and close it."""
    with np.load(path) as archive:
        return dict(archive)


CENTER = ("--center", "19.5,21.25")


@pytest.mark.parametrize("extension", [".npz", ".h5", ".csv"])
def test_profiles_of_stacks_images_and_globs(files, images, extension) -> None:
    small = f"{16 * images[0].nbytes}B"  # a stack of three in two pieces
    out = files / f"out{extension}"
    mask = files / "masks" / "mask.npy"
    ran = run("profile", files / "*_stack.npy", files / "b_one.tif", files / "c_one.npy", "-o", out, *CENTER,
              "--mask", mask, "--memory-limit", small, "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    summary = strict_json(ran.out)
    assert summary["images"] == 5
    assert [row["images"] for row in summary["files"] if row["images"]] == [3, 1, 1]
    wanted = diffraction.azimuthal_average(images, (19.5, 21.25), mask=np.load(mask), device="cpu")
    if extension == ".csv":
        with out.open() as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 5 * (wanted.weight[0] > 0).sum()
        some = [float(r["intensity"]) for r in rows if r["file"] == str(files / "a_stack.npy") and r["frame"] == "2"]
        np.testing.assert_allclose(some, wanted.intensity[2][wanted.weight[2] > 0], rtol=1e-9)
        return
    if extension == ".npz":
        found = load(out)
        assert found["source"].tolist() == [str(files / n) for n in ["a_stack.npy"] * 3 + ["b_one.tif", "c_one.npy"]]
        assert found["frame"].tolist() == [0, 1, 2, 0, 0]
    else:
        with h5py.File(out) as h5:
            found = {name: item[...] for name, item in h5.items()}
    for name in ("intensity", "variance", "weight"):
        np.testing.assert_array_equal(found[name], getattr(wanted, name))
    np.testing.assert_array_equal(found["center"], np.tile([19.5, 21.25], (5, 1)))


def test_polar_image_and_page(files, images) -> None:
    out, page = files / "out.npz", files / "page.html"
    arguments = ("profile", files / "a_stack.npy", "-o", out, *CENTER, "--angles", 6, "--angular-bounds", "-30,60",
                 "--radial-bounds", "5,15", "--split", "--report", page)  # fmt: skip
    ran = run(*arguments)
    assert ran.code == 0, ran.err
    found = load(out)
    wanted = diffraction.azimuthal_average(
        images[:3], (19.5, 21.25), n_angles=6, angular_bounds=(-30, 60), radial_bounds=(5, 15), split=True, device="cpu"
    )
    np.testing.assert_array_equal(found["intensity"], wanted.intensity)
    np.testing.assert_allclose(found["angle"], wanted.angle)
    text = page.read_text()
    assert "data:image/png;base64" in text
    assert "a_stack.npy" in text
    again = run(*arguments)
    assert again.code == 1
    assert "exists" in again.errors[0]
    assert run(*arguments, "--overwrite", "--quiet").out == ""


def test_automatic_centre(files, images, monkeypatch) -> None:
    """Each image gets the centre that is found in it, with the mask."""
    asked = []

    def find(stack, *, mask, device, workers):
        asked.append(mask is not None)
        n = len(stack)
        center = np.array([19.5, 21.25]) + np.arange(n)[:, None]
        return SimpleNamespace(center=center, confidence=np.full(n, 0.8), flags=((),) * n)

    monkeypatch.setattr(profiles_file, "autocenter", find, raising=False)
    ran = run("profile", files / "a_stack.npy", "-o", files / "out.npz", "--mask", files / "masks" / "mask.npy")
    assert ran.code == 0, ran.err
    found = load(files / "out.npz")
    np.testing.assert_array_equal(found["center"], [[19.5, 21.25], [20.5, 22.25], [21.5, 23.25]])
    assert asked == [True]
    mask = np.load(files / "masks" / "mask.npy")
    last = diffraction.azimuthal_average(images[2], (21.5, 23.25), mask=mask, device="cpu")
    np.testing.assert_array_equal(found["intensity"][2], last.intensity)


def test_a_damaged_file_does_not_stop_the_others(files) -> None:
    (files / "d.mib").write_bytes(b"MQ1,000001,00384,01,0256,0256,U16,")
    ran = run("profile", files / "c_one.npy", files / "d.mib", "-o", files / "out.npz", *CENTER, "--json")
    assert ran.code == 1
    assert "d.mib" in ran.errors[0]
    assert strict_json(ran.out)["images"] == 1
    assert len(load(files / "out.npz")["intensity"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--center", "5"], 2, "--center must be 2 numbers"),
        (["--center", "a,b"], 2, "--center must be 2 numbers"),
        (["--angular-bounds", "30,30"], 2, "two different angles"),
        (["--step", "0"], 2, "step must be"),
        (["--ellipse", "0.5,0"], 2, "longer axis"),
        (["--mask", "missing.npy"], 1, "does not exist"),
    ],
)
def test_profile_says_what_is_wrong(files, arguments, code, message) -> None:
    ran = run("profile", files / "c_one.npy", "-o", files / "out.npz", *CENTER, *arguments)
    assert ran.code == code
    assert message in ran.errors[0]
    assert not (files / "out.npz").exists()


def test_outputs_that_cannot_be(files) -> None:
    assert run("profile", files / "c_one.npy").code == 2
    assert "known are" in run("profile", files / "c_one.npy", "-o", files / "out.xyz").errors[0]
    assert "does not exist" in run("mask", files / "c_one.npy", "-o", files / "no" / "out.npy").errors[0]
    assert run("mask", files / "c_one.npy").code == 2
    assert "nothing matches" in run("mask", files / "*.none", "-o", files / "out.npy").errors[0]


@pytest.mark.parametrize("extension", [".npy", ".tif", ".h5"])
def test_mask_of_all_files_together(files, images, extension, monkeypatch) -> None:
    monkeypatch.setattr(masks_file, "LEAST_FRAMES", 1)
    monkeypatch.setattr(masks_file, "BLOCK_BYTES", images[0].nbytes)
    stack = images.copy()
    stack[1, 3, 4] = 40000
    np.save(files / "a_stack.npy", stack[:3])
    out, page = files / f"out{extension}", files / "page.html"
    ran = run("mask", files / "*_stack.npy", files / "b_one.tif", files / "c_one.npy", "-o", out, "--max-std", 17,
              "--mask", files / "masks" / "mask.npy", "--json", "--report", page)  # fmt: skip
    assert ran.code == 0, ran.err
    wanted = (stack.std(axis=0) <= 17) & (stack.max(axis=0) <= 30000) & np.load(files / "masks" / "mask.npy")
    if extension == ".npy":
        found = np.load(out)
        assert found.dtype == bool
    elif extension == ".tif":
        found = tifffile.imread(out) != 0
    else:
        with h5py.File(out) as h5:
            found = h5["data"][...] != 0
    np.testing.assert_array_equal(found, wanted)
    summary = strict_json(ran.out)
    assert summary["images"] == 5
    assert summary["valid"] == wanted.sum()
    assert summary["refused"]["above"] == 1
    assert "refused, fluctuating" in page.read_text()
    # What it writes is what --mask reads.
    assert run("profile", files / "c_one.npy", "-o", files / "p.npz", *CENTER, "--mask", out).code == 0


def test_mask_says_what_is_wrong(files) -> None:
    one = files / "c_one.npy"
    for arguments, code, message in [
        (["--limits", "5"], 2, "--limits must be 2 numbers"),
        (["--limits", "9,3"], 2, "smallest, largest"),
        (["--max-std", "-1"], 2, "max_std"),
        (["--dead"], 1, "two images"),
    ]:
        ran = run("mask", one, "-o", files / "out.npy", *arguments)
        assert ran.code == code, ran.err
        assert message in ran.errors[0]
    np.save(files / "other.npy", np.ones((9, 9)))
    assert "have the shape" in run("mask", one, files / "other.npy", "-o", files / "out.npy").errors[0]
    none = run("mask", one, "-o", files / "out.npy", "--limits", "50000,60000")
    assert none.code == 3
    assert not np.load(files / "out.npy").any()
