"""From inputs to outputs, before any work."""

from pathlib import Path

import pytest

from stackalign.cli._plan import plan_jobs
from stackalign.errors import DataError


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of somebody")
    inputs = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    for name in inputs:
        Path(name).touch()
    with pytest.raises(DataError, match=r"output folder .*out cannot be made \(Not a directory\)"):
        plan_jobs(inputs, tmp_path / "file" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy", "file"]
