"""Masked shifts of 32 images against one reference and mask, and templates within images, beside scikit-image.

One thread, all in one run. The peer takes a few of the images, and its time is multiplied.
"""

import time

import numpy as np
from scipy.ndimage import gaussian_filter

import stackalign
from _harness import median, ratio, rounds, save
from peers import masked_ncc as peers

IMAGES = 32
FEW = 2


def stack(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A reference, shifted noisy images, the block over all of them, and the shifts that bring them back."""
    rng = np.random.default_rng(0)
    scene = sum(gaussian_filter(rng.normal(size=(side + 64, side + 64)), s) * s for s in (1.5, 5, 15))
    shifts = rng.integers(-32, 33, (IMAGES, 2))
    views = [scene[32 + y : 32 + y + side, 32 + x : 32 + x + side] for y, x in [(0, 0), *shifts]]
    images = np.stack(views) + 0.1 * rng.normal(size=(IMAGES + 1, side, side))
    y, x = np.indices((side, side))
    mask = ~((y < 0.6 * side) & (np.abs(x - 0.5 * side) < 0.03 * side))
    images[:, ~mask] = 3.0
    return images[0].astype(np.float32), images[1:].astype(np.float32), mask, shifts


def shifts() -> list[dict]:
    rows = []
    for side in (512, 1024):
        reference, images, mask, truth = stack(side)
        options = {"reference_mask": mask, "moving_mask": mask, "workers": 1}
        wide = [a.astype(np.float64) for a in (reference, images[:FEW])]
        times = rounds(
            {
                "all": lambda r=reference, i=images, o=options: stackalign.masked_shift(r, i, **o),
                "near": lambda r=reference, i=images, o=options: stackalign.masked_shift(r, i, max_shift=64, **o),
                "map": lambda r=reference, i=images, o=options: stackalign.masked_ncc(r, i, **o),
                "float64": lambda w=wide, m=mask: peers.whole_pixel_shifts(*w, m),
                "float32": lambda r=reference, i=images, m=mask: peers.whole_pixel_shifts(r, i[:FEW], m),
            },
            7,
            time.process_time,
        )
        found = [stackalign.masked_shift(reference, images, subpixel=False, max_shift=w, **options) for w in (None, 64)]
        theirs = peers.whole_pixel_shifts(*wide, mask)
        factor = IMAGES / FEW
        rows.append(
            {
                "case": f"{side}^2, {IMAGES} images",
                "ms_per_image": median(times["all"]) / IMAGES * 1e3,
                "ms_per_image_near": median(times["near"]) / IMAGES * 1e3,
                "ms_per_map": median(times["map"]) / IMAGES * 1e3,
                "over_float64": ratio(times, "float64", "all") * factor,
                "over_float32": ratio(times, "float32", "all") * factor,
                "near_over_float64": ratio(times, "float64", "near") * factor,
                "near_over_float32": ratio(times, "float32", "near") * factor,
                "same_shifts": bool(
                    (found[0].shift == truth).all()
                    and (found[1].shift == truth).all()
                    and (theirs == truth[:FEW]).all()
                ),
            }
        )
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def templates() -> list[dict]:
    """Sizes of disks and search areas as they are in convergent-beam patterns."""
    rows = []
    cases = ((5, (470, 470), (60, 230)), (4, (320, 320), (160, 160)), (1, (257, 257), (135, 160)))
    for depth, shape, small in (*cases, (7, (80, 80), (64, 64))):
        rng = np.random.default_rng(1)
        images = gaussian_filter(rng.normal(size=(depth, *shape)), (0, 3, 3)).astype(np.float32)
        several = np.stack([images[:, 7 : 7 + small[0], k : k + small[1]] for k in range(16)])
        several += 0.1 * images.std() * rng.normal(size=several.shape).astype(np.float32)
        times = rounds(
            {
                "ours": lambda i=images, t=several: stackalign.match_template(i, t, workers=1),
                "scikit-image": lambda i=images, t=several: peers.templates(i, t[:1]),
            },
            7,
            time.process_time,
        )
        found = stackalign.match_template(images, several[:1])
        error = np.abs(found - peers.templates(images.astype(np.float64), several[:1].astype(np.float64))).max()
        rows.append(
            {
                "case": f"{depth} x {shape[0]} x {shape[1]}, templates {small[0]} x {small[1]}",
                "ms_per_template": median(times["ours"]) / len(several) * 1e3,
                "over_scikit_image": ratio(times, "scikit-image", "ours") * len(several),
                "error": float(error),
            }
        )
        print({k: round(v, 9) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def main() -> None:
    save("masked_ncc", shifts())
    print(f"saved {save('match_template', templates())}")


if __name__ == "__main__":
    main()
