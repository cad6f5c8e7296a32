"""Affine resampling with general-purpose libraries, NaN where the sample is outside or beside a NaN, on one thread."""

import numpy as np
from scipy import ndimage


def scipy(image, m, order):
    """`scipy.ndimage.affine_transform`, in its fastest form where the matrix is diagonal."""
    linear = m[:, :2]
    diagonal = linear[0, 1] == 0 and linear[1, 0] == 0
    return ndimage.affine_transform(
        image, np.diag(linear).copy() if diagonal else linear, m[:, 2], order=order, cval=np.nan
    )


def opencv(image, m, order):
    """`cv2.warpAffine`; it lets NaN spread to all that it touches."""
    import cv2

    cv2.setNumThreads(1)
    pull = np.array([[m[1, 1], m[1, 0], m[1, 2]], [m[0, 1], m[0, 0], m[0, 2]]])
    flags = (cv2.INTER_LINEAR if order == 1 else cv2.INTER_NEAREST) | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, pull, image.shape[::-1], flags=flags, borderValue=float("nan"))


def normalised_theta(matrices, shape, moving_shape):
    """Pull matrices (K, 2, 3) in pixels as `torch.nn.functional.affine_grid` wants them: (x, y), from -1 to 1."""
    sizes = np.array([moving_shape[1] - 1, moving_shape[0] - 1]) / 2.0
    half = np.array([shape[1] - 1, shape[0] - 1]) / 2.0
    m = matrices[:, ::-1][:, :, [1, 0, 2]]  # (x, y)
    linear = m[:, :, :2] * half / sizes[:, None]
    offset = (m[:, :, :2] @ half + m[:, :, 2]) / sizes - 1.0
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def grid_sample(image, m, order):
    """`torch.nn.functional.grid_sample` on a grid of `affine_grid`; zeros outside."""
    import torch

    torch.set_num_threads(1)
    theta = torch.from_numpy(normalised_theta(m[None], image.shape, image.shape)).float()
    grid = torch.nn.functional.affine_grid(theta, (1, 1, *image.shape), align_corners=True)
    mode = "bilinear" if order == 1 else "nearest"
    return torch.nn.functional.grid_sample(torch.from_numpy(image)[None, None], grid, mode=mode, align_corners=True)
