"""Matching as the original does it: the simulation zoomed to the display's pixels, and scikit-image."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from skimage.feature import match_template

Array = NDArray[np.float64]


def matched(images: Array, template: Array) -> float:
    return float(match_template(images, template).max())


def zoomed_and_matched(nodes: Array, factor: tuple[float, float], template: Array) -> float:
    images = np.stack([zoom(plane, factor, order=3) for plane in nodes])
    return matched(images, template)
