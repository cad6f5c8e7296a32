"""Type, axes and companions of the cropped patterns in the output."""

import h5py
import numpy as np
import pytest
import zarr

from crop.oracle import content, disks
from stackalign.crop import CroppingConfig, crop_array, crop_file
from stackalign.crop.convert import converted
from stackalign.errors import DataError
from stackalign.io import Calibration, create_stack, open_stack


def config(**options):
    return CroppingConfig(**{"visualization": False, "verbose": False, **options})


def drifting(n=24, dtype=np.uint16):
    y, x = np.indices((50, 54))
    rng = np.random.default_rng(11)
    spots = [60 * np.exp(-((y - 20 - 0.31 * k) ** 2 + (x - 30 + 0.22 * k) ** 2) / 18) for k in range(n)]
    return rng.poisson(np.stack(spots)).astype(dtype)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("scan", [(24,), (4, 6)])
def test_centres_travel_with_hdf5(scan, compression, tmp_path):
    stack = drifting()
    np.save(tmp_path / "in.npy", stack.reshape(*scan, 50, 54))
    result = crop_file(tmp_path / "in.npy", tmp_path / "o.h5", config(), compression=compression)
    with h5py.File(tmp_path / "o.h5") as file:
        group = file["data/datacube"]
        corners, centers = group["corners"][()], group["centers"][()]
        for k, pattern in enumerate(group["data"][()].reshape(24, *result.analysis.window)):
            y, x = corners[k]
            height, width = pattern.shape
            np.testing.assert_array_equal(pattern, stack[k, y : y + height, x : x + width])
        if len(scan) == 2:
            stored = file["datacube_root/metadatabundle/calibration"]
            np.testing.assert_array_equal(stored["qx0"][()].ravel(), centers[:, 0] - corners[:, 0])
            np.testing.assert_array_equal(stored["qy0"][()].ravel(), centers[:, 1] - corners[:, 1])
    np.testing.assert_array_equal(centers, result.analysis.centers)
    with open_stack(tmp_path / "o.h5") as reader:  # the same numbers under two names are one dataset
        assert reader.info.shape == (24, *result.analysis.window)


def test_centres_travel_with_zarr(tmp_path):
    np.save(tmp_path / "in.npy", drifting())
    result = crop_file(tmp_path / "in.npy", tmp_path / "o.zarr", config())
    array = zarr.open_array(str(tmp_path / "o.zarr"), mode="r")
    assert array.shape == (24, *result.analysis.window)
    assert array.attrs["arrays_per_pattern"] == ["corners", "centers"]
    centers = zarr.open_array(str(tmp_path / "o.zarr" / "centers"), mode="r")[:]
    np.testing.assert_array_equal(centers, result.analysis.centers)
    np.testing.assert_array_equal(
        zarr.open_array(str(tmp_path / "o.zarr" / "corners"), mode="r")[:],
        np.floor(centers).astype(int) - result.analysis.window_before,
    )


@pytest.mark.parametrize(
    ("units", "size", "stored"),
    [("1/nm", 0.05, (0.005, "A^-1")), ("mrad", 0.4, (0.4, "mrad")), ("1/Å", 0.1, (0.1, "A^-1"))],
)
def test_hdf5_is_a_datacube_of_emd_1(units, size, stored, tmp_path):
    calibration = Calibration((size, size), units, (7.0, 6.0), (2.0, 2.5), "nm")
    writer = create_stack(tmp_path / "o.h5", (6, 9, 8), "u2", scan_shape=(2, 3), calibration=calibration)
    stack = np.random.default_rng(0).integers(0, 9, (6, 9, 8)).astype("u2")
    writer.write(stack)
    writer.finish({})
    with h5py.File(tmp_path / "o.h5") as file:
        assert (file.attrs["emd_group_type"], file.attrs["version_major"]) == ("file", 1)
        assert file["datacube_root"].attrs["emd_group_type"] == "root"
        cube = file["datacube_root/datacube"]
        assert (cube.attrs["emd_group_type"], cube.attrs["python_class"]) == ("array", "DataCube")
        np.testing.assert_array_equal(cube["data"][()], stack.reshape(2, 3, 9, 8))
        assert [cube[f"dim{k}"].attrs["name"] for k in range(4)] == ["Rx", "Ry", "Qx", "Qy"]
        np.testing.assert_allclose(cube["dim2"][()], [-7 * size, -6 * size])
        values = {
            name: item[()] for name, item in file["datacube_root/metadatabundle/calibration"].items() if name[0] in "QR"
        }
    assert values["Q_pixel_size"] == pytest.approx(stored[0])
    assert values["Q_pixel_units"].decode() == stored[1]
    assert (values["R_pixel_size"], values["R_pixel_units"]) == (2.0, b"nm")
    with open_stack(tmp_path / "o.h5") as reader:
        assert reader.info.calibration.units == units
        assert reader.info.calibration.origin == pytest.approx((7.0, 6.0))


def test_one_window_keeps_the_shifts(tmp_path):
    stack = drifting()
    cropped, result = crop_array(stack, config(one_window=True))
    separate = crop_array(stack, config())[1]
    assert result.analysis.global_radius == separate.analysis.global_radius
    assert (np.array(result.analysis.window) > separate.analysis.window).all()
    assert result.validation.used.min() >= 0.98
    np.save(tmp_path / "in.npy", stack)
    crop_file(tmp_path / "in.npy", tmp_path / "o.h5", config(one_window=True))
    with h5py.File(tmp_path / "o.h5") as file:
        corners = file["data/datacube/corners"][()]
        np.testing.assert_array_equal(file["data/datacube/data"][()], cropped)
    assert (corners == corners[0]).all()
    height, width = result.analysis.window
    y, x = corners[0]
    np.testing.assert_array_equal(cropped, stack[:, y : y + height, x : x + width])
    centers = result.analysis.centers
    assert (np.floor(centers.min(axis=0)) - result.analysis.global_radius >= corners[0]).all()


def test_tensors_of_counts_can_be_calculated_with(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    stack = drifting()
    np.save(tmp_path / "in.npy", stack)
    result = crop_file(tmp_path / "in.npy", tmp_path / "o.pt", config())
    tensor = torch.load(tmp_path / "o.pt", weights_only=True)
    assert tensor.dtype == torch.int32
    assert int(tensor.max()) == stack.max()
    assert (tensor + 1 > 3).any()
    assert any("--output-dtype uint16 keeps the type" in note for note in result.analysis.notes)
    assert result.output_bytes == tensor.numel() * 4
    kept = crop_file(tmp_path / "in.npy", tmp_path / "k.pt", config(output_dtype="uint16", layout="NCHW"))
    tensor = torch.load(tmp_path / "k.pt", weights_only=True)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.uint16, (24, 1, *kept.analysis.window))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "int64", "uint8", "float64"])
@pytest.mark.parametrize("extension", [".npy", ".h5", ".zarr"])
def test_output_type(dtype, extension, tmp_path):
    stack = drifting().reshape(4, 6, 50, 54)
    np.save(tmp_path / "in.npy", stack)
    plain, _ = crop_array(stack, config())
    result = crop_file(tmp_path / "in.npy", tmp_path / f"o{extension}", config(output_dtype=dtype, layout="NHW"))
    stored = content(tmp_path / f"o{extension}")
    assert stored.dtype == dtype
    assert stored.shape == (24, *result.analysis.window)
    np.testing.assert_array_equal(stored, plain.reshape(stored.shape))
    assert crop_array(stack, config(output_dtype=dtype))[0].dtype == dtype


@pytest.mark.parametrize(
    ("values", "source", "dtype", "lost"),
    [
        ([70000], "u4", "u2", "70000"),
        ([-1], "i2", "u4", "-1"),
        ([-1], "i8", "u8", "-1"),
        ([40000], "u2", "i2", "40000"),
        ([2**24 + 1], "i4", "f4", "16777217"),
        ([2049], "u2", "f2", "2049"),
        ([70000], "i4", "f2", "70000"),
        ([2**63 + 5], "u8", "f8", str(2**63 + 5)),
        ([0.5], "f4", "i2", "0.5"),
        ([np.nan], "f4", "i2", "nan"),
        ([32768.0], "f4", "i2", "32768.0"),
        ([1e39], "f8", "f4", "1e\\+39"),
    ],
)
def test_values_that_a_type_cannot_hold_are_refused(values, source, dtype, lost):
    block = np.zeros((3, 2, 2), source)
    block[1, 0, 1] = values[0]
    with pytest.raises(DataError, match=rf"pattern 11 of x has the value {lost}, which .* cannot hold"):
        converted(block, np.dtype(dtype), 10, "x")


@pytest.mark.parametrize(
    ("value", "source", "dtype"),
    [
        (2048, "u2", "f2"),
        (2**24, "i4", "f4"),
        (-32768.0, "f8", "i2"),
        (np.nan, "f8", "f4"),
        (0.1, "f8", "f4"),
        (np.inf, "f4", "f2"),
    ],
)
def test_values_that_a_type_holds(value, source, dtype):
    block = np.full((1, 2, 2), value, source)
    np.testing.assert_array_equal(converted(block, np.dtype(dtype), 0, "x"), block.astype(dtype))


@pytest.mark.parametrize("wrong", [{"output_dtype": "complex64"}, {"output_dtype": "counts"}, {"layout": "HWC"}])
def test_unknown_forms_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(**wrong)


def test_background_and_one_window_are_not_for_the_legacy_window():
    for option in ({"one_window": True}, {"background": "corner"}):
        with pytest.raises(ValueError, match="legacy_window"):
            config(legacy_window=True, **option)


def test_disks_keep_their_type_by_default():
    assert crop_array(disks(dtype="u2"), config())[0].dtype == np.uint16
