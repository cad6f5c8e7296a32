"""How files that a configuration names are opened: not outside their folder, and not for ever."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from cli.runner import run
from refine.configuration import HKL, write_config
from stackalign.errors import DataError
from stackalign.refine import config as module
from stackalign.refine import load_config, refine_file, refine_files


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Its images are a link to a file beside its folder."""
    folder = tmp_path / "inside"
    folder.mkdir()
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["d"] = np.random.default_rng(0).poisson(30, (4, 48, 48)).astype(np.float32)
    with h5py.File(folder / "disks.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "/d")
    np.savez(folder / "disks.npz", images=np.zeros(1))  # so that none are simulated
    inline = str([list(hkl) for hkl in HKL])
    return write_config(folder, None, ("disks.npz", "disks.h5"), ('reflections = "hkl"', f"reflections = {inline}"))


def test_outside_of_the_folder(config: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which lies outside the folder of") as refused:
        load_config(config)
    assert refused.value.hint == "external"
    ran = run("refine", config)
    assert ran.code == 1
    assert "--allow-external" in ran.err
    loaded = load_config(config, allow_external=True)
    with h5py.File(tmp_path / "outside.h5") as file:
        np.testing.assert_array_equal(loaded.refiner.data.images, file["d"][...])


@pytest.mark.parametrize("words", [(), ("--allow-external", "--read-timeout", 7)])
def test_options_reach_the_reader(words: tuple, config: Path, tmp_path: Path, monkeypatch) -> None:
    """Of one configuration, and of several."""
    asked = []

    def refuse(path: Path, **how) -> None:
        asked.append({name: how.get(name) for name in ("allow_external", "read_timeout")})
        message = "not opened"
        raise DataError(message)

    monkeypatch.setattr(module, "open_images", refuse)
    (config.parent / "other.toml").write_text(config.read_text())
    assert run("refine", config, *words).code == 1
    assert run("refine", config, config.parent / "other.toml", "-o", tmp_path / "out", *words).code == 1
    assert asked == [{"allow_external": bool(words), "read_timeout": 7.0 if words else None}] * 3
    asked.clear()
    options = {"allow_external": True, "read_timeout": 3.0}
    with pytest.raises(DataError, match="not opened"):
        refine_file(config, tmp_path / "a.json", **options)
    assert refine_files([config], tmp_path, **options)[0].status == "failed"
    assert asked == [options] * 2
