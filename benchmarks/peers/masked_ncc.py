"""Masked correlation and template matching, one image after the other, with scikit-image."""

import numpy as np
from skimage.feature import match_template
from skimage.registration import phase_cross_correlation

__all__ = ["templates", "whole_pixel_shifts"]


def whole_pixel_shifts(reference, images, mask):
    """`phase_cross_correlation` with masks, in the type of the images; one mask for all."""
    return np.array([phase_cross_correlation(reference, i, reference_mask=mask, moving_mask=mask)[0] for i in images])


def templates(images, several):
    """`match_template` of stacks (D, h, w) in a stack (D, H, W): one coefficient over all D."""
    return np.stack([match_template(images, t)[0] for t in several])
