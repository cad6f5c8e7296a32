"""The examples of scikit-ued's tutorial, by the functions of the same names, and the conventions that they keep."""

import numpy as np
import pytest
import tifffile

from stackalign.compat.skued import (
    align,
    autocenter,
    azimuthal_average,
    baseline_dwt,
    bragg_peaks,
    bragg_peaks_persistence,
    brilluoin_zones,
    combine_masks,
    diffread,
    ialign,
    itrack_peak,
    mask_from_collection,
    nfold,
    reflection,
)
from stackalign.diffraction.synthetic import lattice, powder


@pytest.fixture(scope="module")
def chromium(shared_data):
    """Two images a quarter as long, and the tutorial's mask."""
    images = [diffread(shared_data / "diffraction" / f"Cr_{k}.tif")[::4, ::4] for k in (1, 2)]
    mask = np.ones_like(images[0], dtype=bool)
    mask[0:313, 243:307] = False
    return *images, mask


def test_centre_and_angular_average(chromium) -> None:
    image, _, mask = chromium
    yc, xc = autocenter(image, mask=mask)
    assert (yc, xc) == (pytest.approx(974 / 4, abs=1.5), pytest.approx(1109 / 4, abs=1.5))
    radius, intensity = azimuthal_average(image, (xc, yc), mask=mask)
    assert radius.shape == intensity.shape
    assert np.isfinite(intensity).all()
    assert intensity[:50].mean() > 5 * intensity[-50:].mean()


def test_alignment_of_chromium(chromium) -> None:
    ref, im, mask = chromium
    aligned = align(image=im, reference=ref, mask=mask)
    assert aligned.dtype == im.dtype
    rows, columns = slice(60, 400), slice(320, 460)
    np.testing.assert_array_equal(aligned[rows, columns], np.roll(im, (4, 7), (0, 1))[rows, columns])
    stream = list(ialign((im, ref), reference=ref, mask=mask, fill_value=-1.0))
    np.testing.assert_array_equal(stream[1], ref)
    assert len(stream) == 2


def test_masks_are_true_where_invalid() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.poisson(100.0, (32, 32)) for _ in range(20)]
    for k, frame in enumerate(frames):
        frame[3, 4] = 40000 if k == 7 else 10
        frame[5, 6] = 300 * (k % 2)
    mask = mask_from_collection(frames)
    assert np.argwhere(mask).tolist() == [[3, 4]]
    assert np.argwhere(mask_from_collection(iter(frames), px_thresh=3e4, std_thresh=50)).tolist() == [[3, 4], [5, 6]]
    assert not mask_from_collection(frames, px_thresh=(0, 1e5)).any()
    assert not combine_masks(~mask, np.ones((32, 32)))[3, 4]


def test_peaks_of_graphite(shared_data) -> None:
    image = diffread(shared_data / "diffraction" / "graphite.tif")[::4, ::4]
    mask = np.ones_like(image, dtype=bool)
    mask[275:, 110:121] = mask[0:316, 225:286] = False
    peaks = bragg_peaks(image, mask=mask, center=(278, 253))
    assert 20 < len(peaks) < 60
    distance = np.hypot(*(np.array(peaks) - (278, 253)).T)
    assert (np.diff(distance) >= 0).all()
    np.testing.assert_array_equal(peaks[0], (278, 253), err_msg="the hidden beam")
    assert all(mask[round(r), round(c)] for r, c in peaks[1:])


def test_persistence_and_zones_of_mos2(shared_data) -> None:
    im = diffread(shared_data / "diffraction" / "ab_initio_monolayer_mos2.tif")
    peaks, bd, bd_indices, persistence = bragg_peaks_persistence(im, prominence=0.1)
    assert peaks.shape == bd.shape == (103, 2)
    assert bd_indices.shape == (103, 2, 2)
    np.testing.assert_array_equal(bd[:, 0] - bd[:, 1], persistence)
    np.testing.assert_array_equal(im[peaks[:, 1].astype(int), peaks[:, 0].astype(int)], bd[:, 0])  # (col, row)
    center = np.array([im.shape[0] // 2, im.shape[1] // 2])
    zones = brilluoin_zones(im, mask=np.ones(im.shape), peaks=peaks.astype(int), center=center.astype(int))
    seen = zones.getVisibleBZs(symmetry=6)
    assert len(seen) > 50
    assert zones.determineConsistency() > 0.95
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    zones.renderVisibleBZs(axes, edgecolor="white")
    assert len(axes.collections[0].get_paths()) == len(seen)
    first = zones.getEquivalentScatteringVectors(peaks[0] + (2, 1))
    np.testing.assert_allclose(first - (2, 1), zones.zones.peaks[zones.visible][:, ::-1])
    spaced = bragg_peaks_persistence(im, prominence=0.1, min_dist=40)[0]
    assert 4 < len(spaced) < 40
    better = brilluoin_zones(im, None, peaks.astype(int), optimization_radius=4)
    assert np.abs(better.zones.peaks - zones.zones.peaks).max() < 4
    blocked = np.ones(im.shape, bool)
    blocked[:, :60] = False
    assert len(brilluoin_zones(im, blocked, peaks.astype(int)).getVisibleBZs(6)) < len(seen)


def test_hot_spots(shared_data) -> None:
    im = diffread(shared_data / "diffraction" / "hotspots.tif")
    denoised = baseline_dwt(im, max_iter=250, level=1, wavelet="sym2", axis=(0, 1))
    assert (im > 1000).sum() > 700
    assert (denoised > 1000).sum() < 40
    invalid = np.zeros(im.shape, bool)
    invalid[:5] = True
    assert not baseline_dwt(im, 20, level=1, wavelet="sym2", axis=(0, 1), mask=invalid)[:5].any()


def test_angles_begin_on_the_left() -> None:
    """A wedge around angle 90 of the original is the upper half of the image, as it is printed."""
    rows, columns = np.indices((101, 101)) - 50
    image = np.where(rows < 0, 5.0, 1.0)
    _, up = azimuthal_average(image, (50, 50), angular_bounds=(45, 135))
    assert np.allclose(up[3:40], 5.0)
    _, left = azimuthal_average(np.where(columns < 0, 5.0, 1.0), (50, 50), angular_bounds=(340, 20))
    assert np.allclose(left[3:40], 5.0)
    radius, _ = azimuthal_average(image, (50, 50), trim=False)
    assert radius[-1] >= 70


def test_movement_of_a_peak() -> None:
    pattern = powder(128, blocked=False).image
    found = list(itrack_peak([np.roll(pattern, k, axis=0) for k in range(3)]))
    np.testing.assert_allclose(found, [[0, 0], [1, 0], [2, 0]], atol=0.05)


def test_frames_are_on_the_last_axis(shared_data, tmp_path) -> None:
    assert diffread(shared_data / "diffraction" / "test_multi.mib").shape == (256, 256, 9)
    tifffile.imwrite(tmp_path / "a.tif", lattice(64).image)
    assert diffread(tmp_path / "a.tif").shape == (64, 64)


def test_symmetry() -> None:
    """Values under the mask stay there, and corners keep what they have."""
    mask = np.ones((65, 65), dtype=bool)
    mask[20:30, 30:40] = False
    image = np.where(mask, 1.0, 1e4)
    np.testing.assert_allclose(nfold(image, mod=6, center=(32, 32), mask=mask), 1.0, atol=1e-6)
    np.testing.assert_allclose(nfold(np.ones((65, 65)), mod=7), 1.0, atol=1e-6)
    mirrored = reflection(image, 30.0, center=(32, 32), mask=mask)
    np.testing.assert_allclose(mirrored[mirrored != 0], 1.0, atol=1e-6)
    assert (mirrored == 0).sum() < 100, "only what is hidden on both sides is filled"
    hidden = np.zeros((65, 65), dtype=bool)
    hidden[:, 32:] = True
    assert nfold(np.ones((65, 65)), 1, mask=hidden, fill_value=-5.0)[0, 0] == -5.0
    marked = np.zeros((65, 65))
    marked[10, 40] = 4.0
    assert nfold(marked, 2, center=(30, 20))[30, 20] == pytest.approx(2.0)
    assert nfold(marked, 2, center=(30, 20))[10, 40] == pytest.approx(2.0)  # about row 20, column 30
    np.testing.assert_array_equal(nfold(image, 3, mask=np.zeros(image.shape, bool), fill_value=2.0), 2.0)
    np.testing.assert_array_equal(reflection(image, 3, mask=np.zeros(image.shape, bool)), 0.0)
    with pytest.raises(ValueError, match="fold"):
        nfold(image, 1.7)


def test_the_centre_is_a_peak_where_the_beam_is_not_seen() -> None:
    image = lattice(256, (130.4, 121.7), blocked=False).image
    image[118:143, 109:135] = np.median(image)
    places = np.array(bragg_peaks(image, center=(130.4, 121.7)))
    np.testing.assert_allclose(places[0], (130.4, 121.7), atol=1e-6)
    assert np.hypot(*(places[1] - places[0])) > 20


def test_pictures_are_grey_shares_of_white(tmp_path) -> None:
    from skimage.io import imsave

    imsave(tmp_path / "white.png", np.full((12, 10, 3), 255, np.uint8), check_contrast=False)
    np.testing.assert_allclose(diffread(tmp_path / "white.png"), np.ones((12, 10)))
