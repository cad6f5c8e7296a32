"""What a fault of a pair of images is made of, and what it can use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from _trust_scenes import Scene

__all__ = ["Fault", "FloatArray", "Pair", "View"]

FloatArray = NDArray[np.float64]
Pair = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class View:
    """What a fault can use: the scene, another one, and where the pixels of both images see it.

    `here` and `there` (H, W, 2) are the points (y, x) of the scene that pixels of the reference and of the moving image
    show; `deviation` is the contrast of the reference.
    """

    scene: Scene
    other: Scene
    here: FloatArray
    there: FloatArray
    rng: np.random.Generator
    deviation: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.here.shape[0], self.here.shape[1]

    @property
    def unit(self) -> FloatArray:
        """(2, H, W) coordinates from -1 to 1."""
        return np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in self.shape), indexing="ij"))

    def sampled(self, points: FloatArray, scene: Scene | None = None) -> FloatArray:
        """Values of the scene at points."""
        return (scene or self.scene)(points[..., 0], points[..., 1])


@dataclass(frozen=True)
class Fault:
    """Where the moving image looks instead, what happens before the noise, and what after it.

    `answered` is False where no transform is right, so that only a flag is; `affine` is True where the motion is affine
    and the true transform, whatever the model.
    """

    move: Callable[[View], FloatArray] | None = None
    before: Callable[[View, Pair], Pair] | None = None
    after: Callable[[View, Pair], Pair] | None = None
    answered: bool = True
    affine: bool = False
