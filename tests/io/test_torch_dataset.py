"""Cropped files as data sets of PyTorch."""

import pickle

import numpy as np
import pytest

from stackalign.crop import CroppingConfig, crop_file
from stackalign.errors import DataError
from stackalign.io import open_stack

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
CroppedDataset = __import__("stackalign.torch", fromlist=["CroppedDataset"]).CroppedDataset


@pytest.fixture(scope="module")
def cropped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cropped")
    y, x = np.indices((40, 36))
    rng = np.random.default_rng(6)
    spots = np.stack([(20 + k) * np.exp(-((y - 18) ** 2 + (x - 17) ** 2) / 20) for k in range(30)])
    np.save(folder / "in.npy", rng.poisson(spots).astype(np.uint16).reshape(5, 6, 40, 36))
    for extension in (".npy", ".h5", ".zarr", ".pt"):
        crop_file(folder / "in.npy", folder / f"o{extension}", CroppingConfig(visualization=False, verbose=False))
    return folder


@pytest.mark.parametrize("extension", [".npy", ".h5", ".zarr", ".pt"])
def test_patterns_by_number(cropped, extension):
    expected = np.load(cropped / "o.npy").reshape(30, 1, *np.load(cropped / "o.npy").shape[2:])
    data = CroppedDataset(cropped / f"o{extension}")
    assert len(data) == 30
    assert data[3].dtype == torch.float32
    for k in (0, 17, -1):
        np.testing.assert_array_equal(data[k].numpy(), expected[k])
    many = data.__getitems__([4, 5, 6, 2, 29, 0, 0])
    np.testing.assert_array_equal(torch.stack(many).numpy(), expected[[4, 5, 6, 2, 29, 0, 0]])
    for wrong in (30, -31):
        with pytest.raises(IndexError, match=f"pattern {wrong} is not among the 30"):
            data[wrong]
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy[8].numpy(), expected[8])
    data.close()
    np.testing.assert_array_equal(data[8].numpy(), expected[8])


def test_workers_of_a_loader(cropped):
    data = CroppedDataset(cropped / "o.h5", normalize="sum")
    data[0]
    loader = torch.utils.data.DataLoader(data, batch_size=8, num_workers=2)
    batches = list(loader)
    assert [len(b) for b in batches] == [8, 8, 8, 6]
    np.testing.assert_allclose(torch.cat(batches).sum(dim=(1, 2, 3)).numpy(), 1, rtol=1e-5)


def test_scales_and_forms(cropped):
    plain = np.load(cropped / "o.npy").reshape(30, *np.load(cropped / "o.npy").shape[2:]).astype(np.float64)
    path = cropped / "o.npy"
    np.testing.assert_allclose(CroppedDataset(path, normalize="max")[5][0], plain[5] / plain[5].max(), rtol=1e-6)
    standard = CroppedDataset(path, normalize="standard", dtype="float64", channel_axis=False)[7].numpy()
    np.testing.assert_allclose(standard, (plain[7] - plain[7].mean()) / plain[7].std(), rtol=1e-12)
    assert CroppedDataset(path, dtype="int32", transform=torch.amax)[9].item() == plain[9].max()
    for wrong, message in (
        ({"dtype": "uint16"}, "dtype"),
        ({"normalize": "z"}, "normalize"),
        ({"dtype": "int32", "normalize": "max"}, "fractions"),
    ):
        with pytest.raises(ValueError, match=message):
            CroppedDataset(path, **wrong)
    with pytest.raises(DataError, match="uint16, not all of whose values int16 can hold"):
        CroppedDataset(path, dtype="int16")


def test_empty_patterns_and_missing_pixels_stay_so(tmp_path):
    stack = np.zeros((3, 4, 5), np.float32)
    stack[1] = 2
    stack[2, 0, 0], stack[2, 1, 1] = np.nan, 8
    np.save(tmp_path / "a.npy", stack)
    for normalize in ("max", "sum", "standard"):
        data = CroppedDataset(tmp_path / "a.npy", normalize=normalize)
        assert (data[0] == 0).all()
        assert torch.isnan(data[2]).sum() == 1
    assert CroppedDataset(tmp_path / "a.npy", normalize="max")[2][0, 1, 1] == 1
    with open_stack(tmp_path / "a.npy") as reader:
        assert CroppedDataset(tmp_path / "a.npy").info == reader.info
