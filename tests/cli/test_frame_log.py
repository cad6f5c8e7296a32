"""`stackalign center` and `stackalign peaks` are interrupted, and go on."""

import numpy as np
import pytest

from cli.runner import run
from stackalign import diffraction
from stackalign.chunks import StopRequest
from stackalign.cli import _frame_log
from stackalign.diffraction.synthetic import lattice

FRAMES = 5


@pytest.fixture
def scan(tmp_path):
    np.save(tmp_path / "scan.npy", np.stack([lattice(96, seed=k).image for k in range(FRAMES)]))
    return tmp_path / "scan.npy"


@pytest.mark.parametrize(("command", "function"), [("center", "autocenter"), ("peaks", "bragg_peaks")])
def test_what_was_found_is_not_found_again(scan, tmp_path, monkeypatch, command, function) -> None:
    whole = tmp_path / "whole.csv"
    assert run(command, scan, "-o", whole, "-q").code in (0, 3)
    found, original = [], getattr(diffraction, function)
    requests: list[StopRequest] = []
    monkeypatch.setattr(StopRequest, "__enter__", lambda self: requests.append(self) or self)

    def counted(image, **options):
        found.append(image.sum())
        if len(found) == 3:
            requests[-1].request()
        return original(image, **options)

    monkeypatch.setattr(diffraction, function, counted)
    out = tmp_path / "out.csv"
    stopped = run(command, scan, "-o", out)
    assert stopped.code == 1
    assert "stopped at frame 3 of scan.npy" in stopped.err
    assert "--resume" in stopped.err
    assert not out.exists()
    other = run(command, scan, "-o", out, "--dataset", "other", "--resume")
    assert other.code == 1
    assert "belongs to another run (settings.dataset" in other.err
    monkeypatch.setattr(_frame_log, "SAVED_EVERY", 0.0)
    if command == "peaks":
        monkeypatch.setattr("stackalign.cli.peaks._SHOWN", 0)
    resumed = run(command, scan, "-o", out, "--resume", "-q")
    assert resumed.code in (0, 3), resumed.err
    assert len(found) == FRAMES
    assert out.read_text() == whole.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "scan.npy", "whole.csv"]
