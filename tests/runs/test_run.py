"""One output on its way: the verdict on what exists, the lock, changed inputs, and publication."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stackalign.errors import DataError, FinishedError, Interrupted, OutputExistsError, OutputLockedError
from stackalign.io import open_stack
from stackalign.runs import Plan, Run, array_digest, find_record, input_record, record_path

SUFFIX = "_done.json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", np.arange(64, dtype=np.uint16).reshape(4, 4, 4))
    return tmp_path / "in.npy"


def plan_of(source: Path, command: str = "test", mask=None, **settings) -> Plan:
    with open_stack(source) as reader:
        return Plan(command, [input_record(reader)], settings, {"mask": array_digest(mask)})


def work(source: Path, output: Path, text: str = "result", *, plan: Plan | None = None, stop: bool = False, **options):
    """A pipeline in small: one checkpoint, then the output."""
    reader = open_stack(source)
    with Run(output, plan or plan_of(source), suffix=SUFFIX, readers=[reader], **options) as run:
        earlier = run.last_note().get("text")
        with run.checkpoint():
            run.note(text=text)
        if stop:
            message = "stopped"
            raise Interrupted(message)
        run.data.write_text(text if earlier is None else f"{earlier}, resumed")
        return run.publish({"extra": 1}, summary={"n": 4})


def test_a_run_leaves_the_output_and_its_record(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    written = work(source, output)
    assert output.read_text() == "result"
    record = json.loads((tmp_path / "out_done.json").read_text())
    assert record == written
    assert record["extra"] == 1
    assert record["run"]["summary"] == {"n": 4}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy", "out.txt", "out_done.json"]
    assert find_record(output, SUFFIX) == record


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fold": 3}, "fold was 2, is 3"),
        ({"mask": np.ones((4, 4), bool)}, "the mask is new"),
        ({"command": "other"}, "it was written by test, not by other"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_only_the_same_plan_is_finished_or_resumed(changed, words, finished, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    first = plan_of(source, fold=2)
    if finished:
        work(source, output, plan=first)
        with pytest.raises(FinishedError) as done:
            work(source, output, plan=first, resume=True)
        assert done.value.record["run"]["summary"] == {"n": 4}
    else:
        with pytest.raises(Interrupted):
            work(source, output, plan=first, stop=True)
    other = plan_of(source, **{"fold": 2, **changed})
    kind = OutputExistsError if finished else DataError
    with pytest.raises(kind, match=words) as refused:
        work(source, output, plan=other, resume=True)
    assert "belongs to another run" in str(refused.value)
    work(source, output, "new", plan=other, resume=True, overwrite=True)
    assert output.read_text() == "new"


def test_changed_content_of_the_same_name(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    work(source, output)
    np.save(source, np.zeros((4, 4, 4), np.uint16))
    with pytest.raises(OutputExistsError, match=r"the content of in\.npy has changed"):
        work(source, output, resume=True)
    assert output.read_text() == "result"


def test_foreign_and_edited_outputs(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("of somebody else")
    for resume in (False, True):
        with pytest.raises(OutputExistsError, match="exists"):
            work(source, output, resume=resume)
    output.unlink()
    work(source, output)
    output.write_text("edited")
    with pytest.raises(OutputExistsError, match="is not what its run has written"):
        work(source, output, resume=True)
    assert output.read_text() == "edited"
    output.unlink()
    work(source, output, resume=True)  # the record of this output says what is to be done again
    assert output.read_text() == "result"


def test_foreign_output_during_an_interruption(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    with pytest.raises(Interrupted):
        work(source, output, stop=True)
    output.write_text("of somebody else")
    with pytest.raises(OutputExistsError, match="exists"):
        work(source, output, resume=True)
    output.unlink()
    work(source, output, resume=True)
    assert output.read_text() == "result, resumed"


def test_permission_to_replace_is_for_the_file_that_was_there(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("old")
    with pytest.raises(Interrupted):
        work(source, output, stop=True, overwrite=True)
    output.write_text("something newer")
    with pytest.raises(OutputExistsError):
        work(source, output, resume=True)
    output.write_text("old")
    work(source, output, resume=True)
    assert output.read_text() == "result, resumed"


def test_leftovers_beside_a_finished_output(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    work(source, output)
    for plan in (None, "{}"):  # killed while the journal was deleted
        folder = tmp_path / "out.txt.partial"
        folder.mkdir()
        if plan is not None:
            (folder / "plan.json").write_text(plan)
        with pytest.raises(FinishedError):
            work(source, output, resume=True)
        assert not folder.exists()


@pytest.mark.parametrize("moved", [0, 1])
def test_killed_while_publishing(moved: int, source: Path, tmp_path: Path, monkeypatch) -> None:
    from stackalign.runs import publication as module

    output, rename, calls = tmp_path / "out.txt", module.replace_path, []

    def killed(old, new, **options):
        if len(calls) == moved:
            raise KeyboardInterrupt
        calls.append(new)
        rename(old, new, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_path", killed)
        with pytest.raises(KeyboardInterrupt):
            work(source, output)
    assert output.exists() == (moved == 1)
    assert not (tmp_path / "out_done.json").exists()
    with pytest.raises(FinishedError):
        work(source, output, resume=True)
    assert output.read_text() == "result"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy", "out.txt", "out_done.json"]


def test_input_that_changes_is_noticed(source: Path, tmp_path: Path) -> None:
    output, reader = tmp_path / "out.txt", open_stack(source)

    def rewritten() -> None:
        with Run(output, plan_of(source), suffix=SUFFIX, readers=[reader]) as run:
            np.save(source, np.ones((4, 4, 4), np.uint16))
            run.data.write_text("of both")
            run.publish({})

    def cut() -> None:
        with Run(output, plan_of(source), suffix=SUFFIX, readers=[reader]):
            source.write_bytes(b"cut")
            message = "patterns 2..3 cannot be read"
            raise DataError(message)

    with pytest.raises(DataError, match=r"the input in\.npy changed while it was read"):
        rewritten()
    with pytest.raises(DataError, match="changed while it was read") as caught:
        cut()
    assert "patterns 2..3" in str(caught.value.__cause__)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy"]


def test_errors_keep_what_can_be_resumed(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    message = "no room"

    def fail(error: Exception, save: bool) -> None:
        with Run(output, plan_of(source), suffix=SUFFIX) as run:
            if save:
                with run.checkpoint():
                    run.note(text="x")
            raise error

    with pytest.raises(DataError, match=r"^no room$"):
        fail(DataError(message), save=False)
    with pytest.raises(ValueError, match=r"^no room$"):
        fail(ValueError(message), save=True)  # a setting that no run accepts
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy"]
    with pytest.raises(DataError, match="no room; what was done is kept, and can be resumed") as kept:
        fail(DataError(message), save=True)
    assert kept.value.hint == "resume"
    work(source, output, resume=True)
    assert output.read_text() == "x, resumed"


def test_two_outputs_of_one_stem(source: Path, tmp_path: Path) -> None:
    for name in ("o.npy", "o.h5"):
        work(source, tmp_path / name, name)
    assert record_path(tmp_path / "o.npy", SUFFIX).name == "o_done.json"
    assert record_path(tmp_path / "o.h5", SUFFIX).name == "o_h5_done.json"
    for name in ("o.npy", "o.h5"):
        with pytest.raises(FinishedError) as done:
            work(source, tmp_path / name, name, resume=True)
        assert done.value.record["run"]["output"] == name


def test_second_run_is_refused(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    with Run(output, plan_of(source), suffix=SUFFIX):
        with pytest.raises(OutputLockedError, match=f"being written by another run .process {os.getpid()} on "):
            work(source, output)
        code = "import sys; from runs.test_run import *; work(Path(sys.argv[1]), Path(sys.argv[2]))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-c", code, str(source), str(output)], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert f"(process {os.getpid()} on " in ran.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy"]


def test_lock_of_a_dead_process_is_taken_over(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    lock = tmp_path / ".out.txt.lock"
    code = "import os, sys; from pathlib import Path; from stackalign.runs.lock import OutputLock\n"
    code += "lock = OutputLock(Path(sys.argv[1])); lock.acquire(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(output)], check=False)
    assert lock.exists()
    work(source, output)
    assert not lock.exists()


def test_lock_of_another_host_is_respected(source: Path, tmp_path: Path) -> None:
    lock = tmp_path / ".out.txt.lock"
    lock.write_text(json.dumps({"host": "node17", "pid": 4, "start": "1", "time": "yesterday"}))
    with pytest.raises(OutputLockedError, match=r"process 4 on node17, since yesterday.*delete .*\.out\.txt\.lock"):
        work(source, tmp_path / "out.txt")
    lock.unlink()
    work(source, tmp_path / "out.txt")


@pytest.mark.parametrize("alive", [True, False])
def test_lock_where_the_file_system_has_none(alive: bool, source: Path, tmp_path: Path, monkeypatch) -> None:
    from stackalign.runs import lock as module

    monkeypatch.setattr(module, "_lock", lambda fd: None)
    file = tmp_path / ".out.txt.lock"
    owner = module._me()
    if not alive:
        host, _, start, count = owner["token"].split("-")
        owner["token"] = f"{host}-{2**22 + 5}-{start}-{count}"
    file.write_text(json.dumps(owner))
    if alive:
        with pytest.raises(OutputLockedError):
            work(source, tmp_path / "out.txt")
    else:
        work(source, tmp_path / "out.txt")
        assert not file.exists()
