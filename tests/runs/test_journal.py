"""The journal of a run: what is kept, what is torn, what is damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stackalign.errors import DataError
from stackalign.runs import Journal


def test_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.partial")
    assert not journal.exists()
    plan = {"input": {"size": 5, "path": Path("a")}, "target": 0.98, "shape": (1, 2)}
    journal.create(plan)
    assert journal.exists()
    assert journal.plan == {"input": {"size": 5, "path": "a"}, "target": 0.98, "shape": [1, 2]}
    assert journal.records() == []
    for k in range(3):
        journal.append({"chunk": k, "crc": np.uint32(7)})
    again = Journal(tmp_path / "out.partial")
    assert [record["chunk"] for record in again.records()] == [0, 1, 2]
    arrays = {"radii": np.arange(5), "centres": np.ones((5, 2), "f4")}
    assert not journal.has_arrays("analysis")
    journal.save_arrays("analysis", **arrays)
    loaded = again.load_arrays("analysis")
    assert loaded.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[key], array)
    assert sorted(p.name for p in journal.folder.iterdir()) == ["analysis.npz", "log.jsonl", "plan.json"]
    journal.discard()
    journal.discard()
    assert not journal.folder.exists()


@pytest.mark.parametrize("torn", [1, 5, 12, 20])
def test_torn_last_line(torn: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.create({})
    for k in range(3):
        journal.append({"chunk": k, "text": "ü"})
    log = journal.folder / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-torn])
    journal = Journal(tmp_path / "j")
    assert [record["chunk"] for record in journal.records()] == [0, 1]
    journal.append({"chunk": 9})
    journal.append({"chunk": 10})
    assert [record["chunk"] for record in Journal(tmp_path / "j").records()] == [0, 1, 9, 10]


def test_damaged_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.create({"a": 1})
    for k in range(3):
        journal.append({"chunk": k})
    log = journal.folder / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"chunk":1', b'"chunk":8'))
    with pytest.raises(DataError, match=r"line 2 of .*log\.jsonl is damaged; start again without resuming"):
        Journal(tmp_path / "j").records()
    (journal.folder / "plan.json").write_text("{")
    with pytest.raises(DataError, match=r"the plan of .*plan\.json cannot be read"):
        journal.plan  # noqa: B018 -- a property that reads a file
    (journal.folder / "plan.json").write_text("[]")
    with pytest.raises(DataError, match="holds no plan"):
        journal.plan  # noqa: B018 -- a property that reads a file
    (journal.folder / "x.npz").write_bytes(b"PK not an archive")
    for name in ("x", "y"):
        with pytest.raises(DataError, match=rf"the saved arrays of .*{name}\.npz cannot be read"):
            journal.load_arrays(name)


def test_folder_removed_while_the_plan_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.setattr("stackalign.runs.journal.write_text_atomic", lambda *_: shutil.rmtree(folder))
    with pytest.raises(DataError, match=r"cannot be written \(No such file or directory\)"):
        Journal(folder / "out.npy.partial").create({"a": 1})
