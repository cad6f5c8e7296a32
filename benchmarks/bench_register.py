"""How far `register` ends from the truth, beside the Cramer-Rao bound; every pair is one scene sampled twice.

``python benchmarks/bench_register.py [FOLDER WITH trace_19980519_171.fits AND SO ON]``
"""

import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, median_filter

import stackalign
from _harness import save
from stackalign import transforms
from stackalign.registration import SyntheticPair, create_test_pair, point_error, random_scene

SEEDS = (0, 1, 2)
SHAPE = (384, 384)
SHIFT_SCALE = {"dy": 7.3, "dx": -4.6, "sy": 1.012, "sx": 0.991}
MODEL = "shift+scale"
MODEL_5 = "shift+scale+angle"

CASES = {
    "2 % noise, 10 % NaN": (MODEL, SHIFT_SCALE, {"noise": 0.02, "holes": 0.1}, (0.02, 0.04)),
    "20 % noise, 10 % and 5 % salt NaN": (MODEL, SHIFT_SCALE, {"noise": 0.2, "holes": 0.1, "salt": 0.05}, (0.03, 0.06)),
    "rotation of 2 degrees": (MODEL_5, SHIFT_SCALE | {"angle": 2.0}, {"noise": 0.02, "holes": 0.1}, (0.03, 0.06)),
    "PSF wider by 2.5 px": (MODEL, SHIFT_SCALE, {"noise": 0.02, "holes": 0.1, "moving_blur": 2.5}, (0.06, 0.12)),
    "40 % overlap, shift of 180 px": (
        MODEL,
        {"dy": -3.2, "dx": 180.3, "sy": 1.003, "sx": 0.998},
        {"noise": 0.02, "holes": 0.1, "shape": (400, 300)},
        (0.03, 0.06),
    ),
}


def scenes(folder: Path | None) -> dict[str, np.ndarray | None]:
    """Name to scene: random structure, and real images without structure below three pixels."""
    found: dict[str, np.ndarray | None] = {"random": None}
    import skimage.data

    for name in ("camera", "moon"):
        found[name] = gaussian_filter(np.asarray(getattr(skimage.data, name)(), np.float64), 1.6)
    if folder is not None:
        from astropy.io import fits

        trace = fits.getdata(folder / "trace_19980519_171.fits").astype(np.float64)
        found["trace"] = gaussian_filter(median_filter(np.sqrt(np.clip(trace - 60, 0, None)), 3), 1.6)
        imager = fits.getdata(folder / "eui_fsi174_20220401_crop.fits").astype(np.float64)
        found["fsi"] = gaussian_filter(np.nan_to_num(imager), 1.6)
    return found


def bound_of(pair: SyntheticPair) -> tuple[float, float]:
    """Rms and largest standard deviation of a point's place, were the Cramer-Rao bound reached."""
    grid = np.stack(np.mgrid[: pair.reference.shape[0] : 8, : pair.reference.shape[1] : 8].astype(np.float64), axis=-1)
    center = transforms.image_center(pair.reference.shape)
    jacobian = transforms.matrix_jacobian(pair.parameters, pair.model, center)
    moves = np.einsum("kij,...j->...ik", jacobian[:, :, :2], grid) + jacobian[:, :, 2].T
    variance = np.einsum("...ik,kl,...il->...", moves, pair.bound, moves)
    return float(np.sqrt(variance.mean())), float(np.sqrt(variance.max()))


def made(scene: np.ndarray | None, model: str, truth: dict, options: dict, seed: int) -> SyntheticPair:
    options = {"shape": SHAPE, **options}
    if scene is not None and seed:  # another part of a real image, not the same pixels with other noise
        scene = np.roll(np.rot90(scene, seed), 40 * seed, axis=0)
    return create_test_pair(options.pop("shape"), model, truth, scene=scene, seed=seed, **options)


def accuracy(folder: Path | None) -> list[dict]:
    rows = []
    for name, (model, truth, options, target) in CASES.items():
        for scene_name, scene in scenes(folder).items():
            errors, bounds, angles, flags = [], [], [], []
            for seed in SEEDS:
                pair = made(scene, model, truth, options, seed)
                found = stackalign.register(pair.reference, pair.moving, model=model)
                errors.append(point_error(found.matrix, pair))
                bounds.append(bound_of(pair))
                flags.append(",".join(found.flags))
                if "angle" in truth:
                    angles.append(abs(found["angle"] - truth["angle"]))
            worst, bound = np.max(errors, axis=0), np.max(bounds, axis=0)
            allowed = np.maximum(target, 1.5 * bound)
            rows.append(
                {
                    "case": f"{name}, {scene_name}",
                    "rms": float(worst[0]),
                    "largest": float(worst[1]),
                    "bound_rms": float(bound[0]),
                    "bound_largest": float(bound[1]),
                    "target": list(target),
                    "reached": bool((worst <= allowed).all()),
                    "angle": max(angles, default=None),
                    "flags": flags,
                }
            )
            print({k: round(v, 5) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def coverage(n_seeds: int = 50) -> list[dict]:
    """How often the error of a parameter is within its reported standard deviation, over noise seeds."""
    rows = []
    for noise, holes in ((0.02, 0.1), (0.05, 0.1), (0.2, 0.1)):
        scene = random_scene((400, 400), 5)
        hits, errors, sigmas = [], [], []
        for seed in range(n_seeds):
            pair = create_test_pair((256, 256), MODEL, SHIFT_SCALE, scene=scene, noise=noise, holes=holes, seed=seed)
            found = stackalign.register(pair.reference, pair.moving, model=MODEL)
            error = found.parameters - pair.parameters
            hits.append(np.abs(error) <= found.sigma)
            errors.append(error)
            sigmas.append(found.sigma)
        scatter = np.sqrt(np.mean(np.square(errors), axis=0))
        rows.append(
            {
                "case": f"coverage, {noise:.0%} noise",
                "within_sigma": np.mean(hits, axis=0).tolist(),
                "all": float(np.mean(hits)),
                "sigma_over_scatter": (np.mean(sigmas, axis=0) / scatter).tolist(),
                "bias_over_scatter": (np.mean(errors, axis=0) / scatter).tolist(),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    print(f"saved {save('register', accuracy(folder) + coverage())}")


if __name__ == "__main__":
    main()
