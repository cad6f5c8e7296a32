"""Scoring candidates one by one with general-purpose libraries: resample, then correlate."""

import math

import numba
import numpy as np
from scipy import ndimage

from peers.resample import normalised_theta


def pearson(r, v):
    both = np.isfinite(r) & np.isfinite(v)
    r, v = r[both], v[both]
    r, v = r - r.mean(), v - v.mean()
    return float((r * v).sum() / np.sqrt((r * r).sum() * (v * v).sum()))


def scipy_separable(reference, moving, matrices):
    """`scipy.ndimage.affine_transform` with the diagonal of the matrix, which is its fastest form."""
    return np.array(
        [
            pearson(
                reference, ndimage.affine_transform(moving, np.diag(m[:, :2]).copy(), m[:, 2], order=1, cval=np.nan)
            )
            for m in matrices
        ]
    )


def scipy_full(reference, moving, matrices):
    """`scipy.ndimage.affine_transform` with a full matrix."""
    return np.array(
        [
            pearson(reference, ndimage.affine_transform(moving, m[:, :2], m[:, 2], order=1, cval=np.nan))
            for m in matrices
        ]
    )


def opencv(reference, moving, matrices):
    """`cv2.warpAffine` of image and mask; None where OpenCV is not installed."""
    import cv2

    valid = np.isfinite(moving).astype(np.float32)
    image = np.where(valid > 0, moving, 0).astype(np.float32)
    scores = []
    for m in matrices:
        pull = np.array([[m[1, 1], m[1, 0], m[1, 2]], [m[0, 1], m[0, 0], m[0, 2]]])
        size = reference.shape[::-1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        v = cv2.warpAffine(image, pull, size, flags=flags)
        w = cv2.warpAffine(valid, pull, size, flags=flags)
        scores.append(pearson(reference, np.where(w > 0.999, v, np.nan)))
    return np.array(scores)


def torch_grid_sample(reference, moving, matrices, batch=4):
    """`torch.nn.functional.grid_sample` of image and mask for a few candidates at once, then Pearson; one thread."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    valid = torch.from_numpy(np.isfinite(moving)).float()
    planes = torch.stack([torch.from_numpy(np.nan_to_num(moving)).float(), valid])
    r = torch.from_numpy(np.nan_to_num(reference)).float()
    there = torch.from_numpy(np.isfinite(reference))
    theta = torch.from_numpy(normalised_theta(matrices, reference.shape, moving.shape)).float()
    scores = []
    for some in theta.split(batch):
        grid = functional.affine_grid(some, (len(some), 1, *reference.shape), align_corners=True)
        sampled = functional.grid_sample(planes.expand(len(some), -1, -1, -1), grid, align_corners=True)
        both = (there & (sampled[:, 1] > 0.999)).float()
        n = both.sum((1, 2))
        v = sampled[:, 0]
        dr = (r - ((r * both).sum((1, 2)) / n)[:, None, None]) * both
        dv = (v - ((v * both).sum((1, 2)) / n)[:, None, None]) * both
        scores.append((dr * dv).sum((1, 2)) / torch.sqrt((dr * dr).sum((1, 2)) * (dv * dv).sum((1, 2))))
    return torch.cat(scores).double().numpy()


@numba.njit(nogil=True, error_model="numpy")
def plain_loop(reference, moving, matrices):
    """One pass over the pixels of each candidate, as one would write it down."""
    height, width = reference.shape
    scores = np.empty(len(matrices))
    for k in range(len(matrices)):
        m = matrices[k]
        n, sr, sv, srr, svv, srv = 0, 0.0, 0.0, 0.0, 0.0, 0.0
        for y in range(height):
            for x in range(width):
                qy = m[0, 0] * y + m[0, 1] * x + m[0, 2]
                qx = m[1, 0] * y + m[1, 1] * x + m[1, 2]
                y0, x0 = math.floor(qy), math.floor(qx)
                if y0 < 0 or x0 < 0 or y0 + 1 >= moving.shape[0] or x0 + 1 >= moving.shape[1]:
                    continue
                r = reference[y, x]
                fy, fx = qy - y0, qx - x0
                v = (1 - fy) * ((1 - fx) * moving[y0, x0] + fx * moving[y0, x0 + 1]) + fy * (
                    (1 - fx) * moving[y0 + 1, x0] + fx * moving[y0 + 1, x0 + 1]
                )
                if math.isnan(r) or math.isnan(v):
                    continue
                n += 1
                sr += r
                sv += v
                srr += r * r
                svv += v * v
                srv += r * v
        scores[k] = (srv - sr * sv / n) / math.sqrt((srr - sr * sr / n) * (svv - sv * sv / n))
    return scores
