"""Every example of the guide of the script that users have, with nothing but the import line changed."""
# ruff: noqa: T201 -- the examples print

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from stackalign.backends import load
from stackalign.crop import CroppingConfig, DiffractionCropper, create_test_data
from stackalign.errors import BackendUnavailableError, StackalignWarning

PNG = b"\x89PNG\r\n\x1a\n"


def patterns(n=24, size=48, seed=1):
    return create_test_data(n, size, 0.0, seed=seed, radius=0.15)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without a GPU, wherever the tests run."""

    def refuse(name):
        msg = f"no {name} here"
        raise BackendUnavailableError(msg)

    monkeypatch.setattr("stackalign.compat.cropper.load", refuse)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason='needs the extra "torch"')


def strict_json(path):
    def refuse(word):
        raise AssertionError(word)

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def test_quick_start(torch, no_gpu, capsys):
    torch.save(torch.from_numpy(patterns()), "patterns.pt")

    # Load your data
    data = torch.load("patterns.pt")  # Shape: (N, 1, H, W) or (N, H, W)

    # Configure cropping
    config = CroppingConfig(
        target_retention=0.98,  # Target 98% intensity retention
        min_retention=0.95,  # Minimum acceptable retention
        margin_pixels=3,  # Additional pixels around computed radius
        chunk_size=1000,  # Patterns per chunk
        use_gpu=True,  # Enable GPU acceleration
        center_method="centroid",  # Use centroid detection
        visualization=True,  # Enable visualization
        verbose=True,  # Enable detailed output
    )

    # Create cropper and process
    with pytest.warns(StackalignWarning, match="use_gpu=True, but no cuda here; going on with the CPU"):
        cropper = DiffractionCropper(config)
    cropped_data, results = cropper.process_dataset(data, save_path="cropped_patterns.pt")

    # Results contain analysis, validation, and timing information
    print(f"Size reduction: {(1 - cropped_data.numel() / data.numel()):.1%}")
    print(f"Mean retention: {results['validation']['mean_retention']:.3f}")

    assert isinstance(cropped_data, torch.Tensor)
    assert cropped_data.dtype == torch.float32
    assert cropped_data.shape == (24, 1, *results["analysis"]["cropped_shape"])
    assert cropped_data.numel() < data.numel()
    assert torch.equal(torch.load("cropped_patterns.pt"), cropped_data)
    assert Path("cropped_patterns_visualization.png").read_bytes().startswith(PNG)
    assert strict_json("cropped_patterns_results.json")["analysis"]["n_patterns"] == 24
    assert results["validation"]["min_retention"] >= 0.98
    printed = capsys.readouterr().out
    assert "analysing 24 patterns of 48 x 48" in printed
    assert "retention mean" in printed
    assert sorted(p.name for p in Path().iterdir()) == [
        "cropped_patterns.pt",
        "cropped_patterns_results.json",
        "cropped_patterns_visualization.png",
        "patterns.pt",
    ]


def test_defaults_are_those_of_the_table():
    config = CroppingConfig()
    assert (config.target_retention, config.min_retention, config.margin_pixels, config.chunk_size) == (
        0.98,
        0.95,
        3,
        1000,
    )
    assert (config.use_gpu, config.center_method, config.manual_center) == (False, "centroid", None)
    assert (config.visualization, config.verbose) == (True, True)
    assert CroppingConfig(0.97, 0.9, 2, 10, False, "center", None, False, False).margin_pixels == 2


def test_manual_center():
    config = CroppingConfig(
        center_method="manual",
        manual_center=(128, 128),  # Center at (y=128, x=128)
        verbose=False,
        visualization=False,
    )
    data = create_test_data(3, 256, 0.0, seed=2, radius=0.1)
    cropped_data, results = DiffractionCropper(config).process_dataset(data)
    assert results["analysis"]["centers"] == [(128.0, 128.0)] * 3
    height, width = results["analysis"]["cropped_shape"]
    top, left = 128 - results["analysis"]["window_before"][0], 128 - results["analysis"]["window_before"][1]
    np.testing.assert_array_equal(cropped_data, data[:, :, top : top + height, left : left + width])


@pytest.mark.parametrize("with_torch", [False, True])
def test_step_by_step(with_torch, request, capsys):
    data = patterns()
    if with_torch:
        data = request.getfixturevalue("torch").from_numpy(data)
    cropper = DiffractionCropper()

    # Step 1: Analysis pass
    analysis_results = cropper.analyze_patterns(data)
    print(f"Global radius: {analysis_results['global_radius']}")

    # Step 2: Cropping pass
    cropped_data = cropper.crop_patterns(data, analysis_results)

    # Step 3: Validation
    validation_results = cropper.validate_retention(data, cropped_data, analysis_results)
    print(f"Mean retention: {validation_results['mean_retention']:.3f}")

    # Step 4: Visualization
    figure = cropper.visualize_results(data, cropped_data, analysis_results, save_path="visualization.png")

    assert Path("visualization.png").read_bytes().startswith(PNG)
    assert len(figure.axes) >= 6
    whole, results = cropper.process_dataset(data)
    assert type(whole) is type(cropped_data)
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(cropped_data))
    assert results["analysis"] == analysis_results
    validation = results["validation"]
    np.testing.assert_allclose(validation.pop("retentions"), validation_results.pop("retentions"), rtol=1e-14)
    assert validation == pytest.approx(validation_results, rel=1e-12)
    assert Path("visualization.png").stat().st_size > 10_000
    assert [p.name for p in Path().iterdir()] == ["visualization.png"]


def test_memory_optimization(no_gpu):
    config = CroppingConfig(
        chunk_size=500,  # Smaller chunks for memory efficiency
        use_gpu=True,  # GPU acceleration
        visualization=False,  # Disable visualization to save memory
    )
    with pytest.warns(StackalignWarning):
        cropper = DiffractionCropper(config)
    cropper.process_dataset(patterns(), save_path=Path("out.npy"))
    assert sorted(p.name for p in Path().iterdir()) == ["out.npy", "out_results.json"]


def test_gpu_check(no_gpu, capsys):
    config = CroppingConfig(use_gpu=True)
    with pytest.warns(StackalignWarning):
        cropper = DiffractionCropper(config)

    # Check if GPU is available
    if cropper.config.use_gpu:
        print("GPU acceleration enabled")
    else:
        print("GPU acceleration not available, using CPU")

    assert capsys.readouterr().out == "GPU acceleration not available, using CPU\n"
    assert cropper.config.use_gpu is False
    assert cropper.config.device == "cpu"


def test_gpu_check_on_this_machine():
    try:
        load("cuda")
        there = True
    except BackendUnavailableError:
        there = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cropper = DiffractionCropper(CroppingConfig(use_gpu=True))
    assert cropper.config.use_gpu == there
    assert cropper.config.device == ("cuda" if there else "cpu")
    assert [w.category for w in caught] == ([] if there else [StackalignWarning])


def test_synthetic_test_data():
    test_data = create_test_data(n_patterns=10, image_size=256, noise_level=0.1)
    assert test_data.shape == (10, 1, 256, 256)


def test_validation_checks(capsys):
    config = CroppingConfig(verbose=False, visualization=False)
    _, results = DiffractionCropper(config).process_dataset(patterns())
    validation = results["validation"]

    # Check if quality requirements are met
    if validation["min_retention"] >= config.min_retention:
        print("✓ Quality requirements met")
    else:
        print("⚠ Quality requirements not met")
        print(f"  Min retention: {validation['min_retention']:.3f}")
        print(f"  Required: {config.min_retention:.3f}")

    assert capsys.readouterr().out == "✓ Quality requirements met\n"


def test_integration(torch):
    torch.save(torch.from_numpy(patterns()), "original_patterns.pt")

    # Before training
    data = torch.load("original_patterns.pt")

    # Crop patterns
    cropper = DiffractionCropper(CroppingConfig(target_retention=0.98))
    cropped_data, _ = cropper.process_dataset(data, save_path="cropped_patterns.pt")

    assert torch.equal(torch.load("cropped_patterns.pt", weights_only=True), cropped_data)


def test_large_dataset(torch, no_gpu):
    large_data = torch.from_numpy(patterns(200, 32))
    config = CroppingConfig(
        target_retention=0.98,
        chunk_size=50,  # Smaller chunks
        use_gpu=True,  # GPU acceleration
        visualization=False,  # Save memory
    )

    with pytest.warns(StackalignWarning):
        cropper = DiffractionCropper(config)
    cropped_data, results = cropper.process_dataset(large_data, save_path="large_dataset_cropped.pt")

    print(f"Size reduction: {(1 - cropped_data.numel() / large_data.numel()):.1%}")
    assert results["size_saved"] == pytest.approx(1 - cropped_data.numel() / large_data.numel())
    whole, _ = DiffractionCropper(CroppingConfig(visualization=False)).process_dataset(large_data)
    assert torch.equal(cropped_data, whole)


def test_quality_focused():
    data = patterns()
    # For high-quality requirements
    config = CroppingConfig(
        target_retention=0.99,  # Higher retention
        min_retention=0.97,  # Stricter minimum
        margin_pixels=5,  # Larger margin
        center_method="centroid",  # Precise centering
    )

    cropper = DiffractionCropper(config)
    cropped_data, results = cropper.process_dataset(data)

    # Verify quality
    validation = results["validation"]
    assert validation["min_retention"] >= 0.97, "Quality requirements not met"
    assert isinstance(cropped_data, np.ndarray)
    assert list(Path().iterdir()) == []


def test_batch_of_files(torch, capsys):
    input_dir = Path("input_patterns")
    input_dir.mkdir()
    for k in range(3):
        torch.save(torch.from_numpy(patterns(8, 40, seed=k)), input_dir / f"scan{k}.pt")

    output_dir = Path("cropped_patterns")
    output_dir.mkdir(exist_ok=True)

    config = CroppingConfig(target_retention=0.98, verbose=False)
    cropper = DiffractionCropper(config)

    for input_file in input_dir.glob("*.pt"):
        print(f"Processing {input_file.name}...")

        data = torch.load(input_file)
        output_file = output_dir / f"cropped_{input_file.name}"

        cropped_data, results = cropper.process_dataset(data, save_path=output_file)

        print(f"  Size reduction: {(1 - cropped_data.numel() / data.numel()):.1%}")
        print(f"  Mean retention: {results['validation']['mean_retention']:.3f}")

    assert sorted(p.name for p in output_dir.iterdir()) == sorted(
        f"cropped_scan{k}{ending}" for k in range(3) for ending in (".pt", "_results.json", "_visualization.png")
    )
    assert len(capsys.readouterr().out.splitlines()) == 9  # nothing but the lines above
