"""What goes wrong with pairs of images, one `Fault` each, for any scene, model, size and noise."""

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import convolve1d

import _trust_faults_detector as detector
from _trust_view import Fault, FloatArray, Pair, View

__all__ = ["FAULTS", "NOMINAL", "Fault", "View"]


def _vignetted(v: View, images: Pair) -> Pair:
    y0, x0 = v.rng.uniform(-0.4, 0.4, 2)
    y, x = v.unit
    falloff = 1 - v.rng.uniform(0.3, 0.8) * np.clip((y - y0) ** 2 + (x - x0) ** 2, 0, 2) / 2
    moving = images[1] - images[1].min()
    return images[0], moving * falloff


def _gamma(v: View, images: Pair) -> Pair:
    moving = images[1] - images[1].min()
    return images[0], moving ** v.rng.choice([0.4, 0.6, 2.0, 2.5])


def _motion_blurred(v: View, images: Pair) -> Pair:
    length = 2 * int(v.rng.integers(1, 6)) + 1
    return images[0], convolve1d(images[1], np.full(length, 1 / length), axis=int(v.rng.integers(2)), mode="reflect")


def _bar(v: View, images: Pair) -> Pair:
    """A dark bar that hides part of both images at the same place."""
    axis = int(v.rng.integers(2))
    n = v.shape[axis]
    start, width = int(v.rng.integers(0, 0.7 * n)), int(v.rng.uniform(0.08, 0.25) * n)
    level = images[0].min() - v.rng.uniform(0, 2)
    for image in images:
        np.moveaxis(image, axis, 0)[start : start + width] = level
    return images


def _occluded(v: View, images: Pair) -> Pair:
    """Something bright or dark stands before the moving image only."""
    y, x = v.unit
    a, b = v.rng.uniform(-0.6, 0.6, 2)
    blob = (np.hypot(y - a, x - b) < v.rng.uniform(0.2, 0.45)).astype(float)
    return images[0], np.where(blob > 0, v.rng.choice([-3.0, 3.0, 0.0]), images[1])


def _blocked(v: View, images: Pair) -> Pair:
    """Blocks of 8 x 8 lose their weak cosines, as in strong JPEG compression."""
    step = v.rng.uniform(0.6, 2.5) * v.deviation
    weight = step * (1 + 0.5 * np.add.outer(np.arange(8), np.arange(8)))
    return tuple(_blocks(image, weight) for image in images)  # type: ignore[return-value]


def _blocks(image: FloatArray, weight: FloatArray) -> FloatArray:
    height, width = (n - n % 8 for n in image.shape)
    tiles = image[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    kept = np.rint(dctn(tiles, axes=(2, 3), norm="ortho") / weight) * weight
    out = image.copy()
    out[:height, :width] = idctn(kept, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(height, width)
    return out


def _interlaced(v: View) -> FloatArray:
    """Odd lines were taken later, when the scene had moved on: the truth is half-way."""
    there = v.there.copy()
    step = v.rng.uniform(1.0, 5.0)
    there[..., 1] += 0.5 * step * np.where(np.arange(v.shape[0]) % 2, 1.0, -1.0)[:, None]
    return there


def _sheared(v: View) -> FloatArray:
    there = v.there.copy()
    there[..., 1] += v.rng.choice([-1, 1]) * v.rng.uniform(0.6, 4.0) * v.unit[0]
    return there


def _barrel(v: View) -> FloatArray:
    r2 = (v.unit**2).sum(axis=0) / 2
    size = v.rng.choice([-1, 1]) * v.rng.uniform(1.0, 5.0)
    # Without the part that a scale would take, and no motion in the middle: only what no model has.
    return v.there + size * (np.moveaxis(v.unit, 0, -1) * (r2 - 0.5)[..., None])


def _bent(v: View) -> FloatArray:
    there = v.there.copy()
    bend = v.unit[0] ** 2
    there[..., int(v.rng.integers(2))] += v.rng.uniform(0.8, 4.0) * (bend - bend.mean())
    return there


def _jittered(v: View) -> FloatArray:
    """Each row of a scanned image stands a little aside."""
    there = v.there.copy()
    aside = v.rng.normal(0, v.rng.uniform(0.5, 2.0), v.shape[0])
    there[..., 1] += (aside - aside.mean())[:, None]
    return there


def _drifted(v: View) -> FloatArray:
    """Rows of a scanned image drift in a random walk."""
    there = v.there.copy()
    aside = np.cumsum(v.rng.normal(0, 1, v.shape[0]))
    aside -= np.polyval(np.polyfit(np.arange(len(aside)), aside, 1), np.arange(len(aside)))
    there[..., int(v.rng.integers(2))] += (v.rng.uniform(0.5, 2.0) * aside / aside.std())[:, None]
    return there


def _slipped(v: View) -> FloatArray:
    """From some row on, the frame grabber was late."""
    there = v.there.copy()
    there[int(v.rng.uniform(0.25, 0.75) * v.shape[0]) :, :, 1] += v.rng.choice([-1, 1]) * v.rng.uniform(1.0, 8.0)
    return there


def _two_layers(v: View, images: Pair) -> Pair:
    weight = v.rng.uniform(0.5, 1.0)
    turn, length = v.rng.uniform(0, 2 * np.pi), v.rng.uniform(1.5, 8.0)
    step = length * np.array([np.sin(turn), np.cos(turn)])
    return (
        images[0] + weight * v.sampled(v.here, v.other),
        images[1] + weight * v.sampled(v.there + step, v.other),
    )


def _object(v: View, images: Pair) -> Pair:
    """One object in front moves by itself."""
    y, x = v.unit
    a, b = v.rng.uniform(-0.4, 0.4, 2)
    size = v.rng.uniform(0.3, 0.55)
    turn, length = v.rng.uniform(0, 2 * np.pi), v.rng.uniform(2.0, 9.0)
    step = length * np.array([np.sin(turn), np.cos(turn)])
    inside = np.hypot(y - a, x - b) < size
    moving = np.where(inside, v.sampled(v.there + step, v.other), images[1])
    return np.where(inside, v.sampled(v.here, v.other), images[0]), moving


def _doubled(v: View, images: Pair) -> Pair:
    """The moving image shows everything twice, as through a reflection in a window."""
    turn, length = v.rng.uniform(0, 2 * np.pi), v.rng.uniform(2.0, 12.0)
    step = length * np.array([np.sin(turn), np.cos(turn)])
    return images[0], images[1] + v.rng.uniform(0.3, 0.8) * v.sampled(v.there + step)


def _pasted(v: View, images: Pair) -> Pair:
    """A bright object that stands once in the reference and twice in the moving image, on a faint scene."""
    places = np.array([v.rng.uniform(0.2, 0.8, 2), v.rng.uniform(0.2, 0.8, 2)]) * v.shape

    def spot(points: FloatArray, at: FloatArray) -> FloatArray:
        return 12 * np.exp(-0.5 * ((points - at) ** 2).sum(axis=-1) / 4.0**2)

    return (
        images[0] + spot(v.here, places[0]),
        images[1] + spot(v.there, places[0]) + spot(v.there, places[1]),
    )


def _mirrored(v: View, images: Pair) -> Pair:
    return images[0], images[1][:, ::-1] if v.rng.random() < 0.5 else images[1][::-1]


def _transposed(v: View, images: Pair) -> Pair:
    n = min(v.shape)
    return images[0][:n, :n].copy(), images[1][:n, :n].T.copy()


def _unrelated(v: View, images: Pair) -> Pair:
    return images[0], v.sampled(v.there, v.other)


def _unrelated_still(v: View, images: Pair) -> Pair:
    """Unrelated images with one thing in common that belongs to the instrument, of which nothing can be learnt."""
    return detector.round_field(v, _unrelated(v, images))


def _inverted(v: View, images: Pair) -> Pair:
    return images[0], -images[1]


def _faint(v: View, images: Pair) -> Pair:
    """The contrast is far below the noise."""
    weight = 10 ** v.rng.uniform(-2.5, -0.7)
    return weight * images[0], weight * images[1]


def _own_noise(v: View, images: Pair) -> Pair:
    return tuple(image + v.rng.normal(size=v.shape) for image in images)  # type: ignore[return-value]


def _few_levels(v: View, images: Pair) -> Pair:
    step = v.rng.uniform(0.3, 2.0) * v.deviation
    return tuple(np.floor(image / step) for image in images)  # type: ignore[return-value]


def _binary(v: View, images: Pair) -> Pair:
    share = v.rng.uniform(0.1, 0.9)
    return tuple((image > np.quantile(image, share)).astype(float) for image in images)  # type: ignore[return-value]


def _fine(v: View, images: Pair) -> Pair:
    """Structure of single pixels, which samples alias: each image has its own."""

    n = v.shape[0] * v.shape[1] // 60
    places = v.rng.uniform(-0.2, 1.2, (n, 2)) * v.shape
    heights = v.rng.uniform(0.3, 1, n) * 5
    grid = np.moveaxis(np.indices(v.shape).astype(float), 0, -1)

    def spots(points: FloatArray) -> FloatArray:
        out = np.zeros(v.shape)
        # The pixel that shows a place: where the motion there would take it.
        near = np.clip(np.rint(places), 0, np.array(v.shape) - 1).astype(int)
        at = places - (points - grid)[tuple(near.T)]
        near = np.clip(np.rint(at), 0, np.array(v.shape) - 1).astype(int)
        at = np.rint(places - (points - grid)[tuple(near.T)]).astype(int)
        inside = ((at >= 0) & (at < v.shape)).all(axis=1)
        np.add.at(out, tuple(at[inside].T), heights[inside])
        return out

    return spots(v.here), spots(v.there)


def _flared(v: View, images: Pair) -> Pair:
    """Part of the moving image has become several times brighter."""
    y, x = v.unit
    a, b = v.rng.uniform(-0.6, 0.6, 2)
    glow = np.exp(-0.5 * ((y - a) ** 2 + (x - b) ** 2) / v.rng.uniform(0.1, 0.4) ** 2)
    moving = images[1] - images[1].min()
    return images[0], moving * (1 + v.rng.uniform(1, 6) * glow)


def _changed(v: View, images: Pair) -> Pair:
    """A share of the structures is new in the moving image."""
    weight = v.rng.uniform(0.2, 0.9)
    return images[0], np.sqrt(1 - weight) * images[1] + np.sqrt(weight) * v.sampled(v.there, v.other)


def _spiked(v: View, images: Pair) -> Pair:
    out = []
    for image in images:
        hit = v.rng.random(v.shape) < 10 ** v.rng.uniform(-2.7, -1.7)
        out.append(image + hit * v.deviation * 10 ** v.rng.uniform(1, 2) * v.rng.uniform(0.5, 1.5, v.shape))
    return out[0], out[1]


def _streaks(v: View, images: Pair) -> Pair:
    """Long trails, as of cosmic rays or satellites, in each image others."""
    out = []
    for image in images:
        image = image.copy()
        for _ in range(int(v.rng.integers(1, 6))):
            start, turn = v.rng.uniform(0, 1, 2) * v.shape, v.rng.uniform(0, 2 * np.pi)
            along = np.arange(int(v.rng.uniform(10, max(v.shape))))
            at = np.rint(start[:, None] + np.array([np.sin(turn), np.cos(turn)])[:, None] * along).astype(int)
            inside = (at >= 0).all(axis=0) & (at < np.array(v.shape)[:, None]).all(axis=0)
            image[tuple(at[:, inside])] += v.rng.uniform(3, 20)
        out.append(image)
    return out[0], out[1]


def _edge_only(v: View, images: Pair) -> Pair:
    """Nothing but a straight edge: only the component across it can be known."""
    turn = v.rng.uniform(0, np.pi)
    middle = 0.5 * np.array(v.shape)

    def edge(points: FloatArray) -> FloatArray:
        across = (points - middle) @ np.array([np.sin(turn), np.cos(turn)])
        return np.tanh(across / 1.5)

    return edge(v.here), edge(v.there)


def _rings_only(v: View, images: Pair) -> Pair:
    """Concentric rings: repeats along every radius, and no angle."""
    middle, period = 0.5 * np.array(v.shape), v.rng.uniform(5, 12)

    def rings(points: FloatArray) -> FloatArray:
        r = np.hypot(*np.moveaxis(points - middle, -1, 0))
        return np.cos(2 * np.pi * r / period)

    return rings(v.here), rings(v.there)


def _grating(v: View, images: Pair) -> Pair:
    """The scene is faint on a strong grating of several periods."""
    turn, period = v.rng.uniform(0, np.pi), v.rng.uniform(4, 20)

    def wave(points: FloatArray) -> FloatArray:
        return np.sign(np.cos(2 * np.pi * points @ np.array([np.sin(turn), np.cos(turn)]) / period))

    weight = v.rng.uniform(0.0, 0.3)
    return wave(v.here) + weight * images[0], wave(v.there) + weight * images[1]


def _still_grating(v: View, images: Pair) -> Pair:
    """A moire or interference pattern of the instrument stands still."""
    turn, period = v.rng.uniform(0, np.pi), v.rng.uniform(3, 20)
    grid = np.moveaxis(np.indices(v.shape).astype(float), 0, -1)
    still = np.cos(2 * np.pi * grid @ np.array([np.sin(turn), np.cos(turn)]) / period)
    weight = v.rng.uniform(0.3, 2.0)
    return tuple(image + weight * still for image in images)  # type: ignore[return-value]


def _shaded_integers(v: View, images: Pair) -> Pair:
    """Eight bits that wrap around, as when numbers are too large for their type."""
    top = max(float(np.abs(images[0]).max()), 1e-12)
    return tuple(np.mod(100 + image / top * v.rng.uniform(160, 400), 256).astype(np.uint8) for image in images)  # type: ignore[return-value]


NOMINAL = Fault()

FAULTS: dict[str, Fault] = {
    "vignetting": Fault(before=_vignetted),
    "gamma": Fault(before=_gamma),
    "motion blur of one": Fault(before=_motion_blurred),
    "dark bar that stands still": Fault(after=_bar),
    "object before one image": Fault(before=_occluded),
    "blocks of 8 x 8": Fault(after=_blocked),
    "interlaced": Fault(move=_interlaced),
    "rolling shutter": Fault(move=_sheared, affine=True),
    "barrel distortion": Fault(move=_barrel),
    "bent": Fault(move=_bent),
    "row jitter": Fault(move=_jittered),
    "row drift": Fault(move=_drifted),
    "frame slip": Fault(move=_slipped),
    "two layers": Fault(before=_two_layers),
    "object that moves": Fault(before=_object),
    "ghost image": Fault(before=_doubled),
    "duplicated object": Fault(before=_pasted),
    "one saturated": Fault(before=detector.saturated),
    "both saturated": Fault(before=detector.both_saturated),
    "pixel gain pattern": Fault(after=detector.gain_pattern),
    "smooth gain pattern": Fault(after=detector.smooth_gain),
    "column gain pattern": Fault(after=detector.column_gain),
    "dead columns": Fault(after=detector.dead_columns),
    "hot pixels": Fault(after=detector.hot_pixels),
    "dust that stands still": Fault(after=detector.hot_clusters),
    "light that stands still": Fault(before=detector.background),
    "time stamp": Fault(after=detector.stamped),
    "row noise": Fault(after=detector.row_noise),
    "correlated noise": Fault(after=detector.pink_noise),
    "partly outside": Fault(after=detector.partly_outside),
    "frame that stands still": Fault(after=detector.framed),
    "round field that stands still": Fault(after=detector.round_field),
    "coarser pixels": Fault(before=detector.coarse_pixels),
    "mirrored": Fault(before=_mirrored, answered=False),
    "transposed": Fault(before=_transposed, answered=False),
    "unrelated": Fault(before=_unrelated, answered=False),
    "unrelated in a round field": Fault(before=_unrelated_still, answered=False),
    "inverted": Fault(before=_inverted, answered=False),
    "faint": Fault(before=_faint, after=_own_noise),
    "few levels": Fault(after=_few_levels),
    "binary": Fault(after=_binary),
    "single pixels": Fault(before=_fine),
    "flare": Fault(before=_flared),
    "changed structures": Fault(before=_changed),
    "spikes": Fault(after=_spiked),
    "streaks": Fault(after=_streaks),
    "an edge": Fault(before=_edge_only),
    "rings": Fault(before=_rings_only),
    "grating": Fault(before=_grating),
    "grating that stands still": Fault(before=_still_grating),
    "numbers that wrap": Fault(after=_shaded_integers),
}
