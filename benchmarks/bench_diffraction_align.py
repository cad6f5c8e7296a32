"""Diffraction patterns under a beam block against one reference: `align`, beside scikit-image in both precisions.

One thread, all in one run. The peer takes a few of the images, and its time is multiplied. `align` also interpolates
the aligned images, which the peer does not; `shifts` finds the shifts alone, as the peer does.
"""

import sys
import time
from pathlib import Path

import numpy as np

import stackalign
from _harness import median, ratio, rounds, save
from peers import masked_ncc as peers
from stackalign.diffraction import align

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from stackalign.diffraction.synthetic import SyntheticPattern, powder

IMAGES = 32
FEW = 2


def stack(side: int) -> tuple[SyntheticPattern, np.ndarray, np.ndarray]:
    """A reference, patterns that have drifted and by how much."""
    rng = np.random.default_rng(0)
    shifts = rng.integers(-12, 13, (IMAGES, 2))
    middle = 0.5 * (side - 1)
    reference = powder(side, (middle, middle), seed=0)
    images = [powder(side, (middle + y, middle + x), seed=k + 1).image for k, (y, x) in enumerate(shifts)]
    return reference, np.stack(images), shifts


def main() -> None:
    rows = []
    for side in (512, 1024):
        reference, images, shifts = stack(side)
        fixed, mask = reference.image, reference.mask
        options = {"reference_mask": mask, "moving_mask": mask, "workers": 1}
        wide = [a.astype(np.float64) for a in (fixed, images[:FEW])]
        times = rounds(
            {
                "align": lambda r=fixed, i=images, m=mask: align(i, r, mask=m, workers=1),
                "shifts": lambda r=fixed, i=images, o=options: stackalign.masked_shift(r, i, **o),
                "float64": lambda w=wide, m=mask: peers.whole_pixel_shifts(*w, m),
                "float32": lambda r=fixed, i=images, m=mask: peers.whole_pixel_shifts(r, i[:FEW], m),
            },
            5,
            time.process_time,
        )
        found = align(images, fixed, mask=mask, subpixel=False).shift
        theirs = peers.whole_pixel_shifts(fixed.astype(np.float64), images.astype(np.float64), mask)
        factor = IMAGES / FEW
        rows.append(
            {
                "case": f"{side}^2, {IMAGES} images",
                "ms_per_image": median(times["align"]) / IMAGES * 1e3,
                "ms_per_shift": median(times["shifts"]) / IMAGES * 1e3,
                "over_float64": ratio(times, "float64", "align") * factor,
                "over_float32": ratio(times, "float32", "align") * factor,
                "shifts_over_float64": ratio(times, "float64", "shifts") * factor,
                "shifts_over_float32": ratio(times, "float32", "shifts") * factor,
                "same_as_peer": int((found == theirs).all(axis=1).sum()),
                "true": int((found == -shifts).all(axis=1).sum()),
            }
        )
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    print(f"saved {save('diffraction_align', rows)}")


if __name__ == "__main__":
    main()
