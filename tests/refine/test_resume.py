"""What refine does with what an earlier run has left: a table of situations and verdicts."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from cli.runner import run
from refine.configuration import CONFIG, HKL, images, write_config
from stackalign import runs
from stackalign.errors import DataError, FinishedError, Interrupted, OutputExistsError
from stackalign.refine import files, load_config, refine_file
from stackalign.runs import StopRequest

OUTPUT = "si_refined.json"


@pytest.fixture(scope="module")
def disks():
    return images()


@pytest.fixture(scope="module")
def found(disks, tmp_path_factory):
    """What the two steps find, computed once."""
    folder = tmp_path_factory.mktemp("found")
    done = refine_file(write_config(folder, disks), folder / OUTPUT)
    return {step.step.title: step.result for step in done.steps}


@pytest.fixture
def taken(found, monkeypatch):
    """Steps whose results are known; the list of those that were taken."""
    titles: list[str] = []

    def take(now, step, show, stop):
        titles.append(step.title)
        if stop is not None:
            stop.check("stopped")
        return found[step.title], ()

    monkeypatch.setattr(files, "take", take)
    return titles


@pytest.fixture
def config(disks, tmp_path: Path, taken) -> Path:
    """A configuration whose run is finished."""
    path = write_config(tmp_path, disks)
    assert run("refine", path, "-q").code == 0
    taken.clear()
    return path


def refused(config: Path, words: str, *options: object) -> None:
    """One sentence, and nothing is touched; then it is done when told to."""
    output = config.with_name(OUTPUT)
    before = output.read_bytes()
    ran = run("refine", config, "--resume", *options)
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert words in ran.err, ran.err
    assert output.read_bytes() == before
    assert run("refine", config, "--resume", "--overwrite", *options).code == 0
    assert output.read_bytes() != before


def test_the_same_is_finished(config: Path, taken) -> None:
    output = config.with_name(OUTPUT)
    before = output.read_bytes()
    config.write_text("# only a remark\n" + CONFIG)
    for options in ((), ("--overwrite",), ("--device", "cpu", "--workers", "1", "--memory-limit", "1GB")):
        ran = run("refine", config, "--resume", *options)
        assert ran.code == 0
        assert ran.err == f"{output} was finished by an earlier run\n"
    assert json.loads(run("refine", config, "--resume", "--json").out) == json.loads(before)
    assert run("refine", config, "--resume", "-q").err == ""
    ran = run("refine", config)
    assert (ran.code, f"output {output} exists; choose another name or allow it to be" in ran.err) == (1, True)
    assert output.read_bytes() == before
    assert taken == []


def test_a_flagged_one_is_finished_with_the_code_of_then(config: Path, found, monkeypatch) -> None:
    doubtful = {name: dataclasses.replace(one, warnings=("poor: in doubt",)) for name, one in found.items()}
    monkeypatch.setattr(files, "take", lambda now, step, show, stop: (doubtful[step.title], ()))
    assert run("refine", config, "--overwrite", "-q").code == 3
    ran = run("refine", config, "--resume")
    assert (ran.code, "finished by an earlier run" in ran.err) == (3, True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[300, 900]", "[300, 800]", "step.1.refine.thickness was [300, 900], is [300, 800]"),
        ("[matching]\n", "[matching]\nblur = 0.5\n", "matching.blur is new (0.5)"),
        ("strong = 0.06", "strong = 0.07", "simulation.strong was 0.06, is 0.07"),
        ("kv = 200.0", "kv = 201.0", "beam.kv was 200.0, is 201.0"),
        ("height = 30", "height = 28", "roi.height was 30, is 28"),
    ],
)
def test_other_settings(config: Path, disks, old: str, new: str, words: str) -> None:
    write_config(config.parent, disks, (old, new))
    refused(config, f"exists and belongs to another run ({words})")


def test_changed_content_under_the_same_name(config: Path, disks) -> None:
    np.savez(config.with_name("disks.npz"), images=disks.data.images + 1, hkl=np.array(HKL))
    refused(config, "exists and belongs to another run (the content of disks.npz has changed)")


def test_another_file(config: Path, disks) -> None:
    config.with_name("disks.npz").rename(config.with_name("other.npz"))
    write_config(config.parent, disks, ("disks.npz", "other.npz"))
    refused(config, "the input was disks.npz, is other.npz")


@pytest.mark.parametrize("text", ["of somebody else", "{}", '{"steps": []}'])
def test_a_foreign_file_under_the_name(config: Path, text: str) -> None:
    config.with_name(OUTPUT).write_text(text)
    refused(config, "exists and was not written by an earlier run of this command")


def test_an_edited_result(config: Path) -> None:
    output = config.with_name(OUTPUT)
    record = json.loads(output.read_text())
    output.write_text(json.dumps(record))  # another layout is the same result
    assert run("refine", config, "--resume").code == 0
    record["steps"][1]["result"]["values"]["thickness"] += 1
    output.write_text(json.dumps(record))
    refused(config, f"is not what an earlier run has written (the record of {output} is not what its run has")


@pytest.mark.parametrize("plan", [None, "{}", "torn"])
def test_leftovers_of_a_run_that_was_killed_at_its_end(config: Path, plan: str | None) -> None:
    left = config.with_name(f"{OUTPUT}.partial")
    left.mkdir()
    if plan is not None:
        (left / "plan.json").write_text(plan)
    ran = run("refine", config, "--resume")
    assert (ran.code, "finished by an earlier run" in ran.err) == (0, True)
    assert not left.exists()


def stopped(path: Path, taken, monkeypatch, *, at: int) -> None:
    """Stop a run in its step `at`."""
    stop = StopRequest()
    with pytest.raises(Interrupted):
        refine_file(path, path.with_name(OUTPUT), stop=stop, on_step=lambda k, _: k == at and stop.request())
    assert not path.with_name(OUTPUT).exists()
    assert path.with_name(f"{OUTPUT}.partial").exists() == (at > 0)
    taken.clear()


@pytest.mark.parametrize("at", [0, 1])
def test_interrupted_and_resumed(disks, tmp_path: Path, taken, monkeypatch, at: int) -> None:
    path = write_config(tmp_path, disks)
    stopped(path, taken, monkeypatch, at=at)
    done = refine_file(path, tmp_path / OUTPUT, resume=True)
    assert taken == ["thickness, tilt", "step size"][at:]
    assert [step.resumed for step in done.steps] == [True] * at + [False] * (2 - at)
    assert json.loads((tmp_path / OUTPUT).read_text()) == done.record
    assert {file.name for file in tmp_path.iterdir()} == {"si.toml", "disks.npz", OUTPUT}
    with pytest.raises(FinishedError):
        refine_file(path, tmp_path / OUTPUT, resume=True)


def test_what_was_interrupted_is_of_another_run(disks, tmp_path: Path, taken, monkeypatch) -> None:
    path = write_config(tmp_path, disks)
    stopped(path, taken, monkeypatch, at=1)
    write_config(tmp_path, disks, ("[300, 900]", "[300, 800]"))
    ran = run("refine", path, "--resume")
    assert ran.code == 1
    assert f"{OUTPUT}.partial belongs to another run (step.1.refine.thickness was [300, 900], is" in ran.err
    (tmp_path / OUTPUT).write_text("of somebody else")
    write_config(tmp_path, disks)
    with pytest.raises(OutputExistsError):
        refine_file(path, tmp_path / OUTPUT, resume=True)
    assert (tmp_path / OUTPUT).read_text() == "of somebody else"
    (tmp_path / OUTPUT).unlink()
    refine_file(path, tmp_path / OUTPUT, resume=True)
    assert taken == ["step size"]


def test_a_step_that_was_torn(disks, tmp_path: Path, taken, monkeypatch) -> None:
    path = write_config(tmp_path, disks)
    stopped(path, taken, monkeypatch, at=1)
    (tmp_path / f"{OUTPUT}.partial" / "step-0.json").write_text("{")
    taken.clear()
    ran = run("refine", path, "--resume")
    assert ran.code == 0
    assert "step-0.json cannot be read" in ran.err
    assert "step 1 is taken once more" in ran.err
    assert len(taken) == 2


def test_killed_while_publishing(disks, tmp_path: Path, taken, monkeypatch) -> None:
    def killed(*_, **__):
        raise KeyboardInterrupt

    path = write_config(tmp_path, disks)
    with monkeypatch.context() as patch:
        patch.setattr(runs.publication, "replace_path", killed)
        with pytest.raises(KeyboardInterrupt):
            refine_file(path, tmp_path / OUTPUT)
    assert not (tmp_path / OUTPUT).exists()
    taken.clear()
    ran = run("refine", path, "--resume")
    assert (ran.code, "finished by an earlier run" in ran.err) == (0, True)
    assert taken == []
    assert {file.name for file in tmp_path.iterdir()} == {"si.toml", "disks.npz", OUTPUT}


def test_input_that_changes_while_it_is_read(disks, tmp_path: Path, taken) -> None:
    path = write_config(tmp_path, disks)

    def rewrite(k: int, _) -> None:
        if k == 1:
            np.savez(tmp_path / "disks.npz", images=disks.data.images, hkl=np.array(HKL))
            os.utime(tmp_path / "disks.npz", ns=(1, 1))

    with pytest.raises(DataError, match=r"the input disks\.npz changed while it was read; nothing was written"):
        refine_file(path, tmp_path / OUTPUT, on_step=rewrite)
    assert {file.name for file in tmp_path.iterdir()} == {"si.toml", "disks.npz"}


def test_a_mistake_that_shows_late_loses_no_step(disks, tmp_path: Path, taken, found, monkeypatch) -> None:
    def take(now, step, show, stop):
        if step.title == "step size":
            msg = "no pixel is left"
            raise ValueError(msg)
        return found[step.title], ()

    path = write_config(tmp_path, disks)
    with monkeypatch.context() as patch:
        patch.setattr(files, "take", take)
        ran = run("refine", path)
    assert ran.code == 1
    assert "step 2, step size: no pixel is left; what was done is kept, and can be resumed (--resume)" in ran.err
    assert run("refine", path, "--resume").code == 0
    assert taken == ["step size"]


def test_device_and_settings_of_a_configuration(disks, tmp_path: Path) -> None:
    path = write_config(tmp_path, disks, ("[matching]\n", '[matching]\ndevice = "cuda"\n'))
    assert load_config(path).refiner.device == "cuda"
    assert load_config(path, device="cpu").refiner.device == "cpu"
    stated = files.plan_of(load_config(path)).to_dict()
    path = write_config(tmp_path, disks)
    assert files.plan_of(load_config(path)).differences(stated) == []
    with pytest.raises(ValueError, match="give them to load_config"):
        refine_file(load_config(path), tmp_path / OUTPUT, device="cpu")
    ran = run("refine", path, "--device", "gpu")
    assert (ran.code, 'must be "auto", "cpu", "cuda"' in ran.err) == (2, True)
