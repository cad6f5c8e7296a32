"""How many threads are used: what the caller says, else what the environment, the container and schedulers allow."""

import inspect
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import stackalign as sa
from stackalign import _blas, device, diffraction
from stackalign.backends import _threads
from stackalign.crop import CroppingConfig, crop_array
from stackalign.errors import StackalignWarning
from stackalign.ops import _check

VARIABLES = ("STACKALIGN_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")


@pytest.fixture
def machine(monkeypatch) -> pytest.MonkeyPatch:
    """Make a machine of eight cores that nothing limits."""
    for name in (*VARIABLES, *_blas._VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(device, "_read_words", lambda path: [])
    monkeypatch.setattr(device, "_dask_threads", lambda cores: None)
    monkeypatch.setattr(_blas, "caller_limit", lambda: None)
    monkeypatch.setattr(device, "_doubted", set())
    return monkeypatch


@pytest.mark.parametrize(
    ("values", "threads"),
    [
        ({}, 8),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"NUMBA_NUM_THREADS": "2"}, 2),
        ({"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "5"}, 2),
        ({"NUMBA_NUM_THREADS": "5", "OMP_NUM_THREADS": "2"}, 2),
        ({"STACKALIGN_NUM_THREADS": "4", "OMP_NUM_THREADS": "1"}, 4),
        ({"STACKALIGN_NUM_THREADS": "1", "OMP_NUM_THREADS": "4"}, 1),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": " 6 , 1"}, 6),
        ({"OMP_NUM_THREADS": "1000"}, 8),
        ({"OMP_NUM_THREADS": "", "NUMBA_NUM_THREADS": " "}, 8),
    ],
)
def test_the_environment_is_obeyed(machine, values, threads) -> None:
    for name, value in values.items():
        machine.setenv(name, value)
    assert device.default_workers() == threads


@pytest.mark.parametrize("value", ["abc", "0", "-3", "2.5", "0,4", "four", ",2"])
@pytest.mark.parametrize("name", VARIABLES)
def test_nonsense_is_named_once_and_ignored(machine, name, value) -> None:
    machine.setenv(name, value)
    with pytest.warns(StackalignWarning, match=name) as caught:
        assert device.default_workers() == 8
    assert len(caught) == 1
    assert repr(value) in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert device.default_workers() == 8


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({"/sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
        ({"/proc/self/cgroup": "0::/a.slice/b", "/sys/fs/cgroup/a.slice/b/cpu.max": "200000 100000"}, 2),
        (
            {
                "/proc/self/cgroup": "0::/a.slice/b",
                "/sys/fs/cgroup/a.slice/cpu.max": "100000 100000",
                "/sys/fs/cgroup/a.slice/b/cpu.max": "max 100000",
            },
            1,
        ),
        ({"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        (
            {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            4,
        ),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
        (
            {
                "/proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/docker/0\n0::/x",
                "/sys/fs/cgroup/cpu,cpuacct/docker/0/cpu.cfs_quota_us": "250000",
                "/sys/fs/cgroup/cpu,cpuacct/docker/0/cpu.cfs_period_us": "50000",
            },
            5,
        ),
        ({"/sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
        ({"/sys/fs/cgroup/cpu.max": "junk junk"}, 8),
    ],
)
def test_quotas_of_control_groups_are_obeyed(machine, files, threads) -> None:
    machine.setattr(device, "_read_words", lambda path: files.get(path, "").split())
    assert device.default_workers() == threads


def test_a_dask_worker_is_obeyed(monkeypatch) -> None:
    worker = types.SimpleNamespace(state=types.SimpleNamespace(nthreads=3))
    monkeypatch.setitem(device.sys.modules, "distributed", types.SimpleNamespace(get_worker=lambda: worker))
    assert device._dask_threads(8) == 3
    worker = types.SimpleNamespace(nthreads=2)
    assert device._dask_threads(8) == 2

    def outside():
        raise ValueError("No worker found")

    monkeypatch.setitem(device.sys.modules, "distributed", types.SimpleNamespace(get_worker=outside))
    monkeypatch.setitem(device.sys.modules, "dask.threaded", None)
    assert device._dask_threads(8) is None


def test_threads_of_dask_share_the_cores(machine) -> None:
    dask = pytest.importorskip("dask")
    machine.undo()
    machine.setattr(device.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    machine.setattr(device, "_read_words", lambda path: [])
    machine.setattr(_blas, "caller_limit", lambda: None)
    for name in VARIABLES:
        machine.delenv(name, raising=False)
    counts = dask.compute(
        *[dask.delayed(device.default_workers)() for _ in range(3)], scheduler="threads", num_workers=4
    )
    assert counts == (2, 2, 2)
    assert device.default_workers() == 8


def test_limits_of_threadpoolctl_are_seen(monkeypatch) -> None:
    import threadpoolctl

    with threadpoolctl.threadpool_limits(2):  # more than there are cores on some machines
        monkeypatch.setattr(_blas, "CORES", 2)
        for name in _blas._VARIABLES:
            monkeypatch.delenv(name, raising=False)
        assert _blas.caller_limit() is None
        with _blas.on_one_thread():
            assert _blas.caller_limit() is None  # our own limit is none of the caller's
        with threadpoolctl.threadpool_limits(1):
            assert _blas.caller_limit() == 1
            assert device.default_workers() == 1
            with _blas.on_one_thread():
                assert _blas.caller_limit() == 1


class Library:
    """A linear algebra library that remembers its number of threads."""

    num_threads = 6
    internal_api = "openblas"

    def set_num_threads(self, n: int) -> None:
        self.num_threads = n


def test_linear_algebra_gets_its_threads_back_after_calls_that_overlap(monkeypatch) -> None:
    library = Library()
    monkeypatch.setattr(_blas, "_loaded", lambda: (library,))
    first, second = _blas.on_one_thread(), _blas.on_one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert library.num_threads == 1
    second.__exit__(None, None, None)
    assert library.num_threads == 6
    with pytest.raises(RuntimeError, match="no"), _blas.on_one_thread():
        raise RuntimeError("no")
    assert library.num_threads == 6
    for name in _blas._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_blas, "CORES", 8)
    library.num_threads = 3
    assert _blas.caller_limit() == 3
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert _blas.caller_limit() is None


def test_what_is_called_within_gets_no_more(machine) -> None:
    seen: list[int] = []

    @_threads.governed
    def inner(*, workers=None):
        seen.append(_check.n_workers(workers))
        seen.append(device.default_workers())

    @_threads.governed
    def outer(config=None, *, workers=None):
        inner()

    outer(workers=2)
    outer(types.SimpleNamespace(workers=3))
    outer(config=types.SimpleNamespace(workers=4))
    outer()
    outer(workers="many")  # checked where it is used
    inner(workers=5)
    assert seen == [2, 2, 3, 3, 4, 4, 8, 8, 8, 8, 5, 5]
    with device.working(2):
        assert _check.n_workers(6) == 6  # what is said outright wins
        with device.working(None):
            assert _check.n_workers(None) == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(_check.n_workers, None).result() == 8
    assert _check.n_workers(None) == 8


def test_doors_keep_their_signatures() -> None:
    assert "workers" in inspect.signature(sa.register).parameters
    assert sa.register.__doc__


SCENE = gaussian_filter(np.random.default_rng(5).normal(size=(200, 200)), 2.0)
STACK = np.random.default_rng(6).poisson(20.0, size=(6, 40, 40)).astype(np.uint16)
STACK[:, 14:26, 14:26] += 400

DOORS = {
    "register": lambda: sa.register(SCENE[4:180, 4:180], SCENE[6:182, 3:179], model="shift+scale", workers=1),
    "register_stack": lambda: sa.register_stack(SCENE[4:132, 4:132], SCENE[None, 5:133, 3:131], workers=1),
    "crop_array": lambda: crop_array(STACK, CroppingConfig(workers=1, visualization=False)),
    "autocenter": lambda: diffraction.autocenter(STACK[0], workers=1),
    "align": lambda: diffraction.align(STACK, STACK[0], background=True, workers=1),
    "nfold": lambda: diffraction.nfold(STACK[0], 2, center=(19.5, 19.5), workers=1),
    "azimuthal_average": lambda: diffraction.azimuthal_average(STACK[0], center=(19.5, 19.5), workers=1),
    "mask_from_collection": lambda: diffraction.mask_from_collection(STACK, workers=1),
}


@pytest.mark.parametrize("door", DOORS)
def test_one_worker_starts_no_thread(machine, door) -> None:
    started: list[str] = []
    plain = threading.Thread.start
    machine.setattr(_check, "default_workers", lambda: 4)
    machine.setattr(threading.Thread, "start", lambda self: (started.append(self.name), plain(self))[1])
    DOORS[door]()
    assert [name for name in started if name.startswith("stackalign-kernel")] == []
    assert set(started) <= {"stackalign-read_0", "stackalign-write_0"}  # files are read ahead on a thread of their own
