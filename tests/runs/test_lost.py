"""What an interrupted run has left and is no longer whole, and what the system refuses meanwhile."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from runs.test_run import SUFFIX, plan_of, work
from stackalign.errors import FinishedError, OutputError, OutputExistsError, StackalignWarning, UnfitStateError
from stackalign.io.regions import RegionTarget
from stackalign.io.stacks import create_stack
from stackalign.runs import Run, publication

STACK = np.random.default_rng(3).integers(0, 3000, (60, 17, 19)).astype("u2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", STACK)
    return tmp_path / "in.npy"


def killed_before_the_renames(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **options) -> Path:
    """Folder of a run whose publication was begun."""

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publication, "replace_path", kill)
        with pytest.raises(KeyboardInterrupt):
            work(source, output, **options)
    return output.with_name(output.name + ".partial")


@pytest.mark.parametrize("name", ["data.txt", "record.json"])
def test_publication_that_is_not_whole_is_not_completed(name: str, source: Path, tmp_path: Path, monkeypatch) -> None:
    """The work is done again; an output that was there before is not taken for what the run has made."""
    output = tmp_path / "out.txt"
    output.write_text("old")
    folder = killed_before_the_renames(source, output, monkeypatch, overwrite=True)
    (folder / name).unlink()
    work(source, output, "anew", resume=True)
    assert output.read_text() == "result, resumed"


def test_cut_output_is_not_published(source: Path, tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "out.txt"
    folder = killed_before_the_renames(source, output, monkeypatch)
    (folder / "data.txt").write_text("res")
    work(source, output, resume=True)
    assert output.read_text() == "result, resumed"


def test_publication_of_an_earlier_version_is_completed(source: Path, tmp_path: Path, monkeypatch) -> None:
    """Which did not note sizes."""
    output = tmp_path / "out.txt"
    note = killed_before_the_renames(source, output, monkeypatch) / "publish.json"
    contents = json.loads(note.read_text())
    del contents["sizes"]
    note.write_text(json.dumps(contents))
    with pytest.raises(FinishedError):
        work(source, output, resume=True)
    assert output.read_text() == "result"


@pytest.mark.parametrize("overwrite", [False, True])
def test_journal_without_a_readable_plan(overwrite: bool, source: Path, tmp_path: Path) -> None:
    """Nobody knows whose it is: it is replaced only where that was allowed."""
    output = tmp_path / "out.txt"
    folder = tmp_path / "out.txt.partial"
    folder.mkdir()
    (folder / "plan.json").write_text("{")
    if not overwrite:
        with pytest.raises(UnfitStateError, match=r"plan\.json cannot be read .*; start again without resuming"):
            work(source, output, resume=True)
        work(source, output)
        return
    with pytest.warns(StackalignWarning, match=r"plan\.json cannot be read .* is lost, and done again"):
        work(source, output, resume=True, overwrite=True)
    assert output.read_text() == "result"


def test_damaged_log_is_done_again(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    with pytest.raises(Exception, match="stopped"):
        work(source, output, stop=True)
    log = tmp_path / "out.txt.partial" / "log.jsonl"
    log.write_bytes(b"nonsense\n" + log.read_bytes())
    with pytest.warns(StackalignWarning, match="line 1 of .* is damaged: what was done before is lost"):
        work(source, output, "anew", resume=True)
    assert output.read_text() == "anew"


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied", "x"), OSError(errno.EIO, "I/O")])
def test_errors_of_the_system_are_one_sentence(error: OSError, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    run = Run(output, plan_of(source), suffix=SUFFIX)
    with pytest.raises(OutputError, match=rf"output .*out\.txt cannot be written \({error.strerror}\)"), run:
        raise error
    run = Run(output, plan_of(source), suffix=SUFFIX)
    with pytest.raises(OutputExistsError), run:  # which is an OSError, too, and has its own words
        raise OutputExistsError("exists")
    work(source, output)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("loss", ["missing", "cut"])
def test_shards_that_are_not_whole(loss: str, regions: bool, tmp_path: Path, monkeypatch) -> None:
    """They would be read as zeros, or not at all."""
    monkeypatch.setattr("stackalign.io.zarr_writer._SHARD_BYTES", 10_500)
    monkeypatch.setattr("stackalign.io.zarr_writer._CHUNK_BYTES", 2000)
    path = tmp_path / "a.zarr"
    if regions:
        target = RegionTarget.create(path, STACK.shape, "u2", scan_shape=(60,))
        done = 2 * target.alignment
        target.write(0, STACK[:done])
        state = target.checkpoint(done)
    else:
        with create_stack(path, STACK.shape, "u2", scan_shape=(60,)) as writer:
            writer.write(STACK[:40])
            state = writer.checkpoint()
    shard = path / "c" / "1" / "0" / "0"
    whole = shard.read_bytes()
    if loss == "cut":
        shard.write_bytes(whole[:-1])
    else:
        shard.unlink()
    with pytest.raises(UnfitStateError):
        create_stack(path, STACK.shape, "u2", scan_shape=(60,), resume=state)
    shard.write_bytes(whole)
    with create_stack(path, STACK.shape, "u2", scan_shape=(60,), resume=state) as writer:
        writer.write(STACK[int(state["patterns"]) :])
        writer.finish({})
    zarr = pytest.importorskip("zarr")
    np.testing.assert_array_equal(zarr.open_array(path)[...], STACK)
