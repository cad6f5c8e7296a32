"""`stackalign peaks`: images in, a table and a page out."""

import csv
import json

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cli.runner import run
from stackalign.diffraction.synthetic import lattice


@pytest.fixture
def images(tmp_path):
    """A stack of two patterns, a mask, and a file that is none."""
    patterns = [lattice(160, seed=k) for k in range(2)]
    np.save(tmp_path / "scan.npy", np.stack([p.image for p in patterns]))
    np.save(tmp_path / "mask.npy", patterns[0].mask)
    (tmp_path / "broken.tif").write_bytes(b"II*\x00nothing")
    return tmp_path, patterns


def test_table_and_page(images, tmp_path) -> None:
    folder, patterns = images
    out, page = tmp_path / "peaks.csv", tmp_path / "page.html"
    ran = run("peaks", folder / "scan.npy", "-o", out, "--mask", folder / "mask.npy", "--report", page, "--json")
    assert ran.code == 0, ran.err
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert json.loads(ran.out)["peaks"] == len(rows) > 30
    for k, pattern in enumerate(patterns):
        places = np.array([[float(r["row"]), float(r["col"])] for r in rows if r["frame"] == str(k)])
        assert (cKDTree(pattern.spots).query(places)[0] < 1).mean() > 0.95
    assert page.read_text().count("data:image/png;base64") == 2
    again = run("peaks", folder / "scan.npy", "-o", out)
    assert again.code == 1
    assert "exists" in again.err
    other = run("peaks", folder / "scan.npy", "-o", out, "--overwrite", "--method", "persistence", "--prominence", 0.2)
    assert other.code == 0, other.err


def test_a_bad_file_does_not_stop_the_others(images, tmp_path) -> None:
    folder, _ = images
    ran = run("peaks", folder / "broken.tif", folder / "scan.npy", "-o", tmp_path / "p.csv", "-q")
    assert ran.code == 1
    assert "broken.tif" in ran.err
    assert len((tmp_path / "p.csv").read_text().splitlines()) > 30
    alone = run("peaks", folder / "broken.tif", "-o", tmp_path / "q.csv", "-q")
    assert alone.code == 1
    assert not (tmp_path / "q.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ((), "give an output", 2),
        (("-o", "x.csv", "--method", "guess"), "matched or persistence", 2),
        (("-o", "x.txt"), "no known extension", 2),
        (("-o", "x.csv", "--min-snr", -1), "min_snr", 2),
    ],
)
def test_wrong_usage(images, monkeypatch, tmp_path, arguments, words, code) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("peaks", images[0] / "scan.npy", *arguments)
    assert ran.code == code
    assert words in ran.err
    assert not (tmp_path / "x.csv").exists()
