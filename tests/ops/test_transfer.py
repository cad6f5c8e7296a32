"""Where arrays live: NumPy, tensors by DLPack, devices that cannot be used, and what `auto` says."""

import logging
import sys
import types

import numpy as np
import pytest

import stackalign as sa
from stackalign import backends, device
from stackalign.errors import BackendUnavailableError
from stackalign.ops import transfer


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch):
    """A machine without CuPy, whatever this one has."""
    backends.load.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    yield
    backends.load.cache_clear()


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Set what the driver says."""

    def install(*found: device.CudaDevice) -> None:
        monkeypatch.setattr(transfer, "cuda_devices", lambda: found)

    return install


def address(x) -> int:
    return x.__array_interface__["data"][0]


# NumPy


def test_a_host_array_is_taken_as_it_is() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert sa.asarray(x, "cpu") is x
    assert sa.to_numpy(x) is x
    assert sa.device_of(x) == "cpu"
    sa.synchronize(x)


def test_type_of_the_result() -> None:
    x = np.arange(6, dtype=np.int16)
    assert sa.asarray(x, "cpu", np.int16) is x
    found = sa.asarray(x, "cpu", "float32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x)


def test_anything_that_numpy_takes() -> None:
    found = sa.asarray([[1, 2], [3, 4]], device.Device("cpu"), np.uint8)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[1, 2], [3, 4]])


@pytest.mark.parametrize("x", [[1, 2], None, "text", memoryview(b"ab")], ids=lambda x: type(x).__name__)
def test_to_numpy_takes_arrays_only(x: object) -> None:
    for function in (sa.to_numpy, sa.device_of, sa.synchronize):
        with pytest.raises(TypeError, match=r"arrays must be NumPy or CuPy arrays, got .*stackalign\.asarray"):
            function(x)


# Devices


@pytest.mark.parametrize("text", ["gpu", "cuda:x", "CPU", "", "cpu:1"])
def test_bad_devices(text: str) -> None:
    with pytest.raises(ValueError, match='device must be "auto", "cpu", "cuda" or "cuda:n"'):
        sa.asarray(np.zeros(3), text)


@pytest.mark.parametrize("text", ["cuda", "cuda:1"])
def test_cuda_without_cupy_names_the_extra(no_cupy, text: str) -> None:
    with pytest.raises(BackendUnavailableError, match=r'pip install "stackalign\[gpu13\]" \(or gpu12') as caught:
        sa.asarray(np.zeros(3), text)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [({"is_available": lambda: False}, "no usable CUDA device or driver"), ({}, "CuPy cannot use a CUDA device: ")],
)
def test_cuda_that_cupy_cannot_use(monkeypatch: pytest.MonkeyPatch, attributes: dict, reason: str) -> None:
    backends.load.cache_clear()
    fake = types.ModuleType("cupy")
    vars(fake).update(attributes)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(BackendUnavailableError, match=reason):
        sa.asarray(np.zeros(3), "cuda")


def test_auto_without_a_driver_says_so(gpus, caplog: pytest.LogCaptureFixture) -> None:
    gpus()
    x = np.zeros(3)
    with caplog.at_level(logging.INFO, "stackalign"):
        assert sa.asarray(x) is x
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("INFO", "device auto: cpu, because there is no NVIDIA driver")
    ]


def test_auto_with_a_gpu_that_cannot_be_used_says_why(gpus, no_cupy, caplog: pytest.LogCaptureFixture) -> None:
    gpus(device.CudaDevice(0, "a GPU", 10**9))
    x = np.zeros(3)
    with caplog.at_level(logging.INFO, "stackalign"):
        assert sa.asarray(x, "auto") is x
    (record,) = caplog.records
    assert record.message.startswith("device auto: cpu, because CuPy is not installed")


def test_auto_with_a_gpu_takes_it(gpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    gpus(device.CudaDevice(0, "a GPU", 10**9), device.CudaDevice(1, "another", 10**9))
    calls = []

    class Cuda:
        @staticmethod
        def asarray(x, dtype, index):
            calls.append((x, dtype, index))
            return "on the GPU"

    monkeypatch.setattr(transfer, "load", {"cuda": Cuda}.__getitem__)
    x = np.zeros(3)
    with caplog.at_level(logging.INFO, "stackalign"):
        assert sa.asarray(x, dtype="float32") == "on the GPU"
    assert calls == [(x, np.float32, 0)]
    assert [r.message for r in caplog.records] == ["device auto: cuda:0 (a GPU)"]


def test_a_chosen_device_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stackalign"):
        sa.asarray(np.zeros(3), "cpu")
    assert not caplog.records


def test_the_reference_is_never_chosen() -> None:
    assert backends.backend_for(np.zeros(3)).NAME == "cpu"


# Tensors


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason='torch is not installed: pip install "stackalign[torch]"')


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "int64", "float32", "float64", "bool"])
def test_tensors_are_taken_over_without_a_copy(torch, kind: str) -> None:
    tensor = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, kind))
    for found in (sa.asarray(tensor, "cpu"), sa.to_numpy(tensor)):
        assert type(found) is np.ndarray
        assert found.dtype == kind
        assert found.shape == (2, 3, 4)
        assert address(found) == tensor.data_ptr()
        np.testing.assert_array_equal(found, tensor.numpy())


def test_views_of_tensors_are_views(torch) -> None:
    tensor = torch.arange(24.0).reshape(2, 3, 4)[:, :, ::2].transpose(1, 2)
    found = sa.asarray(tensor, "cpu")
    assert address(found) == tensor.data_ptr()
    np.testing.assert_array_equal(found, tensor.numpy())
    np.testing.assert_array_equal(sa.centroid(found), sa.centroid(found.copy()))


def test_tensors_with_gradients(torch) -> None:
    tensor = torch.ones(3, 4, requires_grad=True)
    for x in (tensor, tensor * 2):
        np.testing.assert_array_equal(sa.asarray(x, "cpu"), x.detach().numpy())
        np.testing.assert_array_equal(sa.to_numpy(x), x.detach().numpy())


def test_tensors_become_another_type(torch) -> None:
    found = sa.asarray(torch.tensor([1, 2]), "cpu", "float32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1, 2])


def test_auto_leaves_tensors_of_the_host_there(torch, gpus) -> None:
    gpus()
    tensor = torch.ones(2, 2)
    assert address(sa.asarray(tensor)) == tensor.data_ptr()


@pytest.mark.parametrize("function", [sa.to_numpy, lambda x: sa.asarray(x, "cpu")], ids=["to_numpy", "asarray"])
def test_tensors_that_numpy_has_no_type_for(torch, function) -> None:
    with pytest.raises(TypeError, match=r"a tensor of torch\.bfloat16 cannot become a NumPy array .*convert it first"):
        function(torch.ones(2, dtype=torch.bfloat16))


def test_operations_do_not_take_tensors_by_themselves(torch) -> None:
    tensor = torch.ones(3, 4)
    for arguments in ((tensor,), (np.ones((3, 4)), tensor > 0)):
        mask = {"mask": arguments[1]} if len(arguments) == 2 else {}
        with pytest.raises(TypeError, match=r"got torch\.Tensor; bring it in with stackalign\.asarray"):
            sa.centroid(arguments[0], **mask)


def test_results_go_back_to_torch(torch) -> None:
    """DLPack the other way: torch takes the result without a copy."""
    found = sa.radial_cumulative(np.ones((2, 5, 5)), (2, 2), n_radii=4)
    tensor = torch.from_dlpack(found)
    assert tensor.data_ptr() == address(found)
    assert tensor.tolist() == [[1, 5, 13, 25], [1, 5, 13, 25]]
