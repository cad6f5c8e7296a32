"""A crop whose process was killed, or had no room on the disk, goes on to the same bytes."""

import shutil
import signal
import subprocess
import sys

import pytest

from crop.interrupted import config, small_pieces, source
from crop.oracle import digest, plain
from stackalign.crop import crop_file, is_complete
from stackalign.errors import DataError, FinishedError

__all__ = ["small_pieces", "source"]  # fixtures

CHILD = """
import sys
from stackalign.crop import CroppingConfig, crop_file
from stackalign import runs
from stackalign.io import hdf5_writer, zarr_writer

zarr_writer._SHARD_BYTES, zarr_writer._CHUNK_BYTES, hdf5_writer._CHUNK_BYTES = 10_500, 2000, 2000
source, output, where, after = sys.argv[1:]
runs.Run.due = lambda run: int(after) >= 0
count = 0

def pause():
    print("here", flush=True)
    sys.stdin.read()  # until this process is killed

def progress(state):
    global count
    count += state.stage == where
    if count == int(after) and state.stage == where:
        pause()

rename, moved = runs.publication.replace_path, []

def paused(source, target, **options):
    if where == "publish" or (where == "record" and moved):
        pause()
    moved.append(target)
    rename(source, target, **options)

runs.publication.replace_path = paused
crop_file(source, output, CroppingConfig(visualization=False, chunk_size=6, workers=1), progress=progress)
"""

KILLS = [
    (".npy", "analyse", 1),
    (".npy", "analyse", 7),
    (".npy", "crop", 1),
    (".npy", "publish", 0),
    (".npy", "record", 0),
    (".npy", "record", -1),  # below 0: nothing was ever saved on the way
    (".zarr", "publish", -1),
    (".pt", "crop", 4),
    (".h5", "crop", 4),
    (".zarr", "crop", 4),
    (".zarr", "publish", 0),
]


@pytest.mark.parametrize(("extension", "where", "after"), KILLS)
def test_killed_and_resumed(extension, where, after, source, tmp_path):
    whole = crop_file(source, tmp_path / f"whole{extension}", config())
    output = tmp_path / f"out{extension}"
    arguments = [sys.executable, "-c", CHILD, str(source), str(output), where, str(after)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "here\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert output.exists() == (where == "record")
    assert not is_complete(output)
    if where in ("publish", "record"):  # all that was left to do were the names
        with pytest.raises(FinishedError, match="finished by an earlier run") as finished:
            crop_file(source, output, config(), resume=True)
        resumed = finished.value.record
        assert resumed["analysis"]["global_radius"] == whole.analysis.global_radius
        assert resumed["validation"]["min_retention"] == whole.validation.to_dict()["min_retention"]
    else:
        assert plain(crop_file(source, output, config(), resume=True)) == plain(whole)
    assert digest(output) == digest(tmp_path / f"whole{extension}")
    assert is_complete(output)
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == [output.name, "out_results.json"]


FULL = """
import resource, sys
from stackalign import runs
from stackalign.crop import CroppingConfig, crop_file
from stackalign.errors import DataError
from stackalign.io import hdf5_writer, zarr_writer

runs.Run.due = lambda run: True
zarr_writer._SHARD_BYTES, zarr_writer._CHUNK_BYTES, hdf5_writer._CHUNK_BYTES = 10_500, 2000, 2000
source, output, limit = sys.argv[1:]

def progress(state):
    if state.stage == "crop":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))

try:
    crop_file(source, output, CroppingConfig(visualization=False, chunk_size=6, workers=1), progress=progress)
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize(("extension", "limit"), [(".npy", 35_000), (".pt", 35_000), (".h5", 35_000), (".zarr", 3600)])
def test_full_disk(extension, limit, source, tmp_path):
    crop_file(source, tmp_path / f"whole{extension}", config())
    output = tmp_path / f"out{extension}"
    arguments = [sys.executable, "-c", FULL, str(source), str(output), str(limit)]
    child = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.count("\n") == 1
    assert child.stdout.startswith(f"output {output}")  # or a file of its journal
    assert "cannot be written (File too large)" in child.stdout
    assert "what was done is kept, and can be resumed" in child.stdout
    assert not output.exists()
    crop_file(source, output, config(), resume=True)
    assert digest(output) == digest(tmp_path / f"whole{extension}")
    assert is_complete(output)


def test_not_enough_free_space_is_seen_before_the_second_pass(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("stackalign.crop.passes.shutil.disk_usage", lambda path: usage._replace(free=1000))
        seen = []
        with pytest.raises(DataError, match=r"needs .* and 1 kB are free in .*can be resumed"):
            crop_file(source, tmp_path / "out.npy", config(), progress=seen.append)
    assert {p.stage for p in seen} == {"analyse"}
    assert not (tmp_path / "out.npy").exists()
    resumed = []
    crop_file(source, tmp_path / "out.npy", config(), resume=True, progress=resumed.append)
    assert {p.stage for p in resumed} == {"crop"}


def test_output_below_a_file_is_one_sentence(source, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        crop_file(source, tmp_path / "file" / "out.npy", config())
    assert (tmp_path / "file").read_text() == "x"
