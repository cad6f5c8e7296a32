"""Files that appear complete or not at all, and provenance."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from stackalign.errors import DataError, OutputExistsError
from stackalign.io.atomic import atomic_path, replace_path, write_bytes_atomic, write_text_atomic
from stackalign.io.provenance import dump_json, provenance, to_jsonable


def test_atomic_files(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text_atomic(target, "één")
    assert target.read_text(encoding="utf-8") == "één"
    write_bytes_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    with pytest.raises(ZeroDivisionError), atomic_path(target) as partial:
        partial.write_text(f"{partial.suffix} {1 // 0}")
    with atomic_path(target) as partial:
        assert partial.suffix == ".txt"
        partial.write_bytes(b"two")
    assert target.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_file_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"output .*a\.txt cannot be written \(No such file or directory\)"):
        write_text_atomic(tmp_path / "none" / "a.txt", "x")


@pytest.mark.parametrize("old", ["file", "directory", None])
@pytest.mark.parametrize("new", ["file", "directory"])
def test_replace_path(old: str | None, new: str, tmp_path: Path) -> None:
    def make(path: Path, kind: str | None, text: str) -> None:
        if kind == "directory":
            (path / "deep").mkdir(parents=True)
            (path / "deep" / "x").write_text(text)
        elif kind == "file":
            path.write_text(text)

    source, target = tmp_path / "source.part", tmp_path / "target"
    make(source, new, "new")
    make(target, old, "old")
    if old is not None:
        with pytest.raises(OutputExistsError, match=r"output .*target exists; .*allow it to be replaced"):
            replace_path(source, target)
    replace_path(source, target, overwrite=True)
    assert (target / "deep" / "x" if new == "directory" else target).read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


@dataclasses.dataclass
class _Sample:
    path: Path
    value: float


def test_json_of_everything() -> None:
    value = {
        "nan": float("nan"),
        "inf": np.float32("inf"),
        "int": np.int64(3),
        "bool": np.bool_(True),
        "array": np.array([[1.5, np.nan], [2, 3]]),
        "tuple": (1, 2),
        "set": {"b", "a"},
        "path": Path("a/b"),
        "dtype": np.dtype("u2"),
        "record": _Sample(Path("x"), 0.5),
        "time": datetime(2024, 1, 2, tzinfo=UTC),
        "bytes": b"ab",
        3: None,
    }
    text = dump_json(value)
    assert "NaN" not in text
    assert "Infinity" not in text
    assert text.endswith("\n")
    assert json.loads(text) == {
        "nan": None,
        "inf": None,
        "int": 3,
        "bool": True,
        "array": [[1.5, None], [2.0, 3.0]],
        "tuple": [1, 2],
        "set": ["a", "b"],
        "path": "a/b",
        "dtype": "uint16",
        "record": {"path": "x", "value": 0.5},
        "time": "2024-01-02T00:00:00+00:00",
        "bytes": "ab",
        "3": None,
    }
    with pytest.raises(TypeError, match="a object cannot be written as JSON"):
        to_jsonable(object())


def test_provenance() -> None:
    record = provenance(
        {"target": 0.98, "path": Path("a")},
        [{"path": Path("in.npy"), "fingerprint": "abc"}],
        device="cpu",
        command="stackalign crop in.npy",
        time=datetime(2024, 1, 2, tzinfo=UTC),
    )
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["python"]
    assert record["inputs"] == [{"path": "in.npy", "fingerprint": "abc"}]
    assert record["parameters"] == {"target": 0.98, "path": "a"}
    assert record["device"] == "cpu"
    assert record["time_utc"] == "2024-01-02T00:00:00+00:00"
    json.dumps(record, allow_nan=False)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; give a file name"):
        write_text_atomic(tmp_path, "text")
    assert list(tmp_path.iterdir()) == []
    assert not [p for p in tmp_path.parent.iterdir() if p.name.endswith(".part")]
