"""Masked correlation."""

from collections.abc import Iterator

import numpy as np

from conformance._op import EXACT, Branch, Case, Field, Op, Sample
from stackalign.backends._lags import intersection, possible
from stackalign.backends._protocol import KERNEL_DTYPES, Lags

MAP = 1e-6
"""Absolute: transforms in float32 of images that vary as much where they overlap as they do as a whole."""
SLACK_OF_FEW = 1000.0
"""For the score of an overlap of a few pixels, which may vary by no more than `FLAT_OVERLAP` of the whole."""


def _scene(rng, dtype, shape, small, frames, depth, kind):
    """Images with a common part, shifted by a few pixels, and masks: of none, all, one or both of them."""
    references = frames if kind == "each" else 1
    scene = rng.gamma(2.0, 20.0, (references, depth, shape[0] + 20, shape[1] + 20))
    fixed = scene[:, :, 10 : 10 + shape[0], 10 : 10 + shape[1]]
    moved = np.empty((frames, depth, *small))
    for k in range(frames):
        common = scene[k % references, :, 8 + k : 8 + k + small[0], 13 - k : 13 - k + small[1]]
        moved[k] = 0.0
        moved[k, :, : common.shape[1], : common.shape[2]] = common
    moved += rng.gamma(2.0, 5.0, moved.shape)
    masks = [None, None]
    if kind != "none":
        masks[0] = rng.random((references, depth, *shape)) < 0.8
        masks[1] = rng.random((1 if kind == "shared" else frames, depth, *small)) < 0.9
    fixed, moved = fixed.astype(dtype), moved.astype(dtype)
    if np.dtype(dtype).kind == "f" and kind in ("shared", "each"):
        fixed[0, 0, -1, -1], moved[0, 0, min(2, small[0] - 1)] = np.inf, np.nan
    return fixed, masks[0], moved, masks[1]


def _correlations(few: bool) -> Iterator[Case]:
    """Cases, with or without those of overlaps of any size."""
    sizes = {
        "1x1": ((1, 1), (1, 1)),
        "32x33": ((32, 33), (32, 33)),
        "20x90": ((20, 90), (20, 90)),
        "onto_smaller": ((30, 41), (37, 20)),
        "onto_larger": ((41, 30), (23, 19)),
    }
    windows = {"all": None, "near": Lags(-5, -4, 6, 3), "beside": Lags(2, -6, 5, -1), "inside": Lags(0, 0, 18, 11)}
    for dtype in KERNEL_DTYPES:
        for size, (shape, small) in sizes.items():
            if dtype not in ("float32", "uint16") and size != "32x33":
                continue
            for kind in ("none", "shared", "own", "each"):
                for name, window in windows.items():
                    if (dtype not in ("float32", "uint16") and name != "near") or (
                        name == "inside" and size != "onto_larger"
                    ):
                        continue
                    for depth, ratio in ((1, 0.3), (2, 0.7), (1, 0.0)):

                        def make(rng, d=dtype, a=shape, b=small, k=kind, w=window, depth=depth, ratio=ratio):
                            r, r_mask, v, v_mask = _scene(rng, d, a, b, 3, depth, k)
                            lags = possible(a, b)
                            return {
                                "reference": r,
                                "reference_mask": r_mask,
                                "moving": v,
                                "moving_mask": v_mask,
                                "lags": lags if w is None else intersection(w, lags),
                                "overlap_ratio": ratio,
                            }

                        if size == "1x1" and name == "beside":  # no such lags
                            continue
                        label = f"{size}-{name}-mask_{kind}-{depth}-{ratio}"
                        if ratio > 0:
                            yield Case(label, dtype, make)
                        elif few:
                            yield Case(label, dtype, make, SLACK_OF_FEW)
    yield Case("constant_and_empty", "float32", _constant_and_empty)


def _constant_and_empty(rng):
    r, r_mask, v, v_mask = _scene(rng, "float32", (30, 31), (30, 31), 5, 1, "shared")
    v[1], v[2], v[3] = 7.0, np.nan, -r[0]
    v_mask[...] = True
    v[4, :, :, :16] = 0.1  # constant in part
    lags = Lags(-3, -2, 4, 5)
    return {
        "reference": r,
        "reference_mask": r_mask,
        "moving": v,
        "moving_mask": v_mask,
        "lags": lags,
        "overlap_ratio": 0.5,
    }


def _branches(sample: Sample) -> Iterator[Branch]:
    rng = np.random.default_rng(22)
    # Noise, because scores of parts that vary less than the whole are less precise.
    noise = rng.normal(size=sample.patterns.shape)
    moving = np.where(np.isfinite(sample.patterns), noise, np.nan).astype(np.float32)[:, None]
    mask = None if sample.mask is None else sample.mask[:, None]
    # The reference is larger, and shifted: transforms are longer than both, and lags are not symmetrical.
    fixed = np.roll(np.pad(noise[:, None], ((0, 0), (0, 0), (3, 5), (2, 9)), mode="wrap"), (2, -1), (2, 3))
    # Pieces of opposite corners, and one without variance; parts of one piece and of the reference are constant.
    whole = rng.normal(size=(1, 1, 24, 25))
    pieces = np.stack([whole[0, :, :6, :7], whole[0, :, -6:, -7:], np.full((1, 6, 7), 2.0)])
    flat = whole[:, :, :9, :9].copy()
    small = np.stack([whole[0, :, :4, :4], whole[0, :, 5:9, 5:9], pieces[2, :, :4, :4]])
    small[0, :, :, 2:], flat[:, :, 1:6, 3:9] = 0.5, 0.75
    names = ("reference", "reference_mask", "moving", "moving_mask", "lags", "overlap_ratio")
    problems = {
        "one": (fixed[:1], None, moving, mask, Lags(-3, -9, 8, 6), 0.4),
        "each": (fixed, None, moving, mask, Lags(3, -4, 3, 2), 0.4),
        "constant parts": (flat, None, small, None, possible((9, 9), (4, 4)), 0.4),
        "pieces": (whole, None, pieces, None, possible((24, 25), (6, 7)), 1.0),
    }
    for name, values in problems.items():
        slack = SLACK_OF_FEW if name in ("constant parts", "pieces") else 1.0
        yield Branch(name, dict(zip(names, values, strict=True)), slack)


OPERATIONS = (
    Op(
        "masked_ncc", ("masked_ncc", "match_template"), {"maps": Field(MAP)}, lambda: _correlations(few=True), _branches
    ),
    Op(
        "masked_peaks",
        ("masked_shift",),
        {
            "lags": Field(EXACT),
            "peaks": Field(MAP),
            "overlap": Field(EXACT),
            "neighbours": Field(MAP),
            "rings": Field(MAP),
        },
        lambda: _correlations(few=False),  # the scores of two pixels are all 1
        _branches,
    ),
)
