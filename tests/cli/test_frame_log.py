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


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [("peaks", ("--width", -1), "width must be"), ("center", ("--workers", 0), "workers must be at least 1")],
)
def test_settings_that_no_run_accepts_leave_nothing(scan, tmp_path, command, options, words) -> None:
    ran = run(command, scan, "-o", tmp_path / "out.csv", *options)
    assert ran.code == 2
    assert words in ran.errors[0]
    assert len(ran.errors) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npy"]


def test_a_table_that_could_not_be_written_can_be_written_later(scan, tmp_path, monkeypatch) -> None:
    """The disk was full at the end of a long run: what was found is still there."""
    from stackalign.cli import center
    from stackalign.errors import DataError

    found, original = [], diffraction.autocenter
    monkeypatch.setattr(diffraction, "autocenter", lambda *a, **k: found.append(1) or original(*a, **k))
    with monkeypatch.context() as patch:

        def full(*_):
            raise DataError("output cannot be written")

        patch.setattr(center, "_write", full)
        assert run("center", scan, "-o", tmp_path / "out.csv").code == 1
    assert (tmp_path / "out.csv.partial").is_dir()
    assert run("center", scan, "-o", tmp_path / "out.csv", "--resume").code in (0, 3)
    assert len(found) == FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "scan.npy"]


def test_a_log_of_another_run_is_left_alone(scan, tmp_path) -> None:
    log = tmp_path / "out.csv.partial"
    log.mkdir()
    (log / "plan.json").write_text('{"command": "center"}')
    ran = run("peaks", scan, "-o", tmp_path / "out.csv", "--resume")
    assert ran.code == 1
    assert "belongs to another run" in ran.errors[0]
    assert (log / "plan.json").exists()
