"""What is left between two images: contrast that varies, bent responses, and columns that are displaced."""

import numpy as np
import pytest
from scipy import ndimage

from stackalign.solar.block_sums import robust_residual
from stackalign.solar.lines import BASIS, LAGS, _long_run, along_lines, cancelling_lines, displaced_lines

SHAPE = (120, 100)
NOISE = 0.05


@pytest.fixture
def scene(rng):
    image = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    return image / image.std()


@pytest.mark.parametrize(
    "change",
    [
        lambda m, y, x: m * (1 + 0.5 * x),
        lambda m, y, x: m * (1 - 0.3 * (y**2 + x**2)),
        lambda m, y, x: m + 1.5 * y - x**2,
        lambda m, y, x: np.minimum(m, 0.5),
        lambda m, y, x: np.sign(m) * np.abs(m) ** 0.6,
    ],
    ids=["gain", "vignetting", "background", "saturated", "gamma"],
)
def test_brightness_is_no_residual(scene, rng, change) -> None:
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    changed = change(scene, y, x)
    noisy = changed + NOISE * rng.standard_normal(SHAPE)
    left = robust_residual(noisy, scene, np.ones(SHAPE, bool))
    plain = np.polyfit(scene.ravel(), noisy.ravel(), 1)
    assert left.spread < 1.35 * NOISE
    assert np.std(noisy - np.polyval(plain, scene)) > 2 * NOISE, "a straight line leaves far more"


def test_noise_alone_is_fitted_by_a_straight_line(scene, rng) -> None:
    noisy = 0.3 + 1.7 * scene + NOISE * rng.standard_normal(SHAPE)
    left = robust_residual(noisy, scene, np.ones(SHAPE, bool))
    assert left.gain == pytest.approx(1.7, rel=0.01)
    assert left.spread == pytest.approx(NOISE, rel=0.05)
    rest = noisy - left.values
    # What was taken off is a line of the reference and nothing else.
    np.testing.assert_allclose(rest, np.polyval(np.polyfit(scene.ravel(), rest.ravel(), 1), scene), atol=1e-9)


def test_what_does_not_follow_the_reference_is_refused(scene) -> None:
    assert robust_residual(-scene, scene, np.ones(SHAPE, bool)) is None


N_LINES, N_BLOCKS = 200, 6


def contributions(rng, shift, noise):
    """Pieces (6, blocks, lines) of lines that weigh differently, displaced along y; and what a displacement makes."""
    weight = rng.uniform(0.5, 3.0, N_LINES)
    moves = np.zeros((2, 6, N_LINES))
    # All weight on the middle: the contribution to the common move is that of the first two.
    moves[0, 0], moves[1, 1] = weight, weight
    pieces = np.zeros((6, N_BLOCKS, N_LINES))
    pieces[1] = weight * shift / N_BLOCKS
    pieces[:2] += noise * np.sqrt(weight / N_BLOCKS) * rng.standard_normal((2, N_BLOCKS, N_LINES))
    return pieces, moves, weight


@pytest.mark.parametrize("length", [0.0, 1.5, 3.0], ids=["each for itself", "slow", "slower"])
def test_the_scatter_of_displaced_columns_is_that_of_their_sum(rng, length) -> None:
    """Against the variance over many draws."""
    sums, found = [], []
    for _ in range(40):
        shift = rng.standard_normal(N_LINES)
        if length:
            shift = ndimage.gaussian_filter1d(shift, length, mode="wrap") * np.sqrt(2 * np.sqrt(np.pi) * length)
        pieces, moves, weight = contributions(rng, shift, 0.1)
        sums.append(weight @ shift)
        # A fit takes off what the displacements have in common.
        pieces[1] -= weight * (weight @ shift / weight.sum()) / N_BLOCKS
        found.append((BASIS @ displaced_lines(pieces, moves, 1) @ BASIS.T)[1, 1])
    assert 0.6 < np.sqrt(np.mean(found)) / np.std(sums) < 1.7


def test_noise_displaces_nothing(rng) -> None:
    found = [displaced_lines(*contributions(rng, np.zeros(N_LINES), 1.0)[:2], 1).any() for _ in range(50)]
    assert sum(found) <= 2


def test_lines_that_cancel_and_lines_that_do_not(rng) -> None:
    cancel = np.zeros((6, N_BLOCKS, N_LINES))
    cancel[1] = rng.standard_normal((N_BLOCKS, N_LINES))
    noise = cancel.copy()
    cancel[1] -= cancel[1].mean(axis=0)
    assert cancelling_lines([cancel])[1, 1] < 0.75
    assert cancelling_lines([noise])[1, 1] > 0.85
    together = np.zeros((6, N_BLOCKS, N_LINES))
    together[1] = rng.standard_normal(N_LINES) / N_BLOCKS
    assert along_lines(together)[1, 1] > 0.4 * N_LINES
    assert along_lines(noise)[1, 1] < 0.4 * N_BLOCKS * N_LINES


@pytest.mark.parametrize("n_lines", [5, 12, 40])
def test_long_run_covariance_is_that_of_products_with_falling_weights(n_lines: int) -> None:
    parts = np.random.default_rng(n_lines).standard_normal((6, 3, n_lines))
    lags = np.abs(np.subtract.outer(np.arange(n_lines), np.arange(n_lines)))
    weights = np.clip(1.0 - lags / LAGS, 0.0, None)
    np.testing.assert_allclose(_long_run(parts), np.einsum("arl,lk,brk->ab", parts, weights, parts), rtol=1e-10)
