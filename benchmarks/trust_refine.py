"""Rows of the trust table: refinement of thickness and tilt, with models that are right and models that are not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from _refine_scenes import FCC, SPECIMENS, Specimen, cubic, fitted, known_within, silicon
from _trust import Row, Trial

SILICON, ARSENIDE, TITANATE, GOLD = SPECIMENS.values()
COUNTS = 300.0


def _plain(
    name: str,
    specimen: Specimen = SILICON,
    counts: float = COUNTS,
    kind: Literal["nominal", "misfit"] = "nominal",
    said: bool = True,
    **model,
) -> Row:
    """A pattern of the specimen, fitted with a model that differs in what is given.

    In nominal rows held values are off by as much as is said of them, or right and nothing is said; in the others
    nothing is said of them.
    """

    def make(seed: int) -> Trial:
        truth = specimen.pattern(specimen.thickness(seed), counts, seed)
        known = known_within(specimen, seed) if kind == "nominal" and said else {}
        return fitted(specimen, truth, truth.data, **known | model)

    return Row(name, kind, make)


def _wrong(name: str, specimen: Specimen = SILICON, **model) -> Row:
    return _plain(name, specimen, kind="misfit", **model)


def _changed(name: str, change: Callable[[np.ndarray, int], np.ndarray]) -> Row:
    """Counts of silicon that are changed after the fact."""

    def make(seed: int) -> Trial:
        truth = SILICON.pattern(SILICON.thickness(seed), COUNTS, seed)
        return fitted(SILICON, truth, replace(truth.data, images=change(truth.data.images.copy(), seed)))

    return Row(name, "misfit", make)


def _wedge(share: float) -> Row:
    """Thicknesses to either side, averaged, with the noise of one pattern."""

    def make(seed: int) -> Trial:
        middle = SILICON.thickness(seed)
        thicknesses = middle * np.linspace(1 - share / 2, 1 + share / 2, 7)
        images = [SILICON.pattern(float(t), COUNTS, 10 * seed + k).data.images for k, t in enumerate(thicknesses)]
        some = np.random.default_rng(seed).binomial(np.sum(images, 0).astype(np.int64), 1 / 7)
        truth = SILICON.pattern(middle, COUNTS, seed)
        return fitted(SILICON, truth, replace(truth.data, images=some.astype(np.float32)))

    return Row(f"wedge of {share:.0%}", "misfit", make)


def _saturated(images: np.ndarray, _: int) -> np.ndarray:
    images[0] = np.minimum(images[0], np.percentile(images[0], 60))
    return images


def _striped(images: np.ndarray, seed: int) -> np.ndarray:
    images[:, int(np.random.default_rng(seed).integers(7, 15)) :][:, :3] = 0
    return images


def _overlapping(images: np.ndarray, _: int) -> np.ndarray:
    """The edge of each disk lies in the next one's."""
    width = images.shape[-1] // 3
    added = images.copy()
    added[:, :, -width:] += np.roll(images, 1, axis=0)[:, :, :width]
    return added


def _sloping(images: np.ndarray, seed: int) -> np.ndarray:
    """A background of 30 % of the mean that slopes another way in each disk."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(images.shape[1:]) / images.shape[-1] - 0.5
    angle = rng.uniform(0, 2 * np.pi, len(images))[:, None, None]
    slope = 0.3 * images.mean() * (1 + 2 * (np.cos(angle) * x + np.sin(angle) * y))
    return images + rng.poisson(np.maximum(slope, 0)).astype(images.dtype)


def rows() -> list[Row]:
    """Return the rows of refinement; those of one specimen are together, since its Bloch waves are remembered."""
    beam = SILICON.beam
    nominal = [_plain(f"Si, {counts:g} counts", counts=counts) for counts in (3000.0, 300.0, 30.0, 5.0)]
    nominal += [_plain("Si, 300 counts, nothing said", said=False)]
    voltages = [_wrong(f"{kv} kV for 200", beam=replace(beam, kv=kv)) for kv in (120, 185, 195, 300)]
    factors = [_wrong(f"B {b} for 0.47", crystal=silicon(b)) for b in (0.0, 0.39, 0.53, 0.7, 1.2)]
    compound = cubic(5.431, ["Al"] * 4 + ["P"] * 4, np.concatenate([FCC, FCC + 0.25]), 0.4668)
    element = cubic(5.431, ["Ge"] * 8, np.concatenate([FCC, FCC + 0.25]), 0.4668)
    absorbing = {"absorption": "perturbative", "absorptive_ratio": 0.06}
    others = [
        _wrong("Ge for Si", crystal=element),
        _wrong("AlP for Si", crystal=compound),
        _wrong("absorption that is not there", **absorbing),
        _wrong("bounds that exclude the truth", bounds=(1300.0, 2200.0)),
        _wedge(0.2),
    ]
    changed = [
        _changed("000 saturated", _saturated),
        _changed("one disk upside down", lambda images, _: np.concatenate([images[:3], images[3:, ::-1]])),
        _changed("two disks exchanged", lambda images, _: images[[0, 1, 3, 2]]),
        _changed("a disk of another contrast", lambda images, _: images * np.array([1, 1, 1, 1.5])[:, None, None]),
        _changed("a stripe of dead pixels", _striped),
        _changed("overlapping disks", _overlapping),
        _changed("a sloping background", _sloping),
    ]
    other_crystals = [
        _plain("GaAs, 300 counts", ARSENIDE),
        _plain("GaAs, 300 counts, nothing said", ARSENIDE, said=False),
        _wrong("Si for GaAs", ARSENIDE, crystal=silicon()),
        _wrong("GaAs that absorbs, without absorption", replace(ARSENIDE, absorption=0.03)),
        _plain("SrTiO3, 300 counts", TITANATE),
        _plain("Au, 300 counts", GOLD, bounds=(100.0, 700.0)),
    ]
    return [*nominal, *voltages, *factors, *others, *changed, *other_crystals]
