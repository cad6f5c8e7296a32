"""Kernels are kept in our folder, compiled by one process, and announced when they are compiled."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest

import stackalign_kernels
from stackalign_kernels.cpu import _once

ROOTS = [str(Path(stackalign_kernels.__file__).parents[1]), str(Path(__file__).parents[2] / "src")]


def double(x):
    return 2 * x


double_of = double


def quadruple(x):
    return double_of(double_of(x))


def broken(x):
    return x.no_such_attribute


def kept(folder: Path, function):
    """Do what a new process would do with a kernel: nothing is remembered but the folder."""
    return _once.keep(folder)(numba.njit(function))


def lock_of(kernel) -> _once.CompileLock:
    """Return what another process has of the lock of a kernel."""
    return _once.CompileLock(kernel._cache.lock.path)


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_compiled_is_announced_and_kept(tmp_path, caplog) -> None:
    assert kept(tmp_path, double)(np.float32(3.0)) == 6.0
    assert len(said(caplog)) == 1
    assert said(caplog)[0].startswith("first use of CPU kernels on this machine (test_once for ")
    again = kept(tmp_path, double)
    assert again(np.float32(4.0)) == 8.0
    assert not again.stats.cache_misses
    assert len(said(caplog)) == 1
    assert Path(again.stats.cache_path) == tmp_path
    assert again(np.ones(2, np.float64)).tolist() == [2.0, 2.0]  # another type is compiled
    assert "for float64" in said(caplog)[1]


def test_kernels_that_call_kernels_release_the_lock(tmp_path, monkeypatch, caplog) -> None:
    decorate = _once.keep(tmp_path)
    inner = decorate(numba.njit(double))
    monkeypatch.setitem(globals(), "double_of", inner)
    outer = decorate(numba.njit(quadruple))
    assert outer(3.0) == 12.0
    assert inner.stats.cache_misses
    assert len(said(caplog)) == 1
    assert lock_of(inner).path != lock_of(outer).path
    assert lock_of(inner).try_acquire()
    assert lock_of(outer).try_acquire()


def test_a_failed_compilation_keeps_nothing_and_releases_the_lock(tmp_path) -> None:
    kernel = kept(tmp_path, broken)
    with pytest.raises(numba.TypingError):
        kernel(1.0)
    assert not list(tmp_path.glob("*.nb?"))
    lock = lock_of(kernel)
    assert lock.try_acquire()
    assert lock.held


def test_another_process_is_waited_for(tmp_path, monkeypatch, caplog) -> None:
    waiting = kept(tmp_path, double)
    holder = lock_of(waiting)
    assert holder.try_acquire()
    done = threading.Event()

    def compile_it(seconds: float) -> None:
        holder.release()
        kept(tmp_path, double)(1.0)
        done.set()

    monkeypatch.setattr(_once.time, "sleep", compile_it)
    assert waiting(5.0) == 10.0
    assert done.is_set()
    assert not waiting.stats.cache_misses
    assert sum("waiting for the process" in text for text in said(caplog)) == 1


def test_nothing_is_loaded_while_nothing_is_written(tmp_path, monkeypatch) -> None:
    """Whoever waits looks at the index of the kernel; it is loaded when that has changed, and at the end."""
    monkeypatch.setattr(_once, "PAUSE", 0.0)
    index, loads, looks = tmp_path / "index", [], []

    class Held:
        """A lock that another process gives back at the ninth look."""

        def try_acquire(self) -> bool:
            looks.append(len(loads))
            if len(looks) == 4:
                index.write_bytes(b"of another type")
            return len(looks) == 9

    keeper = _once.Keeper(tmp_path)
    assert keeper.wait(Held(), lambda: loads.append(1), index) is None
    assert looks == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert len(loads) == 2


def test_a_process_that_hangs_is_not_waited_for_for_ever(tmp_path, monkeypatch) -> None:
    kernel = kept(tmp_path, double)
    holder = lock_of(kernel)
    assert holder.try_acquire()
    now = iter(range(0, 10**6, 100))
    monkeypatch.setattr(_once.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(_once.time, "sleep", lambda seconds: None)
    assert kernel(5.0) == 10.0
    assert holder.held


def test_other_kernels_are_not_waited_for(tmp_path, monkeypatch) -> None:
    first, second = kept(tmp_path, double), kept(tmp_path, broken)
    holder = lock_of(second)
    assert holder.try_acquire()
    monkeypatch.setattr(_once.time, "sleep", lambda seconds: pytest.fail("waited"))
    assert first(5.0) == 10.0


HOLD = """
import sys, time
from pathlib import Path
from stackalign_kernels.cpu._once import CompileLock
lock = CompileLock(Path(sys.argv[1]))
lock.try_acquire()
print(lock.held, flush=True)
time.sleep(600)
"""


def test_the_lock_of_a_dead_process_is_free(tmp_path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "True"
            assert not _once.CompileLock(tmp_path / "lock").try_acquire()
        finally:
            process.kill()
    lock = _once.CompileLock(tmp_path / "lock")
    assert lock.try_acquire()
    assert lock.held


@pytest.mark.parametrize("kind", ["no module", "no locks on this file system", "no file"])
def test_without_locks_kernels_are_compiled_all_the_same(tmp_path, monkeypatch, kind) -> None:
    if kind == "no module":
        monkeypatch.setattr(_once, "_locks", lambda: None)
    elif kind == "no file":
        (tmp_path / "locks").write_text("")
    else:
        import fcntl

        def refuse(file, how):
            raise OSError(37, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
    assert kept(tmp_path, double)(2.5) == 5.0
    assert list(tmp_path.glob("*.nbc"))


def test_a_full_disk_does_not_stop_a_kernel(tmp_path, monkeypatch, caplog) -> None:
    def refuse(self, name, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", refuse)
    kernel = kept(tmp_path, double)
    assert kernel(1.5) == 3.0
    assert kernel(np.ones(1)).tolist() == [2.0]
    assert said(caplog)[1:] == [f"No space left on device: compiled kernels cannot be kept in {tmp_path}"]


def test_a_kernel_under_the_key_of_another_type_is_not_used(tmp_path) -> None:
    kernel = kept(tmp_path, double)
    kernel(1.0)
    kernel(np.int64(1))
    one, other = sorted(tmp_path.glob("*.nbc"))
    one.write_bytes(other.read_bytes())
    again = kept(tmp_path, double)
    assert again(1.5) == 3.0
    assert again(np.int64(2)) == 4


PROBE = """
import os, sys
before = dict(os.environ)
if sys.argv[1] == "numba first":
    import numba
    import neighbour
import numpy as np, stackalign as sa
sa.crop_windows(np.ones((1, 8, 8), np.uint16), (0, 0), (4, 4), workers=1)
import numba, neighbour
assert neighbour.twice(2) == 4
from stackalign_kernels.cpu import crop
assert dict(os.environ) == before
assert not numba.config.CACHE_DIR
print(crop.windows.stats.cache_path, sum(crop.windows.stats.cache_misses.values()), neighbour.twice.stats.cache_path)
"""
NEIGHBOUR = """
import numba
@numba.njit(cache=True)
def twice(x):
    return 2 * x
"""


def test_order_of_imports_and_other_packages(tmp_path) -> None:
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), *ROOTS]), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for order, misses in (("numba first", 1), ("stackalign first", 0), ("numba first", 0)):
        ran = subprocess.run(
            [sys.executable, "-c", PROBE, order], env=environment, capture_output=True, text=True, check=True
        )
        folder, compiled, other = ran.stdout.split()
        assert Path(folder).parent == tmp_path / "cache" / "stackalign" / "numba"
        assert int(compiled) == misses
        assert ran.stderr.count("first use of") == misses
        assert Path(other) == tmp_path / "__pycache__"
