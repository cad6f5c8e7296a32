"""Pictures inside a page: figures, and two images that blink. The bytes are in the page itself."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._canvas import save_figure, standardised
from ._page import escape

__all__ = ["BLINK_STYLE", "blink", "picture"]

LARGEST_PICTURE = 640
"""Longest side of an image that blinks; larger ones are thinned."""

BLINK_STYLE = """<style>
.blink { position: relative; display: inline-block; width: 100%; max-width: 34rem; }
.blink img { image-rendering: pixelated; }
.blink img + img { position: absolute; left: 0; top: 0; animation: blink 1.6s step-end infinite; }
.blink:hover img + img, .blink:focus img + img { animation-play-state: paused; }
@keyframes blink { 0% { opacity: 1; } 50% { opacity: 0; } }
@media (prefers-reduced-motion: reduce) { .blink img + img { animation-duration: 6s; } }
</style>"""


def blink(first: NDArray[Any], second: NDArray[Any], words: str) -> str:
    """HTML of two images on top of each other, of which one comes and goes; no script."""
    step = -(-max(first.shape) // LARGEST_PICTURE)
    shown = np.full(first.shape, np.nan)
    rows, columns = (min(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    shown[:rows, :columns] = second[:rows, :columns]
    images = "".join(f'<img alt="{escape(words)}" src="{_png(image[::step, ::step])}">' for image in (first, shown))
    return f'<div class="blink" tabindex="0">{images}</div>'


def _png(image: NDArray[Any]) -> str:
    """Grey picture of an image as a data address; what is invalid is greenish."""
    from matplotlib.image import imsave

    values = standardised(image)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    grey = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    rgb[~np.isfinite(values)] = (0.48, 0.54, 0.48)
    target = io.BytesIO()
    imsave(target, (rgb * 255).astype(np.uint8), format="png")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode("ascii")


def picture(figure: Any, words: str, *, dpi: float = 100) -> str:
    """Give the HTML of a figure, with its picture inside."""
    target = io.BytesIO()
    save_figure(figure, target, dpi)
    code = base64.b64encode(target.getvalue()).decode("ascii")
    return f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{code}"></figure>'
