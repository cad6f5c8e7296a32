"""What the mechanism of long runs costs: per file, per byte, per chunk on a scheduler.

    python benchmarks/bench_runs.py FOLDER [files] [crop] [memory] [workers]

FOLDER needs room for about 10 GB (20 GB with `memory`). Each section prints its figures and their ratio to what cannot
be avoided, measured in the same run.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
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
    ("align", 1024, (500, 2000), ("--max-shift", "20", "--memory-limit", "512MB"), ".npy"),
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


def _warm(k: int) -> int:
    return k


def main() -> None:
    """Run the sections that are named, all by default."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sections = {"files": files, "crop": crop, "memory": memory, "workers": workers}
    for name in sys.argv[2:] or sections:
        inner = folder / name
        inner.mkdir(exist_ok=True)
        sections[name](inner)
        print(f"({name}: this process has at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB)")


if __name__ == "__main__":
    main()
