"""Runs on a dask scheduler with workers of their own: the same bytes, whatever dies meanwhile, or one sentence."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from crop.oracle import digest, disks
from faults.cluster import Cluster
from stackalign import diffraction
from stackalign.crop import CroppingConfig, crop_file
from stackalign.errors import DataError, Interrupted
from stackalign.registration.files import align_file
from stackalign.runs import StopRequest, executor_for

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # distributed warns of its own deprecations
CONFIG = CroppingConfig(visualization=False, chunk_size=4, workers=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", disks(40))
    return tmp_path / "in.npy"


def test_same_bytes_and_a_worker_killed_in_each_pass(source: Path, tmp_path: Path) -> None:
    whole = crop_file(source, tmp_path / "whole.npy", CONFIG)
    with Cluster(tmp_path, 2) as cluster, executor_for(cluster.address) as executor:
        (tmp_path / "a").mkdir()
        align_file(
            source, tmp_path / "a" / "align.npy", max_shift=9, memory_limit=3_000_000, workers=1, executor=executor
        )
        align_file(source, tmp_path / "align.npy", max_shift=9, workers=1)
        assert (tmp_path / "a" / "align.npy").read_bytes() == (tmp_path / "align.npy").read_bytes()
        diffraction.mask_file(source, tmp_path / "a" / "mask.npy", max_std=40.0, executor=executor)
        diffraction.mask_file(source, tmp_path / "mask.npy", max_std=40.0)
        assert (tmp_path / "a" / "mask.npy").read_bytes() == (tmp_path / "mask.npy").read_bytes()
        killed: list[str] = []

        def progress(state) -> None:
            if state.stage not in killed and state.done >= 8:
                killed.append(state.stage)
                cluster.add()
                cluster.workers[len(killed) - 1].kill()

        result = crop_file(source, tmp_path / "out.npy", CONFIG, executor=executor, progress=progress)
    assert killed == ["analyse", "crop"]
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")
    assert result.analysis.global_radius == whole.analysis.global_radius


@pytest.mark.parametrize("what", ["scheduler", "last worker"])
def test_nobody_left(what: str, source: Path, tmp_path: Path) -> None:
    """Without a scheduler the run fails in one sentence; without workers it waits, is interrupted, and resumes here."""
    crop_file(source, tmp_path / "whole.npy", CONFIG)
    out = tmp_path / "out.npy"
    stop = StopRequest()

    def progress(state) -> None:
        if state.stage == "crop" and state.done == 8:
            if what == "scheduler":
                cluster.scheduler.kill()
            else:
                cluster.workers[0].send_signal(signal.SIGKILL)
                stop.request()

    with Cluster(tmp_path, 1) as cluster, executor_for(cluster.address) as executor:
        expected = DataError if what == "scheduler" else (Interrupted, DataError)
        with pytest.raises(expected) as ended:
            crop_file(source, out, CONFIG, executor=executor, progress=progress, stop=stop)
    assert "\n" not in str(ended.value)
    assert not out.exists()
    crop_file(source, out, CONFIG, resume=True)
    assert digest(out) == digest(tmp_path / "whole.npy")
    assert os.listdir(tmp_path).count("out.npy.partial") == 0
