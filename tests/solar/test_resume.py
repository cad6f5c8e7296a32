"""What coalign does with what an earlier run has left: a table of situations and verdicts, by files and by commands."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cli.runner import Ran, run
from solar import small
from stackalign import runs
from stackalign.runs import find_record
from stackalign.solar import files, tasks

OUTPUT, RECORD = "a_coaligned.fits", "a_coaligned.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Inputs, and the outputs of one run that was good and one that was flagged."""
    folder = tmp_path_factory.mktemp("small")
    small.reference(folder / "ref.fits")
    small.raster(folder / "a.fits")
    small.raster(folder / "noise.fits", noise=True)
    for name, code in (("a", 0), ("noise", 3)):
        ran = run("coalign", folder / f"{name}.fits", folder / "ref.fits", "-o", folder / "out", *small.ARGUMENTS)
        assert ran.code == code, ran.err
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of them with the same times."""
    shutil.copytree(made, tmp_path / "x")
    return tmp_path / "x"


def coalign(folder: Path, *more: object, target: str = "a.fits", references: tuple[str, ...] = ("ref.fits",)) -> Ran:
    paths = [folder / name for name in (target, *references)]
    return run("coalign", *paths, "-o", folder / "out", *small.ARGUMENTS, *more)


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir()) if path.is_file()}


def refused(folder: Path, words: str, *more: object, **how: object) -> None:
    """One sentence, and nothing is touched; then it is done when told to."""
    before = state(folder)
    ran = coalign(folder, "--resume", *more, **how)
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert words in ran.err, ran.err
    assert state(folder) == before
    assert coalign(folder, *more, "--overwrite", "--resume", **how).code == 0
    assert state(folder) != before


def test_the_same_is_finished(folder: Path) -> None:
    before = state(folder)
    for options in (
        ("--resume",),
        ("--resume", "--overwrite"),
        ("--resume", "--workers", "1", "--memory-limit", "1MB"),
    ):
        ran = coalign(folder, *options)
        assert ran.code == 0, ran.err
        assert "a.fits: earlier: finished by an earlier run" in ran.err
        assert state(folder) == before
    ran = coalign(folder)
    assert ran.code == 1
    assert f"output {folder / 'out' / OUTPUT} exists; choose another name or allow it to be replaced (--ov" in ran.err
    assert state(folder) == before
    row = json.loads(coalign(folder, "--resume", "--json").out)[0]
    assert row["status"] == "done"
    assert row["parameters"]["dx"] == pytest.approx(2, abs=0.1)


def test_a_flagged_one_is_finished_with_the_code_of_then(folder: Path) -> None:
    before = state(folder)
    ran = coalign(folder, "--resume", target="noise.fits")
    assert ran.code == 3
    assert "finished by an earlier run" in ran.err
    assert state(folder) == before
    foreign = folder / "out" / "noise_coaligned.fits"
    foreign.write_bytes(b"of somebody else")
    ran = coalign(folder, "--resume", "--write-flagged", target="noise.fits")
    assert ran.code == 1
    assert "exists and was not written by an earlier run" in ran.err
    assert foreign.read_bytes() == b"of somebody else"
    foreign.unlink()
    assert coalign(folder, "--resume", "--write-flagged", target="noise.fits").code == 3
    assert fits.getheader(foreign)["XC_N"] == 1
    written = state(folder)
    assert coalign(folder, "--resume", "--write-flagged", target="noise.fits").code == 3
    assert state(folder) == written


def test_another_input_of_the_same_output(folder: Path) -> None:
    (folder / "b").mkdir()
    small.raster(folder / "b" / "a.fits", -1.0, 1.0)
    refused(folder, "belongs to another run (the content of a.fits has changed)", target="b/a.fits")
    assert json.loads((folder / "out" / RECORD).read_text())["parameters"]["dx"] == pytest.approx(-1, abs=0.1)


def test_another_reference(folder: Path) -> None:
    small.reference(folder / "other.fits")
    refused(folder, "(the input was ref.fits, is other.fits)", references=("other.fits",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "shift+scale"), 'model was "shift", is "shift+scale"'),
        (("--max-shift", "30arcsec"), 'max_shift was "40arcsec", is "30arcsec"'),
        (("--height", "1.004"), "height was 1.0, is 1.004"),
        (("--solar-rotation", "none"), 'rotation was "howard", is null'),
        (("--time-window", "2h"), 'time_window was null, is "2h"'),
    ],
)
def test_other_settings(folder: Path, options, words: str) -> None:
    refused(folder, f"belongs to another run ({words})", *options)


@pytest.mark.parametrize("name", ["a.fits", "ref.fits"])
def test_changed_content_under_the_same_name(folder: Path, name: str) -> None:
    with fits.open(folder / name, mode="update") as hdus:
        hdus[0].data[30, 20] += 1
    refused(folder, f"belongs to another run (the content of {name} has changed)")


def test_another_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((folder / "out" / RECORD).read_text())
    record["run"]["plan"]["version"] = "0.0.1"
    (folder / "out" / RECORD).write_text(json.dumps(record))
    refused(folder, "the version of stackalign was 0.0.1, is ")


@pytest.mark.parametrize("record", [True, False])
def test_a_foreign_file_under_the_name(folder: Path, record: bool) -> None:
    output = folder / "out" / OUTPUT
    shutil.copy(folder / "ref.fits", output)
    words = "exists and is not what an earlier run has written (the content of "
    if not record:
        (folder / "out" / RECORD).unlink()
        words = "exists and was not written by an earlier run of this command"
    refused(folder, words)


def test_an_output_that_is_gone_is_made_again(folder: Path) -> None:
    before = fits.getdata(folder / "out" / OUTPUT)
    (folder / "out" / OUTPUT).unlink()
    assert coalign(folder, "--resume").code == 0
    np.testing.assert_array_equal(fits.getdata(folder / "out" / OUTPUT), before)
    assert fits.getheader(folder / "out" / OUTPUT)["FILENAME"] == OUTPUT


@pytest.mark.parametrize("plan", [None, "{}", "torn"])
def test_leftovers_of_a_run_that_was_killed_at_its_end(folder: Path, plan: str | None) -> None:
    before = state(folder)
    left = folder / "out" / f"{OUTPUT}.partial"
    left.mkdir()
    if plan is not None:
        (left / "plan.json").write_text(plan)
    ran = coalign(folder, "--resume")
    assert ran.code == 0, ran.err
    assert "finished by an earlier run" in ran.err
    assert state(folder) == before
    assert not left.exists()


@pytest.mark.parametrize("moved", [0, 1])
def test_killed_while_publishing(folder: Path, moved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from stackalign.runs import publication as module

    shutil.rmtree(folder / "out")
    rename, calls = module.replace_path, []

    def killed(old, new, **options):
        if len(calls) == moved:
            raise KeyboardInterrupt
        calls.append(new)
        rename(old, new, **options)

    task = files.Task(folder / "a.fits", (folder / "ref.fits",), folder / "out" / OUTPUT, small.SETTINGS)
    (folder / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_path", killed)
        with pytest.raises(KeyboardInterrupt):
            files.run_tasks([task])
    assert (folder / "out" / OUTPUT).exists() == (moved == 1)
    assert not (folder / "out" / RECORD).exists()
    (outcome,) = files.run_tasks([task], resume=True)
    assert (outcome.status, outcome.record["status"]) == ("earlier", "done")
    assert sorted(path.name for path in (folder / "out").iterdir()) == [OUTPUT, RECORD]


def test_what_dead_processes_left_is_removed(folder: Path) -> None:
    """Of this output alone, and nothing of a process that runs."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    out, running = folder / "out", os.getppid()
    (out / OUTPUT).unlink()
    mine = [out / f".a_coaligned.{dead.pid}.part{ending}" for ending in (".fits", ".json", ".html")]
    others = [
        out / f".a_coaligned.{running}.part.fits",
        out / f".b_coaligned.{dead.pid}.part.fits",
        out / ".a.part.fits",
    ]
    for path in (*mine, *others):
        path.write_bytes(b"SIMPLE  =")
    assert coalign(folder, "--resume").code == 0
    assert [path.exists() for path in (*mine, *others)] == [False] * 3 + [True] * 3
    mine[0].write_bytes(b"SIMPLE  =")
    assert "finished by an earlier run" in coalign(folder, "--resume").err
    assert not mine[0].exists()


def test_input_that_changes_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "out")
    real = tasks.coalign_job

    def slow(target, *arguments, **settings):
        small.raster(folder / "a.fits", 0.5, 0.5)
        return real(target, *arguments, **settings)

    monkeypatch.setattr(tasks, "coalign_job", slow)
    ran = coalign(folder)
    assert ran.code == 1
    assert "the input a.fits changed while it was read; nothing was written" in ran.err
    assert list((folder / "out").iterdir()) == []


def test_an_output_that_another_run_writes(folder: Path) -> None:
    shutil.rmtree(folder / "out")
    (folder / "out").mkdir()
    with runs.Run(folder / "out" / OUTPUT, runs.Plan("coalign", []), suffix=".json"):
        ran = coalign(folder)
    assert ran.code == 1
    assert f"being written by another run (process {os.getpid()} on " in ran.err
    assert list((folder / "out").iterdir()) == []


def test_an_output_that_two_tasks_share(folder: Path) -> None:
    """The second is refused, and the first is not disturbed while it is worked on."""
    rows = "target,reference,output\na.fits,ref.fits,x.fits\nnoise.fits,ref.fits,x.fits\na.fits,ref.fits,x.fits\n"
    (folder / "jobs.csv").write_text(rows)
    ran = run("coalign", "--batch", folder / "jobs.csv", "-o", folder / "out", *small.ARGUMENTS)
    assert ran.code == 1
    assert len(ran.errors) == 2
    assert ran.err.count("would be written twice") == 2
    assert find_record(folder / "x.fits", ".json")["status"] == "done"
    assert run("verify", folder / "x.fits").code == 0
    assert not (folder / "x.fits.partial").exists()


def test_a_flagged_result_takes_the_earlier_correction_away(folder: Path) -> None:
    small.raster(folder / "a.fits", noise=True)
    ran = coalign(folder, "--resume")
    assert (ran.code, (folder / "out" / OUTPUT).exists()) == (1, True)
    assert coalign(folder, "--overwrite").code == 3
    assert not (folder / "out" / OUTPUT).exists()
    assert find_record(folder / "out" / OUTPUT, ".json")["status"] == "flagged"


def test_the_frames_of_an_archive_are_inputs(folder: Path) -> None:
    """A frame that was added or exchanged in the time window is another input; one of another day is none."""
    archive = folder / "fsi"
    archive.mkdir()
    for minute in (50, 58):
        small.reference(archive / f"eui-fsi174_20220401T11{minute}00_V01.fits", date=f"2022-04-01T11:{minute}:00")
    common = ("--fsi-dir", archive, "--time-window", "20min", "--threshold-time", "900")
    assert coalign(folder, *common, "-o", folder / "seq", references=()).code == 0
    again = ("--resume", "-o", folder / "seq")
    small.reference(archive / "eui-fsi174_20220402T115000_V01.fits", date="2022-04-02T11:50:00")
    assert "finished by an earlier run" in coalign(folder, *common, *again, references=()).err
    later = archive / "eui-fsi174_20220401T120500_V01.fits"
    small.reference(later, date="2022-04-01T12:05:00")
    ran = coalign(folder, *common, *again, references=())
    assert (ran.code, "(the number of inputs was 3, is 4)" in ran.err) == (1, True)
    later.unlink()
    small.reference(archive / "eui-fsi174_20220401T115000_V01.fits", date="2022-04-01T11:50:00")
    ran = coalign(folder, *common, *again, references=())
    assert "(the content of eui-fsi174_20220401T115000_V01.fits has changed)" in ran.err
    ran = coalign(folder, *common[:-1], "800", *again, references=())
    assert ran.code == 1


def test_a_batch_goes_on_after_refusals(folder: Path) -> None:
    """Each task has its own verdict; the code is that of the worst."""
    (folder / "jobs.csv").write_text("target,reference\na.fits,ref.fits\nnoise.fits,ref.fits\nc.fits,ref.fits\n")
    small.raster(folder / "c.fits", 1.0, 1.0)
    batch = ("coalign", "--batch", folder / "jobs.csv", "-o", folder / "out", *small.ARGUMENTS)
    ran = run(*batch)
    assert ran.code == 1
    assert len(ran.errors) == 2
    assert "3/3: c.fits: done" in ran.err
    ran = run(*batch)
    assert ran.code == 1
    assert "coalign.ecsv exists; choose another one with --table" in ran.err
    page = folder / "all.html"
    ran = run(*batch, "--resume", "--memory-limit", "10kB", "--report-file", page)
    assert ran.code == 3
    assert ran.err.count("finished by an earlier run") == 3
    text = page.read_text()
    assert "3 files: 2 done, 1 flagged." in text
    assert text.count("<tr>") == 4
    assert text.count("<img ") == 1
    assert "<a href" not in text
    ran = run(*batch, "--overwrite", "--report", "--report-file", page, "-q")
    assert (ran.code, ran.err) == (3, "")
    assert '<a href="out/c_coaligned.html">c.fits</a>' in page.read_text()
    before = page.read_bytes()
    ran = run(*batch, "--table", folder / "new.csv", "--report-file", page)
    assert (ran.code, f"report {page} exists" in ran.err) == (1, True)
    assert page.read_bytes() == before


def test_the_page_of_one_file(folder: Path) -> None:
    page = folder / "a.html"
    assert coalign(folder, "--overwrite", "--report-file", page).code == 0
    assert "Blinking" in page.read_text()
    assert not (folder / "out" / "a_coaligned.html").exists()
    (folder / "out" / "a_coaligned.html").write_text("of somebody else")
    (folder / "out" / OUTPUT).unlink()
    (folder / "out" / RECORD).unlink()
    ran = coalign(folder, "--report")
    assert (ran.code, "a_coaligned.html exists" in ran.err) == (1, True)
    assert (folder / "out" / "a_coaligned.html").read_text() == "of somebody else"
