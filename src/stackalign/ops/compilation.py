"""Compiling the CPU kernels before they are needed."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from stackalign.backends import load
from stackalign.backends._protocol import KERNEL_DTYPES, SUBJECTS

__all__ = ["PIPELINES", "warmup"]

_log = logging.getLogger(__name__)

_REGISTRATION = ("affine_linearize", "affine_ncc", "affine_resample", "binning", "masked_ncc", "standardise")
_PLANES = ("float32", "float64")
"""Types that images become on the way, whatever they were."""

PIPELINES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "crop": (("crop", "radial"), ()),
    "register": (_REGISTRATION, _PLANES),
    "diffraction": ((*_REGISTRATION, "affine_average", "bins", "statistics"), _PLANES),
    "solar": (_REGISTRATION, _PLANES),
    "refine": (("affine_resample", "binning"), _PLANES),
}
"""Pipeline to the subjects of the kernels that it needs, and the types that it needs beside those of its input."""


def warmup(dtypes: Sequence[str] | None = None, pipelines: Sequence[str] | None = None) -> dict[str, float]:
    """Compile the CPU kernels now, so that no later call waits for it.

    Compiled kernels are kept on disk, for every process of the user. Kernels for a GPU are not concerned.

    Parameters
    ----------
    dtypes : sequence of str, optional
        Types of the pixels of images: uint8, uint16, uint32, int16, int32, float32, float64. All of them by default.
    pipelines : sequence of str, optional
        What will be used: crop, register, diffraction, solar, refine. All operations by default.

    Returns
    -------
    dict of str to float
        Seconds for each type, those that the pipelines make of images included.

    Raises
    ------
    ValueError
        There are no kernels for a type, or a pipeline is not known.

    Examples
    --------
    >>> import stackalign as sa
    >>> seconds = sa.warmup(["uint16"], ["crop"])
    >>> list(seconds)
    ['uint16']
    """
    chosen = list(dict.fromkeys(dtypes if dtypes is not None else KERNEL_DTYPES))
    for name in chosen:
        if name not in KERNEL_DTYPES:
            msg = f"there are no kernels for {name!r}; choose from {', '.join(KERNEL_DTYPES)}"
            raise ValueError(msg)
    subjects_by_name: dict[str, set[str]] = {name: set() for name in chosen}
    if pipelines is None:
        subjects_by_name = {name: set(SUBJECTS.values()) for name in chosen}
    for pipeline in pipelines or ():
        if pipeline not in PIPELINES:
            msg = f"there is no pipeline {pipeline!r}; choose from {', '.join(PIPELINES)}"
            raise ValueError(msg)
        subjects, planes = PIPELINES[pipeline]
        for name in (*chosen, *planes):
            subjects_by_name.setdefault(name, set()).update(subjects)
    cpu: Any = load("cpu")  # it alone compiles
    seconds = {}
    for name, subjects_of in subjects_by_name.items():
        began = time.perf_counter()
        cpu.warm(name, subjects_of)
        seconds[name] = time.perf_counter() - began
        _log.info("kernels for %s: %.1f s", name, seconds[name])
    return seconds
