"""The tutorials run, as `make docs` runs them."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
NEEDS = {
    "coalign_raster": ("sunpy", "matplotlib"),
    "benchmark_machine": (),
    "laptop_to_cluster": ("distributed",),
    "crop_and_train": ("torch", "matplotlib"),
}
EXPECTED = {
    "align_drifting_stack": ("the score", "ok: True"),
    "benchmark_machine": ("same radii: True",),
    "coalign_raster": ("flags: none", "off by 0.0 s and 0.0"),
    "crop_and_train": ("status: done", "epoch 3"),
    "crystal_thickness": ("flags: none",),
    "diffraction_pattern": ("by pairs", "flags: none"),
    "laptop_to_cluster": ("already finished: done",),
    "own_objective": ("best of the grid: [[ 2. -1.  3.]]",),
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_tutorial_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in NEEDS.get(path.stem, ("matplotlib",)):
        pytest.importorskip(package)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    namespace = runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    for words in EXPECTED[path.stem]:
        assert words in printed, printed
    if path.stem == "laptop_to_cluster":
        hashes = {line.split()[1] for line in printed.splitlines() if line.startswith(("threads:", "cluster:"))}
        assert len(hashes) == 1
    if "matplotlib" in NEEDS.get(path.stem, ("matplotlib",)):
        import matplotlib.pyplot as plt

        plt.close("all")
    assert namespace
