"""What the mechanism of long runs costs: per file, per byte, per chunk on a scheduler.

    python benchmarks/bench_runs.py FOLDER [files] [crop] [memory] [workers] [locks]

FOLDER needs room for about 10 GB (20 GB with `memory`). Each section prints its figures and their ratio to what cannot
be avoided, measured in the same run.
"""

import os
import resource
import signal
import statistics
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from stackalign import diffraction
from stackalign.crop import CroppingConfig, crop_file


def patterns(path: Path, n: int, side: int) -> Path:
    """Write a stack of disks with counts, without holding it."""
    rng = np.random.default_rng(0)
    y, x = np.indices((side, side))
    r2 = (y - side / 2) ** 2 + (x - side / 2) ** 2
    base = rng.poisson(60 * np.exp(-r2 / (side * side / 44)), (64, side, side)).astype(np.uint16)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(n, side, side))
    for k in range(0, n, 64):
        out[k : k + 64] = base[: min(64, n - k)]
    out.flush()
    return path


def files(folder: Path, count: int = 1000) -> None:
    """A batch of files of 1 MB in one process, without pictures."""
    sources = [patterns(folder / f"f{k:04}.npy", 128, 64) for k in range(count)]
    config = CroppingConfig(visualization=False)
    crop_file(sources[0], folder / "warm.npy", config)
    wall, cpu = time.perf_counter(), time.process_time()
    for k, source in enumerate(sources):
        crop_file(source, folder / f"o{k:04}.npy", config)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"files: {count} of 1 MB, {wall / count:.4f} s wall and {cpu / count:.4f} s CPU each")
    for path in folder.iterdir():
        path.unlink()


def bare(source: Path, scratch: Path, written: int) -> float:
    """Seconds of two reads and one write of the same bytes."""
    began = time.perf_counter()
    buffer = bytearray(16 << 20)
    with source.open("rb", buffering=0) as stream:
        for _ in range(2):
            stream.seek(0)
            while stream.readinto(buffer):
                pass
    with scratch.open("wb", buffering=0) as stream:
        left = written
        while left > 0:
            stream.write(memoryview(buffer)[: min(left, len(buffer))])
            left -= len(buffer)
        os.fsync(stream.fileno())
    scratch.unlink()
    return time.perf_counter() - began


def crop(folder: Path, n: int = 24_000) -> None:
    """Crop of some GB beside two reads and one write."""
    source = patterns(folder / "in.npy", n, 256)
    ratios = []
    for k in range(5):
        began = time.perf_counter()
        result = crop_file(source, folder / "out.npy", CroppingConfig(visualization=False), overwrite=True)
        took = time.perf_counter() - began
        least = bare(source, folder / "scratch", result.output_bytes)
        ratios.append(took / least)
        print(f"crop {k}: {took:.2f} s, two reads and one write {least:.2f} s, ratio {took / least:.2f}")
    print(f"crop: {source.stat().st_size / 1e9:.1f} GB, median ratio {statistics.median(ratios):.2f}")
    for path in folder.iterdir():
        path.unlink()


MEMORY = """
import sys
from stackalign.cli.__main__ import app
try:
    app(sys.argv[1:])
except SystemExit as ended:
    assert ended.code in (0, 3), ended.code
# Not ru_maxrss: that begins with what the parent had, whose maps of the input are counted.
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

LARGE = [
    ("crop", 256, (23_000, 92_000), ("--no-visualization", "--memory-limit", "1GB"), ".npy"),
    ("profile", 1024, (500, 2000), ("--center", "511.5,511.5", "--memory-limit", "512MB"), ".npz"),
    ("align", 1024, (100, 400, 2000), ("--max-shift", "20", "--memory-limit", "512MB"), ".npy"),
]
"""Command, side of a frame, numbers of frames, options, output."""


def memory(folder: Path) -> None:
    """Largest resident memory of commands on stacks larger than their limit, and on a quarter of the frames."""
    for what, side, counts, options, extension in LARGE:
        for n in counts:
            source, out = patterns(folder / "in.npy", n, side), folder / f"out{extension}"
            words = [what, str(source), "-o", str(out), "--quiet", *options]
            began = time.perf_counter()
            ran = subprocess.run([sys.executable, "-c", MEMORY, *words], capture_output=True, text=True, check=True)
            gb, took = source.stat().st_size / 1e9, time.perf_counter() - began
            print(
                f"memory: {what} of {n} frames of {side} x {side}, {gb:.1f} GB, limit {options[-1]}: "
                f"peak RSS {ran.stdout.split()[-1]} MB, {took:.0f} s",
                flush=True,
            )
            for path in folder.iterdir():
                path.unlink()


def workers(folder: Path) -> None:
    """From one worker process to two, on a command that computes, and what a task costs a scheduler."""
    source = patterns(folder / "in.npy", 64, 256)
    took = {}
    for count in (1, 2, 1, 2):
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            list(pool.map(_warm, range(2 * count)))
            began = time.perf_counter()
            diffraction.center_file(source, folder / "c.csv", workers=1, executor=pool, overwrite=True)
            took.setdefault(count, []).append(time.perf_counter() - began)
    one, two = min(took[1]), min(took[2])
    print(f"workers: center, {one:.1f} s with one, {two:.1f} s with two, efficiency {one / two / 2:.2f}")
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        executor = client.get_executor(pure=False)
        executor.submit(_warm, 0).result()
        began = time.perf_counter()
        for future in [executor.submit(_warm, k) for k in range(1000)]:
            future.result()
        print(f"workers: {(time.perf_counter() - began):.2f} ms per task of dask.distributed that does nothing")


PAIRS = [
    ("crop", ".npy", ("--no-visualization", "--workers", "1")),
    ("crop", ".zarr", ("--no-visualization", "--workers", "1")),
    ("crop", ".h5", ("--no-visualization", "--workers", "1", "--compression", "lz4")),
    ("profile", ".npz", ("--center", "63.5,63.5", "--workers", "1")),
    ("mask", ".npy", ("--max-std", "50", "--workers", "1")),
]
"""Command, output, options."""


def locks(folder: Path, pairs: int = 100, stale: int = 25) -> None:
    """Pairs of commands for one output, started up to half a second apart; and outputs whose run was killed."""
    source, rng = patterns(folder / "in.npy", 1000, 128), np.random.default_rng(0)
    expected: dict[int, list[bytes]] = {}
    refused = wrong = rough = none = 0
    for kind, pair in enumerate(PAIRS):
        whole = folder / f"whole{kind}{pair[1]}"
        _run(pair, source, whole, ())  # here, so that the copies of this process have modules and kernels already
        expected[kind] = _bytes(whole)
    for k in range(pairs):
        kind = k % len(PAIRS)
        out, more = folder / f"out{k}{PAIRS[kind][1]}", ((), ("--resume",), ("--overwrite",))[k % 3]
        first = _start(PAIRS[kind], source, out, folder / "first", more)
        time.sleep(rng.uniform(0, 0.5))
        second = _start(PAIRS[kind], source, out, folder / "second", more)
        codes = [_ended(pid) for pid in (first, second)]
        said = (folder / "first").read_text() + (folder / "second").read_text()
        refused += "being written by another run" in said
        rough += "Traceback" in said or any(code not in (0, 1) for code in codes)
        none += 0 not in codes
        wrong += 0 in codes and _bytes(out) != expected[kind]
    print(f"locks: {pairs} pairs: {wrong} wrong, {rough} tracebacks, {none} without a result ({refused} runs refused)")
    held = lost = 0
    for k in range(stale):
        kind = k % len(PAIRS)
        out = folder / f"stale{k}{PAIRS[kind][1]}"
        pid = _start(PAIRS[kind], source, out, folder / "first", ())
        while not (lock := out.with_name(f".{out.name}.lock")).exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        held += lock.exists()
        code = _ended(_start(PAIRS[kind], source, out, folder / "first", ("--resume",)))
        lost += code != 0 or _bytes(out) != expected[kind] or lock.exists()
    print(f"locks: {stale} runs killed, {held} of them with a lock; {lost} outputs not taken over")


def _start(pair: tuple[str, str, tuple[str, ...]], source: Path, out: Path, log: Path, more: tuple[str, ...]) -> int:
    """Run a command in a copy of this process, which has no threads."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with log.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        code = _run(pair, source, out, more)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(pair: tuple[str, str, tuple[str, ...]], source: Path, out: Path, more: tuple[str, ...]) -> int:
    """Run a command in this process."""
    from stackalign.cli.__main__ import app

    try:
        app([pair[0], str(source), "-o", str(out), "--quiet", *pair[2], *more])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _ended(pid: int) -> int:
    """Wait for a process; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _bytes(path: Path) -> list[bytes]:
    """Content of a file, or of the files of a store."""
    return [p.read_bytes() for p in ([path] if path.is_file() else sorted(path.rglob("*"))) if p.is_file()]


def _warm(k: int) -> int:
    return k


def main() -> None:
    """Run the sections that are named, all by default."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sections = {"files": files, "crop": crop, "memory": memory, "workers": workers, "locks": locks}
    for name in sys.argv[2:] or sections:
        inner = folder / name
        inner.mkdir(exist_ok=True)
        sections[name](inner)
        print(f"({name}: this process has at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB)")


if __name__ == "__main__":
    main()
