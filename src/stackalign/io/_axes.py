"""Axes of a stored stack, for the formats that describe them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.io._protocol import Calibration
from stackalign.io._writer import WriteSpec

__all__ = ["axes_of"]


def axes_of(spec: WriteSpec) -> list[tuple[str, str, NDArray[Any]]]:
    """Name, unit and positions of each axis of the stored array."""
    calibration = spec.calibration or Calibration()
    height, width = spec.shape[1:]
    step_y, step_x = calibration.scan_step or (1.0, 1.0)
    scan_units = calibration.scan_units if calibration.scan_step else ""
    leading = [("pattern", "", np.arange(spec.array_shape[0], dtype=float))]
    if spec.channel_axis:
        leading.append(("channel", "", np.zeros(1)))
    elif len(spec.array_shape) == 4:
        rows, columns = spec.scan_shape
        leading = [
            ("scan_y", scan_units, np.arange(rows) * step_y),
            ("scan_x", scan_units, np.arange(columns) * step_x),
        ]
    detector = [
        (label, calibration.units, (np.arange(length) - origin) * size)
        for label, length, origin, size in zip(
            "yx", (height, width), calibration.origin, calibration.pixel_size, strict=True
        )
    ]
    return [*leading, *detector]
