"""What `DiffractionCropper` returns and writes: the keys, types and files that scripts rely on."""

import json
from pathlib import Path

import numpy as np
import pytest

from stackalign.crop import CroppingConfig, DiffractionCropper, create_test_data
from stackalign.errors import DataError, OutputExistsError


def patterns(n=24, size=48, seed=1):
    return create_test_data(n, size, 0.0, seed=seed, radius=0.15)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def strict_json(path):
    def refuse(word):
        raise AssertionError(word)

    return json.loads(Path(path).read_text(), parse_constant=refuse)


ANALYSIS = {
    "global_radius": int,
    "retention_radii": list,
    "retention_stats": dict,
    "centers": list,
    "original_shape": tuple,
    "cropped_shape": tuple,
    "n_patterns": int,
    "sample_profiles": list,
}
VALIDATION = {
    "mean_retention": float,
    "min_retention": float,
    "max_retention": float,
    "std_retention": float,
    "median_retention": float,
    "passes_min_threshold": int,
    "passes_target_threshold": int,
    "n_patterns": int,
    "retentions": np.ndarray,
}


def test_results_structure():
    config = CroppingConfig(verbose=False)
    _, results = DiffractionCropper(config).process_dataset(patterns(), save_path="output.npy")
    assert set(results) >= {"analysis", "validation", "processing_time", "config"}
    assert results["config"] == config
    assert isinstance(results["config"], CroppingConfig)
    assert isinstance(results["processing_time"], float)
    assert {key: type(results["analysis"][key]) for key in ANALYSIS} == ANALYSIS
    assert {key: type(results["validation"][key]) for key in VALIDATION} == VALIDATION
    analysis = results["analysis"]
    assert set(analysis["retention_stats"]) == {"mean", "std", "min", "max", "median"}
    radii = np.array(analysis["retention_radii"])
    assert analysis["retention_stats"]["std"] == radii.std()
    assert analysis["retention_stats"]["median"] == np.median(radii)
    assert analysis["global_radius"] == radii.max() + 3
    assert analysis["original_shape"] == (48, 48)
    assert analysis["n_patterns"] == len(analysis["centers"]) == len(radii) == 24
    assert len(analysis["sample_profiles"]) == 10
    for profile in analysis["sample_profiles"]:
        assert set(profile) >= {"radii", "cumulative", "center", "retention_radius"}
        assert len(profile["radii"]) == len(profile["cumulative"])
        reached = np.flatnonzero(np.array(profile["cumulative"]) >= 0.98)[0]
        assert profile["radii"][reached] == profile["retention_radius"]
    share = results["validation"]["retentions"]
    assert results["validation"]["mean_retention"] == share.mean()
    assert results["validation"]["passes_min_threshold"] == (share >= 0.95).sum() == 24

    # The three files of the page, and the same in the JSON
    assert sorted(p.name for p in Path().iterdir()) == [
        "output.npy",
        "output_results.json",
        "output_visualization.png",
    ]
    stored = strict_json("output_results.json")
    assert set(stored) >= {"analysis", "validation", "processing_time", "config"}
    assert stored["config"]["target_retention"] == 0.98
    assert set(stored["analysis"]) >= set(ANALYSIS)
    assert stored["analysis"]["retention_radii"] == radii.tolist()
    assert stored["validation"]["retentions"] == share.tolist()


def test_save_path_is_checked_before_the_work_and_its_folder_made():
    data = patterns(4, 24)
    cropper = DiffractionCropper(CroppingConfig(verbose=False, visualization=False))
    with pytest.raises(DataError, match=r"output out\.tif has no known extension; known are \.npy"):
        cropper.process_dataset(data, save_path="out.tif")
    Path("folder.npy").mkdir()
    with pytest.raises(OutputExistsError, match="is a folder"):
        cropper.process_dataset(data, save_path="folder.npy")
    for name in ("new/deep/out.npy", Path("new/out.npy"), "new/out.zarr"):
        cropped, _ = cropper.process_dataset(data, save_path=name)
        cropper.process_dataset(data, save_path=name)  # an existing output is replaced, as it was
    np.testing.assert_array_equal(np.load("new/out.npy"), cropped)
    results = ["out_results.json", "out_zarr_results.json"]  # two outputs of one stem have their own
    assert sorted(p.name for p in Path("new").iterdir()) == ["deep", "out.npy", "out.zarr", *results]


def test_steps_refuse_what_does_not_belong_together():
    data = patterns(6, 24)
    cropper = DiffractionCropper(CroppingConfig(verbose=False))
    analysis = cropper.analyze_patterns(data)
    with pytest.raises(DataError, match="the data have 5 patterns, the analysis 6: they do not belong together"):
        cropper.crop_patterns(data[:5], analysis)
    cropped = cropper.crop_patterns(data, analysis)
    with pytest.raises(DataError, match="the data have 6 patterns, the cropped data 5"):
        cropper.validate_retention(data, cropped[:5], analysis)
