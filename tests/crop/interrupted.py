"""A small crop in many pieces, and how it is stopped on its way."""

import numpy as np
import pytest

from crop.oracle import disks
from stackalign.crop import CroppingConfig, crop_file, is_complete
from stackalign.errors import Interrupted
from stackalign.runs import StopRequest

__all__ = ["OUTPUTS", "STACK", "Stopping", "config", "interrupt", "small_pieces", "source"]

OUTPUTS = [".npy", ".pt", ".h5", ".zarr"]
STACK = disks(40, dtype=np.float32)
STACK[5, 3, 3] = np.nan


def config(**options):
    return CroppingConfig(**{"visualization": False, "chunk_size": 6, "workers": 1, **options})


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Checkpoints after every chunk; several shards and chunks, as a large output would have."""
    monkeypatch.setattr("stackalign.runs.Run.due", lambda run: True)
    monkeypatch.setattr("stackalign.io.zarr_writer._SHARD_BYTES", 10_500)  # 7 patterns, chunks have 6
    monkeypatch.setattr("stackalign.io.zarr_writer._CHUNK_BYTES", 2000)
    monkeypatch.setattr("stackalign.io.hdf5_writer._CHUNK_BYTES", 2000)


@pytest.fixture
def source(tmp_path):
    np.save(tmp_path / "in.npy", STACK)
    return tmp_path / "in.npy"


class Stopping:
    """Ask for a stop after the k-th chunk of a stage; see that the final name is free until the end."""

    def __init__(self, output, stage, after):
        self.output, self.stage, self.after = output, stage, after
        self.request = StopRequest()
        self.stages = []

    def __call__(self, progress):
        assert not self.output.exists()
        self.stages.append(progress.stage)
        if self.stages.count(self.stage) == self.after:
            self.request.request()


def interrupt(source, output, stage="crop", after=2, **options):
    stopping = Stopping(output, stage, after)
    options = {"config": config(), **options}
    with pytest.raises(Interrupted, match="stopped"):
        crop_file(source, output, progress=stopping, stop=stopping.request, **options)
    assert stopping.stages.count(stage) == after
    assert not output.exists()
    assert output.with_name(output.name + ".partial").is_dir()
    assert not is_complete(output)
