"""Signals of HyperSpy in Zarr: what is written is decoded by hand, by RosettaSciIO, and read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from stackalign import io
from stackalign.crop import CroppingConfig, crop_file
from stackalign.errors import DataError
from stackalign.io.regions import RegionTarget

numcodecs = pytest.importorskip("numcodecs", reason="Zarr is not installed")

SHAPE = (3, 4, 6, 8)
DATA = np.random.default_rng(11).integers(0, 999, SHAPE, np.uint16)
SCALE = io.Calibration((0.1, 0.2), "1/nm", (3.0, 4.0), (0.5, 0.25), "nm")
SIGNAL = Path("Experiments") / "__unnamed__"


def write(path: Path, compression: str | None = None) -> None:
    with io.create_stack(
        path, (12, 6, 8), np.uint16, scan_shape=(3, 4), calibration=SCALE, compression=compression
    ) as writer:
        writer.write(DATA.reshape(12, 6, 8))
        writer.finish({"software": "test"}, {"centers": np.ones((12, 2))})


def decoded(array: Path) -> np.ndarray:
    """The array of a store of Zarr 2 with folders, from its description and its files alone."""
    described = json.loads((array / ".zarray").read_text())
    assert described["zarr_format"] == 2
    assert described["dimension_separator"] == "/"
    assert described["order"] == "C"
    codec = described["compressor"] and numcodecs.get_codec(described["compressor"])
    chunks = described["chunks"]
    whole = np.zeros([-(-n // c) * c for n, c in zip(described["shape"], chunks, strict=True)], described["dtype"])
    grid = [n // c for n, c in zip(whole.shape, chunks, strict=True)]
    for index in np.ndindex(*grid):
        raw = array.joinpath(*map(str, index)).read_bytes()
        values = np.frombuffer(codec.decode(raw) if codec else raw, described["dtype"]).reshape(chunks)
        whole[tuple(slice(k * c, (k + 1) * c) for k, c in zip(index, chunks, strict=True))] = values
    return whole[tuple(slice(n) for n in described["shape"])]


@pytest.mark.parametrize("compression", [None, "none", "zstd"])
def test_the_store_is_a_signal(compression: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.zspy"
    write(path, compression)
    np.testing.assert_array_equal(decoded(path / SIGNAL / "data"), DATA)
    np.testing.assert_array_equal(decoded(path / "centers"), np.ones((12, 2)))
    assert json.loads((path / ".zattrs").read_text())["file_format"] == "ZSpy"
    axes = [json.loads((path / SIGNAL / f"axis-{k}" / ".zattrs").read_text()) for k in range(4)]
    assert [axis["navigate"] for axis in axes] == [True, True, False, False]
    assert [axis["size"] for axis in axes] == list(SHAPE)
    np.testing.assert_allclose([axis["scale"] for axis in axes], (0.5, 0.25, 0.1, 0.2))
    np.testing.assert_allclose([axis["offset"] for axis in axes], (0, 0, -0.3, -0.8))
    assert [axis["units"] for axis in axes] == ["nm", "nm", "1/nm", "1/nm"]
    for folder in (path, path / "Experiments", path / SIGNAL, path / SIGNAL / "metadata" / "General"):
        assert json.loads((folder / ".zgroup").read_text()) == {"zarr_format": 2}


def test_it_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "a.zspy")
    with io.open(tmp_path / "a.zspy") as reader:
        block = np.empty((12, 6, 8), np.uint16)
        reader.read(0, 12, block)
        assert reader.info.scan_shape == (3, 4)
        scale = reader.info.calibration
    np.testing.assert_array_equal(block.reshape(SHAPE), DATA)
    assert scale is not None
    np.testing.assert_allclose(scale.pixel_size, SCALE.pixel_size)
    np.testing.assert_allclose(scale.origin, SCALE.origin)
    assert (scale.units, scale.scan_units) == ("1/nm", "nm")


def test_a_lost_chunk_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.zspy")
    (tmp_path / "a.zspy" / SIGNAL / "data" / "0" / "0" / "0" / "0").unlink()
    with pytest.raises(DataError, match="incomplete: 0 of 1"):
        io.open(tmp_path / "a.zspy")


def test_rosettasciio_finds_the_signal(tmp_path: Path) -> None:
    """Its reader of stores; its way of opening them needs Zarr 2, so that the store is opened here."""
    reader = pytest.importorskip("rsciio.zspy._api", reason="RosettaSciIO is not installed").ZspyReader
    zarr = pytest.importorskip("zarr")
    write(tmp_path / "a.zspy")
    (signal,) = reader(zarr.open_group(str(tmp_path / "a.zspy"), mode="r")).read(lazy=False)
    np.testing.assert_array_equal(np.asarray(signal["data"]), DATA)
    assert [axis["navigate"] for axis in signal["axes"]] == [True, True, False, False]
    np.testing.assert_allclose([axis["offset"] for axis in signal["axes"]], (0, 0, -0.3, -0.8))


@pytest.mark.parametrize("scan", [(24,), (4, 6)])
def test_regions_make_the_same_files(scan: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stackalign.io import zarr_writer

    monkeypatch.setattr(zarr_writer, "_SIGNAL_CHUNK_BYTES", 5 * 6 * 8 * 2)
    patterns = np.random.default_rng(3).integers(0, 99, (24, 6, 8), np.uint16)
    form = {"scan_shape": scan, "calibration": SCALE}
    with io.create_stack(tmp_path / "a.zspy", (24, 6, 8), np.uint16, **form) as writer:
        for first in range(0, 24, 7):
            writer.write(patterns[first : first + 7])
        writer.finish({"software": "test"})
    target = RegionTarget.create(tmp_path / "b.zspy", (24, 6, 8), np.uint16, **form)
    step = target.alignment
    for first in range(0, 24, step):
        target.write(first, patterns[first : first + step])
    target.finish({"software": "test"})
    names = sorted(p.relative_to(tmp_path / "a.zspy") for p in (tmp_path / "a.zspy").rglob("*") if p.is_file())
    assert len(names) > 10
    for name in names:
        assert (tmp_path / "a.zspy" / name).read_bytes() == (tmp_path / "b.zspy" / name).read_bytes(), name
    np.testing.assert_array_equal(decoded(tmp_path / "a.zspy" / SIGNAL / "data"), patterns.reshape(*scan, 6, 8))


def test_a_crop_is_a_signal(tmp_path: Path) -> None:
    y, x = np.indices((40, 44))
    clean = 300 * np.exp(-((y - 20) ** 2 + (x - 22) ** 2) / 20)
    scan = np.random.default_rng(0).poisson(clean, (3, 4, 40, 44)).astype(np.uint16)
    np.save(tmp_path / "a.npy", scan)
    config = CroppingConfig(visualization=False, verbose=False)
    crop_file(tmp_path / "a.npy", tmp_path / "b.npy", config)
    crop_file(tmp_path / "a.npy", tmp_path / "c.zspy", config)
    np.testing.assert_array_equal(decoded(tmp_path / "c.zspy" / SIGNAL / "data"), np.load(tmp_path / "b.npy"))
