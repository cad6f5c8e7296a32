"""Coalignments with known truth: accuracy from FITS files, other packages side by side, and hundreds in a batch.

``python benchmarks/bench_solar.py FOLDER [accuracy|peers|batch ...] [--peers PYTHON] [--rasters 200]``

FOLDER holds eui_fsi174_20220401_crop.fits, SPICE_706_20241017.fits and trace_19980519_171.fits. PYTHON is that of an
environment with SunXCorr, euispice_coreg and sunkit-image; without it they are not measured.
"""

import argparse
import csv
import gc
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import sunpy.map
from astropy.io import fits
from scipy.ndimage import spline_filter

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import stackalign
from _harness import median, save
from bench_register import scenes
from solar import problem, sequence
from stackalign import solar, transforms
from stackalign.registration import create_test_pair, point_error
from stackalign.solar.skymodel import SkyModel

SEEDS = tuple(range(10))
LIMITS = {0.05: (0.2, 0.055), 0.2: (0.4, 0.11)}
"""Arcsec along x and y that the issue asks for, by noise."""


def observed(folder: Path, shape: tuple[int, int], cdelt: tuple[float, float], step: float):
    """What a raster of SPICE's geometry sees of EUI's disc that turns under a moving spacecraft, and the frames."""
    scene = solar.read_map(folder / "eui_fsi174_20220401_crop.fits")
    spline = spline_filter(scene.data.astype(np.float64), order=3)
    nx = shape[1]
    cards = sequence.raster_header(scene, shape, step)
    turn = sequence.header(shape, cdelt=cdelt, roll=2.88)
    cards.update({key: turn[key] for key in ("CDELT1", "CDELT2", "PC1_1", "PC1_2", "PC2_1", "PC2_2")})
    true = sunpy.map.Map(np.zeros(shape), cards)
    times = solar.column_times(cards, shape)
    image = sequence.truth(scene, spline, true, times)
    minutes = np.arange(0, nx * step / 60 + 10, 10)
    frames = [
        sequence.frame_map(scene, spline, sequence.START + m * u.min, k, (480, 480)) for k, m in enumerate(minutes)
    ]
    return true, image, frames


def wrong_header(true, rng, *, scale: float = 1.01, roll: float = 0.3, reach: float = 60.0):
    """The header with another pointing, and pixels and a roll that it says wrongly."""
    meta = true.meta.copy()
    old = np.array([[meta[f"pc{i}_{j}"] for j in (1, 2)] for i in (1, 2)]) * [[meta["cdelt1"]], [meta["cdelt2"]]]
    turn = np.deg2rad(roll)
    new = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ old * [scale, 1.0]
    lengths = np.linalg.norm(new, axis=0)
    for i in (1, 2):
        meta[f"cdelt{i}"] = float(lengths[i - 1])
        for j in (1, 2):
            meta[f"pc{i}_{j}"] = float(new[i - 1, j - 1] / lengths[i - 1])
    meta["crota"] = meta["crota"] + roll
    for key in ("crval1", "crval2"):
        meta[key] += float(rng.uniform(-reach, reach))
    return meta


def expected_arcsec(found) -> np.ndarray:
    """Rms distance along x and y, over the image, that the reported covariance promises."""
    last = found.last
    ny, nx = found.target.data.shape
    y, x = np.mgrid[0 : ny - 1 : 20j, 0 : nx - 1 : 20j]
    points = np.stack([x, y], -1).reshape(-1, 2)
    sky = SkyModel(last.model, solar.arcsec_per_pixel(found.target.wcs), (ny, nx))
    slope = np.stack(
        [
            (sky.correction(last.parameters + h)(points) - sky.correction(last.parameters - h)(points)) / 2e-6
            for h in 1e-6 * np.eye(len(last.parameters))
        ],
        axis=-1,
    )
    variance = np.einsum("nik,kl,nil->ni", slope, last.covariance, slope).mean(0)
    return np.sqrt(variance) * solar.step_arcsec(found.target.wcs)


def write(path: Path, image, meta) -> Path:
    fits.PrimaryHDU(image.astype(np.float32), fits.Header(sunpy.map.Map(image, meta).fits_header)).writeto(path)
    return path


def accuracy(folder: Path) -> list[dict]:
    """All three phases from files, with the real raster's valid pixels."""
    real = solar.read_map(folder / "SPICE_706_20241017.fits")
    true, image, frames = observed(folder, real.data.shape, (6.0, 1.098), 120.3)
    valid = solar.valid_mask(real)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        files = []
        for k, frame in enumerate(frames):
            files.append(write(Path(name) / f"frame{k:02d}.fits", frame.data, frame.meta))
        for noise, limit in LIMITS.items():
            errors, expected, pointing, pulls, seconds, moved, flags = [], [], [], [], [], [], []
            for seed in SEEDS:
                rng = np.random.default_rng(seed)
                noisy = image + noise * np.nanstd(image[valid]) * rng.standard_normal(image.shape)
                raster = write(
                    Path(name) / f"raster{noise}{seed}.fits", np.where(valid, noisy, np.nan), wrong_header(true, rng)
                )
                began = time.perf_counter()
                found = solar.coalign(raster, frames=files, model="shift+scale+angle", threshold_time=400 * u.s)
                seconds.append(time.perf_counter() - began)
                errors.append(problem.error_arcsec(found.corrected_map, true))
                expected.append(expected_arcsec(found))
                middle = np.array(image.shape)[::-1] / 2 - 0.5
                off = [
                    found.corrected_map.wcs.wcs_pix2world([middle], 0)[0] - true.wcs.wcs_pix2world([middle], 0)[0]
                ]  # fmt: skip
                pointing.append(np.array(off[0]) * 3600)
                pulls.append(pointing[-1] / found.sigma_arcsec.value)
                moved.append(problem.error_arcsec(found.map_after("full"), true))
                flags.append(",".join(found.flags))
            worst = np.max(errors, axis=0)
            rows.append({
                "case": f"{noise:.0%} noise", "x": float(worst[0]), "y": float(worst[1]), "limit": list(limit),
                "x_px": float(worst[0] / 6.0), "y_px": float(worst[1] / 1.098),
                "median": np.median(errors, axis=0).tolist(), "pointing": np.abs(pointing).max(axis=0).tolist(),
                "expected": np.mean(expected, axis=0).tolist(), "one_image": np.median(moved, axis=0).tolist(),
                "pull_rms": float(np.sqrt(np.mean(np.square(pulls)))), "seconds": median(seconds), "flags": flags,
                "reached": bool((worst < limit).all()),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def peers(folder: Path, python: str | None) -> list[dict]:
    """One pair for all, of whole-disc texture with holes: error over the image, and wall time on the same cores."""
    trace = scenes(folder)["trace"]
    rows = []
    for model, truth in (
        ("shift+scale", {"dy": -4.6, "dx": 7.3, "sy": 0.991, "sx": 1.012}),
        ("shift", {"dy": -4.6, "dx": 7.3}),
    ):
        pair = create_test_pair((512, 512), model, truth, noise=0.02, holes=0.1, seed=7, scene=trace)
        ours = our_row(pair, model)
        rows.append(ours)
        print(rows[-1], flush=True)
        for name in ("sunxcorr", "euispice_coreg", "sunkit_image") if python else ():
            rows.append(peer_row(pair, model, name, python, ours))
            print(rows[-1], flush=True)
    return rows


def our_row(pair, model: str) -> dict:
    stackalign.register(pair.reference, pair.moving, model=model, max_shift=20)
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        found = stackalign.register(pair.reference, pair.moving, model=model, max_shift=20)
        seconds.append(time.perf_counter() - began)
    rms, largest = point_error(found.matrix, pair)
    planes = stackalign.prepare_pair(pair.reference, pair.moving)
    candidates = found.parameters + 0.5 * np.random.default_rng(0).standard_normal((256, len(found.parameters))) * (
        [1, 1, 0.01, 0.01] if model == "shift+scale" else [1, 1]
    )
    matrices = transforms.matrices_from_parameters(candidates, model, transforms.image_center(pair.reference.shape))
    stackalign.score_affine(planes, matrices)
    began = time.perf_counter()
    stackalign.score_affine(planes, matrices)
    rate = len(matrices) / (time.perf_counter() - began)
    return {
        "case": f"{model}: stackalign", "rms": rms, "largest": largest, "seconds": median(seconds),
        "evaluations_per_second": rate,
    }  # fmt: skip


def peer_row(pair, model: str, name: str, python: str, ours: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder_name:
        path = Path(folder_name) / "pair.npz"
        np.savez(path, reference=pair.reference, target=pair.moving, scale=model == "shift+scale")
        said = subprocess.run(
            [python, str(Path(__file__).parent / "peers" / "solar.py"), name, str(path)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    answer = json.loads(said.splitlines()[-1])
    values = np.array([[answer[k] for k in ("dy", "dx", "sy", "sx")]])
    center = transforms.image_center(pair.reference.shape)
    rms, largest = point_error(transforms.matrices_from_parameters(values, "shift+scale", center)[0], pair)
    rate = answer["evaluations"] / answer["seconds"] if answer["evaluations"] > 1 else None
    return {
        "case": f"{model}: {name}", "rms": rms, "largest": largest, "seconds": answer["seconds"],
        "evaluations_per_second": rate,
        "error_over_ours": rms / ours["rms"], "time_over_ours": answer["seconds"] / ours["seconds"],
        "ours_over_rate": None if rate is None else ours["evaluations_per_second"] / rate,
    }  # fmt: skip


def batch(folder: Path, n: int) -> list[dict]:
    """Rasters of 192 x 830 against one sequence, one file of them broken."""
    from stackalign.solar import files, manifest

    true, image, frames = observed(folder, (830, 192), (4.0, 1.098), 60.0)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for k, frame in enumerate(frames):
            write(home / f"frame{k:02d}.fits", frame.data, frame.meta)
        listed = ";".join(f"frame{k:02d}.fits" for k in range(len(frames)))
        for k in range(n):
            rng = np.random.default_rng(k)
            noisy = image + 0.05 * np.nanstd(image) * rng.standard_normal(image.shape)
            write(home / f"raster{k:03d}.fits", noisy, wrong_header(true, rng))
        broken = home / f"raster{n // 2:03d}.fits"
        broken.write_bytes(broken.read_bytes()[:50000])
        with (home / "jobs.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["target", "reference"])
            table.writerows([f"raster{k:03d}.fits", listed] for k in range(n))
        memory: list[float] = []
        settings = {"model": "shift+scale+angle", "max_shift": "120 arcsec", "threshold_time": 400 * u.s}

        def each(outcome) -> None:
            memory.append(_resident())

        (home / "out").mkdir()
        began, cpu = time.perf_counter(), time.process_time()
        outcomes = files.run_tasks(manifest.read_manifest(home / "jobs.csv", home / "out", settings), each=each)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        errors = [
            problem.error_arcsec(solar.read_map(o.task.output), true) for o in outcomes if o.status == "done"
        ]  # fmt: skip
        counts = {s: sum(o.status == s for o in outcomes) for s in ("done", "flagged", "failed")}
        row = {
            "case": f"{n} rasters of 192 x 830, {len(frames)} frames", "seconds": seconds,
            "rasters_per_minute": 60 * n / seconds, "cpu_seconds_per_raster": cpu / n, **counts,
            "worst_error": np.max(errors, axis=0).tolist() if errors else None,
            "memory_mb_after_a_tenth": memory[n // 10], "memory_mb_at_the_end": memory[-1],
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "message": next((o.message.replace(f"{home}/", "") for o in outcomes if o.status == "failed"), ""),
        }  # fmt: skip
        print(row, flush=True)
        return [row]


def _resident() -> float:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--rasters", type=int, default=200)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("sunpy").setLevel(logging.ERROR)
    parts = given.parts or ["accuracy", "peers", "batch"]
    if "accuracy" in parts:
        save("solar_accuracy", accuracy(given.folder))
    if "peers" in parts:
        save("solar_peers", peers(given.folder, given.peers))
    if "batch" in parts:
        save("solar_batch", batch(given.folder, given.rasters))


if __name__ == "__main__":
    main()
