"""Tables of centres: written, read again, and handed on to what is done next."""

import csv
import json

import numpy as np
import pytest

from stackalign import diffraction
from stackalign.crop import CroppingConfig, crop_file
from stackalign.errors import DataError

CENTERS = np.array([(23.4, 25.6), (24.8, 24.1), (22.2, 26.0)])


@pytest.fixture
def scan(tmp_path):
    y, x = np.indices((48, 50))
    rings = [sum(np.exp(-((np.hypot(y - r, x - c) - a) ** 2) / 5) for a in (7, 15)) for r, c in CENTERS]
    beam = [np.exp(-((y - r) ** 2 + (x - c) ** 2) / 6) for r, c in CENTERS]
    for k, (r, c) in enumerate(CENTERS):
        for dy, dx in ((19, 6), (-19, -6), (-5, 20), (5, -20)):
            beam[k] = beam[k] + np.exp(-((y - r - dy) ** 2 + (x - c - dx) ** 2) / 4)
    stack = np.random.default_rng(2).poisson(3 + 300 * np.array(rings) + 900 * np.array(beam)).astype(np.uint16)
    np.save(tmp_path / "scan.npy", stack)
    np.save(tmp_path / "other.npy", stack[:2])
    return tmp_path / "scan.npy"


@pytest.mark.parametrize("extension", [".csv", ".json"])
def test_table_goes_round(extension, scan, tmp_path) -> None:
    table = tmp_path / f"centers{extension}"
    made = diffraction.center_file([scan, tmp_path / "other.npy"], table)
    assert [row["frame"] for row in made.rows] == [0, 1, 2, 0, 1]
    read = diffraction.read_centers(table, scan, n_images=3)
    np.testing.assert_array_equal(read, [(row["row"], row["col"]) for row in made.rows[:3]])
    assert np.abs(read - CENTERS).max() < 0.3
    assert diffraction.read_centers(table, "elsewhere/other.npy").shape == (2, 2)
    with pytest.raises(DataError, match=r"none of them for third\.npy"):
        diffraction.read_centers(table, "third.npy")
    with pytest.raises(DataError, match=r"has 3 centres of scan\.npy, there are 4 images"):
        diffraction.read_centers(table, scan, n_images=4)


def test_centers_of_the_table_are_used(scan, tmp_path) -> None:
    np.save(tmp_path / "c.npy", CENTERS)
    centers = diffraction.read_centers(tmp_path / "c.npy")
    config = CroppingConfig(target_retention=0.5, min_retention=0.3, visualization=False)
    result = crop_file(scan, tmp_path / "crop.npy", config, centers=centers)
    np.testing.assert_array_equal(result.analysis.centers, CENTERS)
    before = np.array(result.analysis.window_before)
    source, cropped = np.load(scan), np.load(tmp_path / "crop.npy")
    padded = np.pad(source, ((0, 0), (60, 60), (60, 60)))  # windows may reach beyond the frame
    for k, (y, x) in enumerate(CENTERS - before + 60):
        h, w = cropped.shape[1:]
        corners = [(a, b) for a in (int(y), int(y) + 1) for b in (int(x), int(x) + 1)]  # within a pixel
        assert any(np.array_equal(cropped[k], padded[k, a : a + h, b : b + w]) for a, b in corners)
    diffraction.peaks_file(scan, tmp_path / "peaks.csv", center=centers, width=1.5)
    with (tmp_path / "peaks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        r, c = CENTERS[int(row["frame"])]
        assert float(row["radius"]) == pytest.approx(np.hypot(float(row["row"]) - r, float(row["col"]) - c), abs=1e-3)


@pytest.mark.parametrize(
    ("centers", "message"),
    [
        (CENTERS[:2], r"must have the shape \(3, 2\)"),
        (np.array([(1.0, 2.0), (np.nan, 3.0), (4.0, 5.0)]), r"the centre \(nan, 3\) of pattern 1 is not inside"),
        (np.array([(1.0, 2.0), (4.0, 3.0), (4.0, 50.0)]), r"the centre \(4, 50\) of pattern 2 is not inside"),
    ],
)
def test_centers_that_cannot_be_used(centers, message, scan, tmp_path) -> None:
    with pytest.raises(DataError, match=message):
        crop_file(scan, tmp_path / "crop.npy", CroppingConfig(visualization=False), centers=centers)
    assert not list(tmp_path.glob("crop*"))


def test_tables_that_cannot_be_read(tmp_path) -> None:
    for name, text, message in [
        ("none.csv", None, "does not exist"),
        ("empty.csv", "", "no columns row and col"),
        ("words.csv", "row,col\na,b\n", "cannot be read"),
        ("list.json", json.dumps([1, 2]), "cannot be read"),
        ("torn.json", "[{", "cannot be read"),
    ]:
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            diffraction.read_centers(tmp_path / name)
    np.save(tmp_path / "flat.npy", np.zeros(4))
    with pytest.raises(DataError, match="holds no centres"):
        diffraction.read_centers(tmp_path / "flat.npy")
