"""Other coalignment packages on a pair of images; run by bench_solar.py with the Python of an environment of their own.

``python peers/solar.py NAME PROBLEM.npz`` prints JSON: the matrix that leads from pixels of the target to those of the
reference, seconds, and how many candidates were scored.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np


def sunxcorr(reference, target, *, scale: bool):
    """SunXCorr's search of shift and scale, with two worker processes."""
    from sunxcorr.optimization import optimize_shift_and_scale
    from sunxcorr.worker_setup import setup_persistent_workers, shutdown_persistent_workers

    tasks, results, payloads, workers = setup_persistent_workers(2)

    class Pool:
        _processes = 2

    settings = {"scale_step": 1e-3, "scale_range": (0.95, 1.05)} if scale else {}
    answers = []
    for _ in range(4):  # the first compiles
        began = time.perf_counter()
        best, _, history = optimize_shift_and_scale(
            target, reference, 20, workers=Pool(), task_queue=tasks, result_queue=results, shared_payloads=payloads,
            n_neighbors=120, verbose=0, **settings,
        )  # fmt: skip
        answers.append(time.perf_counter() - began)
    shutdown_persistent_workers(tasks, workers)
    return {
        "dy": best["dy"], "dx": best["dx"], "sy": best.get("sy", 1.0), "sx": best.get("sx", 1.0),
        "seconds": float(np.median(answers[1:])), "evaluations": len(history),
    }  # fmt: skip


def euispice_coreg(reference, target, *, scale: bool):
    """Lags of CRVAL on a grid of whole pixels, then a Gaussian through the correlations; two processes."""
    from astropy.io import fits
    from euispice_coreg.hdrshift.alignment import Alignment

    header = fits.Header()
    n = reference.shape[0]
    header.update({
        "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CDELT1": 1.0,
        "CDELT2": 1.0, "CRPIX1": (n + 1) / 2, "CRPIX2": (n + 1) / 2, "CRVAL1": 0.0, "CRVAL2": 0.0, "CROTA": 0.0,
        "PC1_1": 1.0, "PC1_2": 0.0, "PC2_1": 0.0, "PC2_2": 1.0, "DATE-OBS": "2022-04-01T00:00:00",
        "DATE-AVG": "2022-04-01T00:00:00", "RSUN_REF": 695700000.0, "DSUN_OBS": 1.496e11, "HGLN_OBS": 0.0,
        "HGLT_OBS": 0.0,
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{name}.fits") for name in ("large", "small")]
        for path, image in zip(paths, (reference, target), strict=True):
            fits.PrimaryHDU(image, header).writeto(path)
        lags = (np.arange(1.0, 14.0), np.arange(-10.0, 3.0))
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            found = Alignment(
                paths[0], paths[1], lag_crval1=lags[0], lag_crval2=lags[1], lag_cdelt1=None, lag_cdelt2=None,
                lag_crota=None, parallelism=True, counts_cpu_max=2, reprojection_order=1,
            ).align_using_helioprojective()  # fmt: skip
        seconds = time.perf_counter() - began
    corr = np.squeeze(found.corr)
    shift = found.shift_arcsec
    dx, dy = (float(np.ravel(s)[0]) for s in shift[:2]) if shift is not None else (
        float(lags[k][np.unravel_index(corr.argmax(), corr.shape)[k]]) for k in (0, 1)
    )  # fmt: skip
    return {"dy": dy, "dx": dx, "sy": 1.0, "sx": 1.0, "seconds": seconds, "evaluations": int(corr.size)}


def sunkit_image(reference, target, *, scale: bool):
    """Template matching with a parabola through the peak; it has no masks: holes are filled with the mean."""
    from sunkit_image.coalignment import _find_best_match_location, match_template_to_layer

    filled = [np.where(np.isfinite(a), a, np.nanmean(a)) for a in (reference, target)]
    m = 32
    template = filled[1][m:-m, m:-m]
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        y, x = _find_best_match_location(match_template_to_layer(filled[0], template))
        seconds.append(time.perf_counter() - began)
    dy, dx = (float(getattr(v, "value", v)) - m for v in (y, x))
    return {"dy": dy, "dx": dx, "sy": 1.0, "sx": 1.0, "seconds": float(np.median(seconds)), "evaluations": 1}


def main() -> None:
    name, path = sys.argv[1:]
    warnings.simplefilter("ignore")
    with np.load(path) as problem:
        reference, target, scale = problem["reference"], problem["target"], bool(problem["scale"])
    if name == "versions":
        from importlib.metadata import version

        print(json.dumps({p: version(p) for p in ("sunxcorr", "euispice_coreg", "sunkit_image")}))
        return
    print(json.dumps(globals()[name](reference, target, scale=scale)))


if __name__ == "__main__":
    main()
