"""A batch of coalignments on the workers of an executor: the same files and records, resumed anywhere."""

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime, tzinfo
from multiprocessing import get_context
from pathlib import Path

import pytest
from astropy.io.fits.hdu.base import _ValidHDU

from solar import small
from stackalign.runs import StopRequest
from stackalign.solar import cards, files


@pytest.fixture
def tasks(tmp_path: Path) -> list[files.Task]:
    """Two good rasters, one of noise, and a file that is none."""
    reference = small.reference(tmp_path / "ref.fits")
    targets = [small.raster(tmp_path / "a.fits"), small.raster(tmp_path / "b.fits", -1.0, 0.5)]
    targets.append(small.raster(tmp_path / "noise.fits", noise=True))
    (tmp_path / "torn.fits").write_bytes(b"SIMPLE  =")
    targets.append(tmp_path / "torn.fits")
    return [files.Task(path, (reference,), tmp_path / f"{path.stem}.out.fits", small.SETTINGS) for path in targets]


def moved(tasks: list[files.Task], folder: Path) -> list[files.Task]:
    """The same with other outputs."""
    folder.mkdir()
    return [files.Task(t.target, t.references, folder / t.output.name, t.settings) for t in tasks]


def facts(task: files.Task) -> dict[str, object]:
    """What a record says of the result."""
    record = json.loads(task.record.read_text())
    return {name: record[name] for name in ("parameters", "sigma", "flags", "status", "run") if name != "run"} | {
        "content": record["run"]["content"],
        "plan": record["run"]["plan"],
    }


def test_same_files_and_records(tasks: list[files.Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noon(datetime):
        """The cards hold the second in which they are written."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2022, 4, 1, 12, tzinfo=tz)

    monkeypatch.setattr(cards, "datetime", Noon)
    monkeypatch.setattr(_ValidHDU, "_get_timestamp", lambda hdu: "2022-04-01T12:00:00")  # in comments of checksums
    here = files.run_tasks(tasks)
    assert [o.status for o in here] == ["done", "done", "flagged", "failed"]
    elsewhere = moved(tasks, tmp_path / "threads")
    with ThreadPoolExecutor(2) as executor:
        there = files.run_tasks(elsewhere, executor=executor)
    assert [o.status for o in there] == [o.status for o in here]
    assert "torn.fits" in there[3].message
    for one, other in zip(tasks[:3], elsewhere[:3], strict=True):
        assert facts(one) == facts(other)
        assert one.output.exists() == other.output.exists()
    for one, other in zip(tasks[:2], elsewhere[:2], strict=True):
        assert one.output.read_bytes() == other.output.read_bytes()
    assert not list((tmp_path / "threads").glob("*.partial"))
    again = files.run_tasks(elsewhere, resume=True)  # what workers have made is finished here, too
    assert [o.status for o in again] == ["earlier", "earlier", "earlier", "failed"]


@pytest.mark.slow
def test_workers_that_are_processes(tasks: list[files.Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = [
        files.Task(Path(t.target.name), (Path(t.references[0].name),), Path(t.output.name), t.settings)
        for t in tasks[:2]
    ]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        outcomes = files.run_tasks(relative, executor=executor)
    assert [o.status for o in outcomes] == ["done", "done"]


def test_stopped_and_resumed(tasks: list[files.Task]) -> None:
    stop = StopRequest()
    seen: list[str] = []

    def each(outcome: files.Outcome) -> None:
        seen.append(outcome.status)
        stop.request()

    with ThreadPoolExecutor(1) as executor:
        done = files.run_tasks(tasks, executor=executor, each=each, stop=stop)
    assert [o.status for o in done] == seen
    assert len(seen) == 2  # those that were handed out
    rest = files.run_tasks(tasks, resume=True)
    assert [o.status for o in rest] == ["earlier", "earlier", "flagged", "failed"]
