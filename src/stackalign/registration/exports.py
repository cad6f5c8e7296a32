"""Transforms of a registration in the conventions of other packages."""

from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import MissingDependencyError

if TYPE_CHECKING:
    from skimage.transform import AffineTransform

__all__ = ["Exports", "theta_of"]


def theta_of(
    matrices: FloatArray, moving_shape: tuple[int, int], output_shape: tuple[int, int], *, align_corners: bool
) -> FloatArray:
    """Give pull matrices (..., 2, 3) in pixels (y, x) as `torch.nn.functional.affine_grid` takes them.

    They act on (x, y) from -1 to 1: the outer edges of the outer pixels, or with `align_corners` their middles.
    """
    gap = 0.0 if align_corners else 0.5
    less = 1 if align_corners else 0
    to_output = np.array([output_shape[1] - less, output_shape[0] - less]) / 2
    to_moving = np.array([moving_shape[1] - less, moving_shape[0] - less]) / 2
    linear = matrices[..., ::-1, 1::-1]  # (x, y) in both
    offset = matrices[..., ::-1, 2]
    with np.errstate(divide="ignore"):
        from_moving = np.where(to_moving > 0, 1 / to_moving, 0.0)
    theta = np.empty((*matrices.shape[:-2], 2, 3))
    theta[..., :2] = linear * from_moving[:, None] * to_output
    theta[..., 2] = (linear @ (to_output - gap) + offset + gap) * from_moving - 1
    return theta


class Exports:
    """The transform of a result for SciPy, scikit-image and PyTorch."""

    matrix: FloatArray

    def to_scipy(self) -> dict[str, Any]:
        """Return the arguments that `scipy.ndimage.affine_transform` takes besides the moving image.

        Returns
        -------
        dict
            ``matrix`` (2, 2) and ``offset`` (2,); add ``output_shape`` where the images differ in shape.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy import ndimage
        >>> import stackalign as sa
        >>> from stackalign.registration import create_test_pair
        >>> pair = create_test_pair((96, 96), "shift", (3.2, -1.4))
        >>> result = sa.register(pair.reference, pair.moving)
        >>> aligned = ndimage.affine_transform(pair.moving, **result.to_scipy(), order=1, cval=np.nan)
        >>> bool(np.nanmax(np.abs(aligned - result.apply(pair.moving))) < 1e-4)
        True
        """
        return {"matrix": self.matrix[:, :2].copy(), "offset": self.matrix[:, 2].copy()}

    def to_skimage(self) -> "AffineTransform":
        """Return the transform for `skimage.transform.warp`: from (x, y) of the reference to those of the moving image.

        Returns
        -------
        skimage.transform.AffineTransform
            The inverse map that ``warp(moving, transform)`` asks for.

        Raises
        ------
        MissingDependencyError
            scikit-image is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from skimage.transform import warp
        >>> import stackalign as sa
        >>> from stackalign.registration import create_test_pair
        >>> pair = create_test_pair((96, 96), "shift", (3.2, -1.4))
        >>> result = sa.register(pair.reference, pair.moving)
        >>> aligned = warp(pair.moving.astype(float), result.to_skimage(), order=1, cval=np.nan)
        >>> bool(np.nanmax(np.abs(aligned - result.apply(pair.moving))) < 1e-4)
        True
        """
        try:
            from skimage.transform import AffineTransform
        except ImportError as error:
            msg = 'transforms of scikit-image need it: pip install "stackalign[image]"'
            raise MissingDependencyError(msg) from error
        homogeneous = np.eye(3)
        homogeneous[:2, :2] = self.matrix[::-1, 1::-1]
        homogeneous[:2, 2] = self.matrix[::-1, 2]
        return AffineTransform(matrix=homogeneous)

    def to_theta(
        self,
        moving_shape: tuple[int, int],
        output_shape: tuple[int, int] | None = None,
        *,
        align_corners: bool = False,
    ) -> FloatArray:
        """Return the matrix that `torch.nn.functional.affine_grid` takes.

        Parameters
        ----------
        moving_shape : tuple of int
            (Hm, Wm) of the moving image.
        output_shape : tuple of int, optional
            (H, W) of the reference; that of the moving image by default.
        align_corners : bool
            As it is given to `affine_grid` and `grid_sample`.

        Returns
        -------
        numpy.ndarray
            (2, 3) float64 in normalised coordinates (x, y); ``torch.from_numpy(theta)[None]`` is a batch of one.

        Examples
        --------
        >>> import stackalign as sa
        >>> from stackalign.registration import create_test_pair
        >>> pair = create_test_pair((96, 96), "shift", (0.0, 4.8), noise=0.0)
        >>> theta = sa.register(pair.reference, pair.moving).to_theta((96, 96))
        >>> float(theta[0, 2].round(2))
        -0.1
        """
        return theta_of(self.matrix, moving_shape, output_shape or moving_shape, align_corners=align_corners)
