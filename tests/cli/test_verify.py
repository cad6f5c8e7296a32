"""`stackalign info FILE` and `stackalign verify`: what made an output, and whether it still is that."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cli.runner import crop, run, save, strict_json
from solar import small
from stackalign import __version__, runs
from stackalign.io import open_stack
from stackalign.runs.record import SUFFIXES, load_record, record_path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "in.npy")


def made_by(output: Path, suffix: str, source: Path) -> Path:
    """An output of any command, and its record."""
    with open_stack(source) as reader:
        plan = runs.Plan("some command", [runs.input_record(reader)], {"fold": 3}, {"mask": "0123abcd" * 5})
        with runs.Run(output, plan, suffix=suffix, readers=[reader]) as run_:
            run_.data.write_text("result")
            run_.publish({"n": 1, "provenance": {"device": "cpu", "inputs": [{"path": str(source)}]}}, status="short")
    return record_path(output, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_outputs_and_records_of_every_command(suffix: str, source: Path, tmp_path: Path) -> None:
    output = tmp_path / ("out.dat" if suffix else "out.json")
    record = made_by(output, suffix, source)
    for path in (output, record):
        ran = run("info", path)
        assert (ran.code, ran.err) == (0, "")
        lines = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in ran.out.splitlines()}
        assert lines["output"] == str(output)
        assert ran.out.count("some command") == 1
        assert lines["status"] == "short"
        assert lines["device"] == "cpu"
        assert lines["setting"] == "fold = 3"
        assert lines["versions"] == f"stackalign {__version__}"
        assert "in.npy" in lines["input"]
        facts = strict_json(run("info", path, "--json").out)
        assert facts["inputs"][0]["fingerprint"] == load_record(record)["run"]["plan"]["inputs"][0]["fingerprint"]
        assert facts["masks"] == {"mask": "0123abcd" * 5}
        ran = run("verify", path)
        assert (ran.code, ran.out, ran.err) == (0, f"{path}: as some command has written it\n", "")
    (output if suffix else record).write_text(record.read_text().replace('"n": 1', '"n": 2'))
    ran = run("verify", output)
    assert ran.code == 1
    assert len(ran.errors) == len(ran.err.splitlines()) == 1
    assert "is not what its run has written" in ran.err
    if suffix:
        output.unlink()
        for path in (output, record):
            ran = run("verify", path)
            assert (ran.code, f"{output} is missing" in ran.err) == (1, True)


def test_a_folder_is_an_output(source: Path, tmp_path: Path) -> None:
    assert crop(source, "-o", tmp_path / "c.zarr").code == 0
    assert run("verify", f"{tmp_path / 'c.zarr'}/").code == 0
    facts = strict_json(run("info", tmp_path / "c.zarr", "--json").out)
    assert (facts["command"], facts["settings"]["target_retention"]) == ("crop", 0.98)
    assert facts["inputs"][0]["path"] == str(source)
    assert facts["versions"]["numpy"] == np.__version__
    chunk = max((p for p in (tmp_path / "c.zarr").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    assert run("verify", tmp_path / "c.zarr").code == 1


def test_inputs_that_changed_or_are_gone(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "c.npy"
    assert crop(source, "-o", output).code == 0
    np.save(source, np.zeros((2, 8, 8)))
    ran = run("verify", output)
    assert (ran.code, f"{output}: the input {source} has changed since" in ran.err) == (1, True)
    source.unlink()
    ran = run("verify", output)
    assert ran.code == 0
    assert ran.out == f"{output}: as crop has written it; the input {source} is not there and was not compared\n"
    (row,) = strict_json(run("verify", output, "--json").out)
    assert (row["status"], len(row["remarks"])) == ("right", 1)
    assert run("verify", output, "--quiet").out == ""


def test_an_input_that_is_known_by_its_values(source: Path, tmp_path: Path) -> None:
    """Such as one image of a stack: the file may hold more, and its fingerprint is not in the record."""
    described = {"name": "in.npy", "fingerprint": runs.array_digest(np.load(source)[0])}
    with runs.Run(tmp_path / "out.dat", runs.Plan("align", [described]), suffix="_alignment.json") as run_:
        run_.data.write_text("result")
        run_.publish({})
    ran = run("verify", tmp_path / "out.dat")
    assert ran.code == 0
    assert "in.npy is known by its values alone and was not compared" in ran.out


def test_an_input_of_several_files(source: Path, tmp_path: Path) -> None:
    assert crop(source, "-o", tmp_path / "in.zarr").code == 0
    assert crop(tmp_path / "in.zarr", "-o", tmp_path / "c.npy", "--min-retention", "0.1").code == 0
    assert run("verify", tmp_path / "c.npy").code == 0
    chunk = max((p for p in (tmp_path / "in.zarr").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    assert "in.zarr has changed since" in run("verify", tmp_path / "c.npy").err


def test_a_corrected_file_and_a_held_back_one(tmp_path: Path) -> None:
    small.reference(tmp_path / "ref.fits")
    small.raster(tmp_path / "a.fits")
    small.raster(tmp_path / "noise.fits", noise=True)
    for name in ("a", "noise"):
        run("coalign", tmp_path / f"{name}.fits", tmp_path / "ref.fits", "-o", tmp_path, *small.ARGUMENTS)
    facts = strict_json(run("info", tmp_path / "a_coaligned.fits", "--json").out)
    assert [(Path(one["path"]).name, one["role"]) for one in facts["inputs"]] == [
        ("a.fits", "target"), ("ref.fits", "reference"),
    ]  # fmt: skip
    assert facts["settings"]["model"] == "shift"
    held = strict_json(run("info", tmp_path / "noise_coaligned.json", "--json").out)
    assert (held["status"], held["content"]) == ("flagged", None)
    outputs = [tmp_path / "a_coaligned.fits", tmp_path / "noise_coaligned.json"]
    assert run("verify", *outputs).code == 0
    shutil.move(tmp_path / "ref.fits", tmp_path / "elsewhere.fits")
    ran = run("verify", *outputs)
    assert (ran.code, ran.out.count("ref.fits is not there and was not compared")) == (0, 2)


def test_a_refinement_is_its_own_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration is an input, too, though its remarks are no settings."""
    from refine.configuration import images, write_config
    from stackalign.refine import refine_file

    path = write_config(tmp_path, images(), ("\n[[step]]\nname", "\n[x]\nname"))
    path.write_text(path.read_text().split("[x]")[0])
    assert refine_file(path, tmp_path / "out.json", command="stackalign refine si.toml").ok
    facts = strict_json(run("info", tmp_path / "out.json", "--json").out)
    assert {Path(one["path"]).name for one in facts["inputs"]} == {"si.toml", "disks.npz"}
    assert facts["settings"]["step"]["1"]["refine"] == {"thickness": [300, 900]}
    assert run("verify", tmp_path / "out.json").code == 0
    path.write_text(path.read_text() + "# a remark\n")
    assert "si.toml has changed since" in run("verify", tmp_path / "out.json").err


@pytest.mark.parametrize("content", [None, "{}", '{"run": 3}', '{"output": "x.json"}', "no json"])
def test_files_that_no_command_has_written(content: str | None, source: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    why = "does not exist" if content is None else "no record beside it that names it"
    if content is not None and "x.json" in content:
        why = "is of a version that kept no fingerprints"
    else:
        assert run("info", path).code == 1
    made_by(tmp_path / "good.dat", ".json", source)
    ran = run("verify", tmp_path / "good.dat", path)
    assert ran.code == 2
    assert why in ran.err
    assert len(ran.errors) == 1
    assert "good.dat: as some command has written it" in ran.out
    (tmp_path / "good.dat").write_text(json.dumps({}))
    assert run("verify", tmp_path / "good.dat", path).code == 1
