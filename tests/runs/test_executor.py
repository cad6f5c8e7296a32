"""Chunks on other threads, processes and dask workers: the same bytes, and one sentence where a worker is lost."""

import os
import signal
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from crop.oracle import disks
from stackalign import diffraction
from stackalign.crop import CroppingConfig, crop_file
from stackalign.diffraction import bragg_file, centers_file, masks_file, symmetry_file
from stackalign.errors import BackendUnavailableError, DataError, Interrupted, MissingDependencyError
from stackalign.io import open_stack
from stackalign.registration import files as registration_files
from stackalign.registration.files import align_file
from stackalign.runs import ChunkPlan, Part, Source, StopRequest, chunk_parts, executor_for

CONFIG = CroppingConfig(visualization=False, chunk_size=2, workers=1)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of few frames."""
    monkeypatch.setattr(registration_files, "LARGEST_CHUNK", 3 * 40 * 36)
    monkeypatch.setattr(symmetry_file, "LARGEST_CHUNK", 3 * 40 * 36)
    for module in (bragg_file, centers_file):
        monkeypatch.setattr(module, "LARGEST_CHUNK", 3)
    monkeypatch.setattr(masks_file, "LEAST_FRAMES", 3)
    monkeypatch.setattr(masks_file, "BLOCK_BYTES", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", disks(14))
    return tmp_path / "in.npy"


RUNS = {
    "crop.npy": lambda source, out, **o: crop_file(source, out, CONFIG, **o),
    "crop.zarr": lambda source, out, **o: crop_file(source, out, CONFIG, **o),
    "legacy.h5": lambda source, out, **o: crop_file(
        source, out, CroppingConfig(visualization=False, chunk_size=2, legacy_window=True), **o
    ),
    "plane.npy": lambda source, out, **o: crop_file(
        source, out, CroppingConfig(visualization=False, chunk_size=4, center_fit="plane"),
        centers=np.linspace((18.0, 17.0), (20.0, 18.0), 14), **o,
    ),
    "align.npy": lambda source, out, **o: align_file(source, out, max_shift=9, workers=1, **o),
    "nfold.npy": lambda source, out, **o: diffraction.nfold_file(
        source, out, 2, center=np.linspace((18.0, 17.0), (20.0, 18.0), 14), workers=1, **o
    ),
    "peaks.csv": lambda source, out, **o: diffraction.peaks_file(source, out, width=1.5, **o),
    "profile.npz": lambda source, out, **o: diffraction.profile_file(source, out, (19.0, 17.0), workers=1, **o),
    "mask.npy": lambda source, out, **o: diffraction.mask_file(source, out, max_std=40.0, workers=1, **o),
}  # fmt: skip


def content(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {path.suffix: path.read_bytes()}
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", RUNS)
def test_bytes_of_threads(name: str, source: Path, tmp_path: Path) -> None:
    RUNS[name](source, tmp_path / name)
    (tmp_path / "other").mkdir()
    with ThreadPoolExecutor(3) as executor:
        RUNS[name](source, tmp_path / "other" / name, executor=executor)
    assert content(tmp_path / "other" / name) == content(tmp_path / name)


@pytest.mark.slow
def test_bytes_of_processes(source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        for name in ("crop.npy", "align.npy", "mask.npy"):
            RUNS[name](source, tmp_path / name)
            RUNS[name](source, tmp_path / "other" / name, executor=executor)
            assert content(tmp_path / "other" / name) == content(tmp_path / name)


@pytest.mark.parametrize("first", ["here", "elsewhere"])
@pytest.mark.parametrize("name", ["crop.npy", "crop.zarr", "legacy.h5", "align.npy"])
def test_interrupted_in_one_place_and_resumed_in_another(
    name: str, first: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackalign.io.zarr_writer._SHARD_BYTES", 5_000)
    monkeypatch.setattr("stackalign.io.zarr_writer._CHUNK_BYTES", 2000)
    RUNS[name](source, tmp_path / name)
    (tmp_path / "other").mkdir()
    out = tmp_path / "other" / name
    with ThreadPoolExecutor(2) as pool:
        places = {"here": None, "elsewhere": pool}
        second = "elsewhere" if first == "here" else "here"
        for place in (first, second, first):
            stop = StopRequest()

            def progress(state, stop=stop) -> None:
                if state.stage in ("crop", "align"):
                    stop.request()

            with pytest.raises(Interrupted):
                RUNS[name](source, out, resume=True, executor=places[place], progress=progress, stop=stop)
            if name == "crop.zarr" or (name == "align.npy" and place == second):  # they have few chunks
                break
        RUNS[name](source, out, resume=True, executor=places[second])
    assert content(out) == content(tmp_path / name)


def test_names_of_files_are_those_of_the_client(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers may have another working directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=os.chdir, initargs=(tmp_path / "elsewhere",)
    ) as executor:
        diffraction.mask_file("in.npy", "mask.npy", executor=executor)
        crop_file("in.npy", "crop.npy", CONFIG, executor=executor)
    diffraction.mask_file("in.npy", "here.npy")
    crop_file("in.npy", "crop_here.npy", CONFIG)
    for one, other in (("mask.npy", "here.npy"), ("crop.npy", "crop_here.npy")):
        assert Path(one).read_bytes() == Path(other).read_bytes()


class Counting(Executor):
    """Works at once, and keeps how many results were not taken yet."""

    _max_workers = 2

    def __init__(self) -> None:
        self.handed, self.taken, self.most = 0, 0, 0

    def submit(self, function, /, *arguments, **options):
        self.handed += 1
        self.most = max(self.most, self.handed - self.taken)
        future: Future = Future()
        future.set_result(function(*arguments, **options))
        return future


def test_no_more_chunks_are_handed_out_than_workers_hold(source: Path) -> None:
    executor = Counting()
    with open_stack(source) as reader:
        given = Source(partial(open_stack, source), reader.fingerprint())
        parts = chunk_parts(reader, first_only, ChunkPlan(14, 1), executor=executor, source=given)
        for index, (first, last, part) in enumerate(parts):
            assert (first, last) == (index, index + 1)
            assert int(part.columns["first"]) == index
            executor.taken += 1
    assert executor.most == 4


def first_only(images: np.ndarray, first: int) -> Part:
    """Say where a chunk begins."""
    return Part({"first": np.array(first)})


class Small:
    """Has memory for three frames; says which ones it worked on."""

    def __init__(self, alignment: int = 1) -> None:
        self.alignment = alignment

    def __call__(self, images: np.ndarray, first: int) -> Part:
        if len(images) > 3:
            raise MemoryError(f"no room for {len(images)}")
        return Part({"sums": images.sum((1, 2))})


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_chunks_that_do_not_fit_are_halved(place: str, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_stack(source) as reader, ThreadPoolExecutor(2) as pool:
        given = Source(partial(open_stack, source), reader.fingerprint())
        where = {"executor": pool if place == "elsewhere" else None, "source": given}
        ranges, sums = [], []
        for first, last, part in chunk_parts(reader, Small(), ChunkPlan(14, 9), **where):
            ranges.append((first, last))
            sums.extend(part.columns["sums"])
        aligned = [r[:2] for r in chunk_parts(reader, Small(2), ChunkPlan(14, 10), **where)]
        for alignment, pattern in ((0, "no room for 9"), (4, "no room for 4")):
            with pytest.raises(MemoryError, match=pattern):
                list(chunk_parts(reader, Small(alignment), ChunkPlan(14, 9), **where))
    assert ranges == [(0, 2), (2, 4), (4, 6), (6, 9), (9, 11), (11, 14)]
    np.testing.assert_array_equal(sums, np.load(source).sum((1, 2)))
    assert all(first % 2 == 0 for first, _ in aligned)
    assert "no room for 9); going on with 4 at a time" in caplog.text


def kill(images: np.ndarray, first: int) -> Part:
    """End the worker."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Part()


def test_a_worker_that_dies_is_one_sentence(source: Path) -> None:
    with open_stack(source) as reader, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        given = Source(partial(open_stack, source), reader.fingerprint())
        with pytest.raises(DataError, match="a chunk could not be done by the workers"):
            list(chunk_parts(reader, kill, ChunkPlan(14, 14), executor=executor, source=given))


def test_a_worker_that_sees_another_file_is_refused(source: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", disks(14, seed=8))
    with open_stack(source) as reader, ThreadPoolExecutor(1) as executor:
        given = Source(partial(open_stack, tmp_path / "other.npy"), reader.fingerprint())
        with pytest.raises(DataError, match="not the same for a worker as for the client"):
            list(chunk_parts(reader, first_only, ChunkPlan(14, 7), executor=executor, source=given))


def test_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("stackalign.runs.executor.CONNECT_SECONDS", 0.2)
    with (
        pytest.raises(DataError, match=r"the scheduler tcp://127\.0\.0\.1:9 does not answer"),
        executor_for("tcp://127.0.0.1:9"),
    ):
        pass
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nonsense")
    with pytest.raises(DataError, match="the scheduler nonsense does not answer"), executor_for(None):
        pass
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS")
    with executor_for(None) as executor:
        assert executor is None


def test_scheduler_without_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"stackalign\[dask\]"), executor_for("tcp://127.0.0.1:9"):
        pass


def seen_gpu(images: np.ndarray, first: int) -> Part:
    """Which GPU a worker may use."""
    return Part({"gpu": np.array([os.environ["CUDA_VISIBLE_DEVICES"]])})


def test_one_process_for_each_gpu(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackalign.runs.executor.cuda_devices", lambda: ("first", "second"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with open_stack(source) as reader, executor_for("cuda:all") as executor:
        given = Source(partial(open_stack, source), reader.fingerprint())
        parts = chunk_parts(reader, seen_gpu, ChunkPlan(14, 1), executor=executor, source=given)
        seen = {str(part.columns["gpu"][0]) for _, _, part in parts}
    assert seen <= {"3", "5"}
    assert seen
    monkeypatch.setattr("stackalign.runs.executor.cuda_devices", tuple)
    with pytest.raises(BackendUnavailableError, match="cuda:all needs at least one CUDA device"):
        executor_for("cuda:all").__enter__()
