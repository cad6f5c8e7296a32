"""A crop that was stopped, killed or out of disk goes on to the same bytes; nothing half-done has the final name."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from crop.oracle import content, digest, disks, plain
from stackalign import runs
from stackalign.crop import CroppingConfig, crop_file, is_complete
from stackalign.errors import DataError, FinishedError, Interrupted, OutputExistsError
from stackalign.runs import StopRequest

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


@pytest.mark.parametrize("extension", OUTPUTS)
@pytest.mark.parametrize(("stage", "after"), [("analyse", 1), ("analyse", 4), ("crop", 1), ("crop", 2), ("crop", 5)])
def test_stopped_and_resumed(extension, stage, after, source, tmp_path):
    whole = crop_file(source, tmp_path / f"whole{extension}", config())
    output = tmp_path / f"out{extension}"
    interrupt(source, output, stage, after)
    seen = []
    resumed = crop_file(source, output, config(), resume=True, progress=seen.append)
    assert digest(output) == digest(tmp_path / f"whole{extension}")
    assert plain(resumed) == plain(whole)
    assert is_complete(output)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("out")) == [output.name, "out_results.json"]
    # What was done is not done again.
    n_chunks = {"analyse": 0, "crop": 0}
    for progress in seen:
        n_chunks[progress.stage] += 1
    left = 6 - after  # of seven chunks; the request is seen after the chunk that follows it
    assert n_chunks["analyse"] == (left if stage == "analyse" else 0)
    if stage == "crop" and extension in (".npy", ".pt"):  # the others go back to the last whole block
        assert n_chunks["crop"] == left


FORMS = {
    "background": {"background": "corner"},
    "one window": {"one_window": True},
    "type and layout": {"output_dtype": "float32", "layout": "NCHW"},
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("extension", OUTPUTS)
def test_stopped_and_resumed_with_another_form(extension, name, tmp_path):
    stack = disks(40, dtype="u2")
    stack[:, 2] = 65535
    np.save(tmp_path / "in.npy", stack)
    options = {"config": config(**FORMS[name]), "mask": "auto"}
    whole = crop_file(tmp_path / "in.npy", tmp_path / f"whole{extension}", **options)
    assert whole.analysis.notes[0].startswith("mask auto")
    interrupt(tmp_path / "in.npy", tmp_path / f"out{extension}", "crop", 3, **options)
    resumed = crop_file(tmp_path / "in.npy", tmp_path / f"out{extension}", resume=True, **options)
    assert digest(tmp_path / f"out{extension}") == digest(tmp_path / f"whole{extension}")
    assert plain(resumed) == plain(whole)


def test_stopped_again_and_again(source, tmp_path):
    crop_file(source, tmp_path / "whole.npy", config())
    output = tmp_path / "out.npy"
    interrupt(source, output, "analyse", 1)
    interrupt(source, output, "analyse", 2, resume=True)
    interrupt(source, output, "crop", 1, resume=True, config=config(chunk_size=5))
    interrupt(source, output, "crop", 1, resume=True, config=config(chunk_size=4, workers=2))
    crop_file(source, output, config(chunk_size=9), resume=True)
    assert digest(output) == digest(tmp_path / "whole.npy")


@pytest.mark.parametrize("stage", ["analyse", "crop"])
def test_signal_stops_after_the_chunk(stage, source, tmp_path):
    crop_file(source, tmp_path / "whole.npy", config())
    output = tmp_path / "out.npy"

    sent = []

    def progress(state):
        if state.stage == stage and not sent:
            sent.append(state.done)
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop, pytest.raises(Interrupted):
        crop_file(source, output, config(), progress=progress, stop=stop)
    assert signal.getsignal(signal.SIGTERM) is handler
    crop_file(source, output, config(), resume=True)
    assert digest(output) == digest(tmp_path / "whole.npy")


def test_plane_is_resumed(source, tmp_path):
    np.save(tmp_path / "in.npy", STACK.reshape(5, 8, *STACK.shape[1:]))
    plane = config(center_fit="plane")
    whole = crop_file(source, tmp_path / "whole.npy", plane)
    for stage in ("analyse", "refine", "crop"):
        output = tmp_path / f"{stage}.npy"
        interrupt(source, output, stage, 2, config=plane)
        assert plain(crop_file(source, output, plane, resume=True)) == plain(whole)
        assert digest(output) == digest(tmp_path / "whole.npy")


def test_reuse_is_resumed(source, tmp_path):
    crop_file(source, tmp_path / "first.npy", config())
    results = tmp_path / "first_results.json"
    whole = crop_file(source, tmp_path / "whole.npy", config(), reuse=results)
    interrupt(source, tmp_path / "out.npy", "crop", 3, reuse=results)
    resumed = crop_file(source, tmp_path / "out.npy", config(), reuse=results, resume=True)
    assert plain(resumed) == plain(whole)
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": config(margin_pixels=4)}, "margin_pixels was 3, is 4"),
        ({"config": config(target_retention=0.99)}, "target_retention was 0.98, is 0.99"),
        ({"config": config(negative="clip")}, 'negative was "keep", is "clip"'),
        ({"mask": np.ones(STACK.shape[1:], bool)}, "the mask is new"),
        ({"open_options": {"scan_shape": (5, 8)}}, "scan_shape was [40], is [5, 8]"),
        ({"centers": np.full((40, 2), 8.0)}, "stated centers was null, is"),
    ],
)
def test_changed_options_are_refused_by_name(options, message, source, tmp_path):
    output = tmp_path / "out.npy"
    interrupt(source, output)
    with pytest.raises(DataError) as caught:
        crop_file(source, output, **{"config": config(), **options}, resume=True)
    assert message in str(caught.value)
    assert "out.npy.partial belongs to another run" in str(caught.value)
    crop_file(source, output, config(), resume=True)  # the run that was interrupted is still there


def test_changed_mask_input_compression_and_dataset_are_refused(source, tmp_path):
    mask = np.ones(STACK.shape[1:], bool)
    mask[0, 0] = False
    interrupt(source, tmp_path / "a.npy", mask=mask)
    mask[0, 1] = False
    with pytest.raises(DataError, match="the mask is another one"):
        crop_file(source, tmp_path / "a.npy", config(), mask=mask, resume=True)
    interrupt(source, tmp_path / "b.h5", compression="zstd")
    with pytest.raises(DataError, match="compression was"):
        crop_file(source, tmp_path / "b.h5", config(), resume=True)
    import h5py

    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["one"], file["two"] = STACK, STACK + 1
    interrupt(tmp_path / "two.h5", tmp_path / "c.npy", open_options={"dataset": "one"})
    with pytest.raises(DataError, match=r"options\.dataset was \"one\", is \"two\""):
        crop_file(tmp_path / "two.h5", tmp_path / "c.npy", config(), open_options={"dataset": "two"}, resume=True)
    interrupt(source, tmp_path / "d.npy")
    np.save(source, STACK + 1)
    with pytest.raises(DataError, match=r"the content of in\.npy has changed"):
        crop_file(source, tmp_path / "d.npy", config(), resume=True)


def test_resume_without_a_journal_starts_anew(source, tmp_path):
    crop_file(source, tmp_path / "whole.npy", config())
    crop_file(source, tmp_path / "out.npy", config(), resume=True)
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")
    with pytest.raises(FinishedError, match=r"out\.npy was finished by an earlier run"):
        crop_file(source, tmp_path / "out.npy", config(), resume=True)


def test_start_without_resume_forgets_what_was_done(source, tmp_path):
    interrupt(source, tmp_path / "out.npy")
    crop_file(source, tmp_path / "out.npy", config(margin_pixels=1))
    crop_file(source, tmp_path / "whole.npy", config(margin_pixels=1))
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")


@pytest.mark.parametrize("extension", OUTPUTS)
def test_existing_output_is_replaced_only_when_told(extension, source, tmp_path):
    output = tmp_path / f"out{extension}"
    crop_file(source, output, config())
    before = digest(output)
    with pytest.raises(OutputExistsError, match=r"exists; choose another name or allow it to be replaced"):
        crop_file(source, output, config(margin_pixels=1))
    assert digest(output) == before
    crop_file(source, output, config(margin_pixels=1), overwrite=True)
    after = digest(output)
    assert after != before
    stopping = Stopping(tmp_path / "none", "crop", 2)
    with pytest.raises(Interrupted):
        crop_file(source, output, config(), overwrite=True, progress=stopping, stop=stopping.request)
    assert digest(output) == after  # the old one stays until the new one is complete
    assert not is_complete(output)
    crop_file(source, output, config(), resume=True)
    assert digest(output) == before


def test_output_that_appeared_since_is_not_replaced(source, tmp_path):
    output = tmp_path / "out.npy"
    interrupt(source, output)
    output.write_bytes(b"of somebody else")
    with pytest.raises(OutputExistsError, match="exists"):
        crop_file(source, output, config(), resume=True)
    assert output.read_bytes() == b"of somebody else"
    crop_file(source, output, config(), resume=True, overwrite=True)
    assert content(output).shape[0] == 40


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
        patch.setattr("stackalign.crop.files.shutil.disk_usage", lambda path: usage._replace(free=1000))
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


@pytest.mark.parametrize("due", [True, False])
def test_results_are_the_last_thing_written(due, source, tmp_path, monkeypatch):
    monkeypatch.setattr("stackalign.runs.Run.due", lambda run: due)
    rename = runs.publication.replace_path

    def fail(path, target, **options):
        if target.suffix == ".json":
            assert output.exists()
            msg = "disk gone"
            raise DataError(msg)
        rename(path, target, **options)

    output = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        patch.setattr("stackalign.runs.publication.replace_path", fail)
        with pytest.raises(DataError, match="disk gone; what was done is kept"):
            crop_file(source, output, config())
    assert not is_complete(output)
    with pytest.raises(FinishedError):
        crop_file(source, output, config(), resume=True)
    assert is_complete(output)
