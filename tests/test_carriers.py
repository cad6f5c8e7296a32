"""Whatever carries an array is taken with the same answer, or refused in one sentence, at every public door.

What carries a mask is the subject of test_masked_inputs.py, whose table of doors this is as well.
"""

import dataclasses
import importlib
import inspect
import re
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stackalign as sa
from further_doors import FURTHER, Door
from stackalign.errors import StackalignError
from test_masked_inputs import DOORS, IMAGE

STACKS = ("register_stack", "crop_array")
ALL = {
    name: Door(call, IMAGE[None] if name in STACKS else IMAGE, images=True) for name, call in DOORS.items()
} | FURTHER


class ArrayLike:
    """What has ``__array__`` alone, as tables and lazy arrays of other packages have."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype)


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


def strided(values: np.ndarray) -> np.ndarray:
    """The same values behind negative and wide strides."""
    wide = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
    wide[..., ::2] = values
    return np.flip(np.flip(wide[..., ::2], -1).copy(), -1)


def torch_tensor(values: np.ndarray) -> Any:
    return pytest.importorskip("torch", reason="tensors need torch").from_numpy(values.copy())


def torch_leaf(values: np.ndarray) -> Any:
    """A tensor that gradients are wanted of, as a network's output is."""
    tensor = torch_tensor(values)
    return tensor.requires_grad_() if values.dtype.kind == "f" else tensor


def dask_array(values: np.ndarray) -> Any:
    return pytest.importorskip("dask.array", reason="needs dask").from_array(values, chunks=3)


def quantity(values: np.ndarray) -> Any:
    units = pytest.importorskip("astropy.units", reason="needs astropy")
    return (
        values * units.dimensionless_unscaled
        if values.dtype.kind == "f"
        else units.Quantity(values, dtype=values.dtype)
    )


def nddata(values: np.ndarray) -> Any:
    return pytest.importorskip("astropy.nddata", reason="needs astropy").NDData(values)


def ccddata(values: np.ndarray) -> Any:
    return pytest.importorskip("astropy.nddata", reason="needs astropy").CCDData(values, unit="adu")


def data_array(values: np.ndarray) -> Any:
    return pytest.importorskip("xarray", reason="needs xarray").DataArray(values)


CARRIERS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda values: values.tolist(),
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "__array__": ArrayLike,
    "numpy.ma without a mask": np.ma.array,
    "torch": torch_tensor,
    "torch with gradients": torch_leaf,
    "dask": dask_array,
    "Quantity": quantity,
    "NDData": nddata,
    "CCDData": ccddata,
    "xarray": data_array,
}
SENTENCES = (TypeError, ValueError, StackalignError)
OF_PYTHON = re.compile(
    r"object has no|object is not|bad operand|argument must be|ufunc '|to unpack|unsized|could not convert|"
    r"cannot be broadcast|Can't call"
)
"""Words of Python and of NumPy that tell a user of this package nothing."""
FLAT = ("numbers", "time", "seconds", "provenance", "input_name")


def numbers_of(result: Any) -> list[np.ndarray]:
    """All numbers of an answer, in order, without how long it took and what its input was called."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        fields = [f.name for f in dataclasses.fields(result) if "time" not in f.name and f.name not in FLAT]
        return [array for name in fields for array in numbers_of(getattr(result, name))]
    if isinstance(result, np.ndarray):
        return [result] if result.dtype.kind in "buifc" else []
    if isinstance(result, (list, tuple, sa.RegistrationStack)):
        return [array for item in result for array in numbers_of(item)]
    if isinstance(result, (bool, int, float, np.number)):
        return [np.asarray(result)]
    if type(result).__module__.partition(".")[0] == "torch":
        return [result.detach().numpy()]
    return []


def said(error: Exception) -> bool:
    """Whether an error is one sentence of this package."""
    text = str(error)
    return isinstance(error, SENTENCES) and "\n" not in text and len(text) > 20 and not OF_PYTHON.search(text)


def other_answer(door: Door, carried: Any, expected: list[np.ndarray]) -> str:
    """What is wrong with an answer, or with an error; nothing where it is the same, or one sentence."""
    try:
        answer = numbers_of(door.call(carried))
    except Exception as error:
        return "" if said(error) else f"{type(error).__name__}: {error}"
    alike = len(answer) == len(expected) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)
        for a, b in zip(answer, expected, strict=True)
    )
    return "" if alike else "another answer"


@pytest.mark.parametrize("name", ALL)
def test_same_answer_or_one_sentence(name: str) -> None:
    door = ALL[name]
    failures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = numbers_of(door.call(door.value.copy()))
        assert expected or name in WITHOUT_NUMBERS
        for carrier, make in CARRIERS.items():
            if name.startswith("plot.") and carrier not in FOR_PICTURES:
                continue
            try:
                carried = make(door.value)
            except pytest.skip.Exception:
                continue
            before = door.value.copy()
            failures += [f"{carrier}: {text}" for text in [other_answer(door, carried, expected)] if text]
            np.testing.assert_array_equal(door.value, before)
    assert not failures, "\n".join(failures)


def test_masks_are_not_lost_at_further_doors() -> None:
    """Those of test_masked_inputs.py are tested there."""
    lost = []
    for name, door in FURTHER.items():
        hidden = np.zeros(door.value.shape, np.bool_)
        hidden.flat[-1] = True
        for carried in (np.ma.array(door.value, mask=hidden), types.SimpleNamespace(data=door.value, mask=hidden)):
            try:
                numbers = numbers_of(door.call(carried))
            except Exception as error:
                lost += [] if said(error) else [f"{name}: {type(error).__name__}: {error}"]
            else:
                plain = numbers_of(door.call(door.value))
                same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(numbers, plain, strict=False))
                lost += [f"{name}: the mask is lost"] if same else []
    assert not lost, "\n".join(lost)


FOR_PICTURES = ("list", "big-endian", "torch with gradients", "NDData", "xarray")
"""A picture costs more than what it shows: those that one conversion would treat differently."""

WITHOUT_NUMBERS = {"device_of", "synchronize"}
"""Functions whose answer is a name, or nothing."""

MODULES = {
    "": "stackalign",
    "crop.": "stackalign.crop",
    "diffraction.": "stackalign.diffraction",
    "registration.": "stackalign.registration",
    "refine.": "stackalign.refine",
    "solar.": "stackalign.solar",
    "io.": "stackalign.io",
    "drift.": "stackalign.drift",
    "chunks.": "stackalign.chunks",
    "optimize.": "stackalign.optimize",
    "transforms.": "stackalign.transforms",
    "device.": "stackalign.device",
    "plot.": "stackalign.plot",
    "bench.": "stackalign.bench",
    "hyperspy.": "stackalign.hyperspy",
    "napari.": "stackalign.napari",
    "skued.": "stackalign.compat.skued",
    "coaligner.": "stackalign.compat.coaligner",
}
"""All public modules of functions, by the first word of their rows."""

NO_ARRAYS = {
    "files and paths": """
        crop.is_complete diffraction.center_file diffraction.diffread diffraction.mask_file diffraction.nfold_file
        diffraction.peaks_file diffraction.profile_file diffraction.read_centers drift.drift_file drift.load_drift_file
        io.is_sidecar io.open io.open_stack io.read_image io.read_mask io.region_alignment io.create_stack
        refine.load_config refine.read_dat refine.refine_file refine.refine_files solar.read_map solar.read_maps
        solar.read_window solar.spectral_windows solar.get_EUI_paths solar.write_corrected coaligner.get_EUI_paths
        napari.get_reader napari.read skued.diffread skued.dmread skued.imibread skued.mibheader skued.mibread
        bench.save bench.write_report""",
    "numbers and words": """
        warmup crop.create_test_data crop.iter_test_data diffraction.create_test_pattern registration.create_test_pair
        registration.random_scene drift.create_test_series transforms.identity solar.create_test_observation
        refine.high_pass refine.log1p device.available_memory device.default_memory_limit device.default_workers
        device.format_bytes device.parse_bytes device.parse_device device.within_limit device.working
        solar.register_with_sunkit_image bench.run_benchmarks""",
    "calls and readers": "chunks.map_halving chunks.read_chunks bench.take_turns solar.local_transform",
    "a prepared pair, a simulator or a table of results": """
        shift_table refine.find_orientation refine.thermal_absorption bench.compare bench.markdown""",
    "maps and headers, through solar.as_map": """
        solar.arcsec_per_pixel solar.bin_factors solar.bin_map solar.blink_maps
        solar.build_corrected_wcs_meta_scale_shift solar.build_synthetic_raster
        solar.build_synthetic_raster_from_maps solar.coalign solar.column_times solar.correct_map
        solar.corrected_header solar.find_original_correction solar.make_corrected_wcs_map solar.observation_time
        solar.pixel_mapping solar.plan_synthetic_raster solar.plot_alignment_before_after solar.regridded_header
        solar.repair_header solar.repair_map solar.reproject_map solar.reproject_map_to_reference solar.step_arcsec
        solar.transfer_correction solar.write_map plot.blink_maps plot.plot_map plot.plot_alignment_before_after
        plot.plot_shift_map""",
    "signals of HyperSpy; see neighbours/test_signals.py": """
        hyperspy.align hyperspy.azimuthal_average hyperspy.crop hyperspy.reader_of""",
    "arrays of sunkit-image; see solar/test_sunkit.py": "solar.sunkit_coalign",
    "results": """
        plot.correlation_with_iteration plot.crop_choice_figure plot.crop_examples_figure plot.crop_figure
        plot.drift_figure plot.plot_center_drift plot.plot_column_times plot.plot_correlations plot.plot_cumulative
        plot.plot_drift plot.plot_history_scatter plot.plot_mean_pattern plot.plot_mean_window plot.plot_parameters
        plot.plot_persistence plot.plot_polar plot.plot_position_map plot.plot_profile plot.plot_radius_histogram
        plot.plot_retention_map plot.plot_saved_by_percentile plot.plot_scan_image plot.plot_scores plot.plot_zones
        plot.refinement_figure plot.save_crop_figure plot.save_registration_figure plot.write_batch_report
        plot.write_coalignment_report plot.write_crop_report plot.write_diffraction_report plot.write_drift_report
        plot.write_refinement_report plot.write_registration_report solar.correlation_with_iteration
        solar.plot_history_scatter""",
}
"""Public functions that take no arrays of the caller's, by what they take instead."""


def test_every_public_function_has_a_row() -> None:
    """A new one is in the table of doors, or takes no arrays for a reason that is written down."""
    rows = {name.partition(" ")[0] for name in ALL}
    rows |= {f"{prefix}{name}" for name in rows if "." not in name for prefix in MODULES}  # one function, two homes
    rows |= {f"solar.{name.removeprefix('coaligner.')}" for name in rows if name.startswith("coaligner.")}
    listed = {name for names in NO_ARRAYS.values() for name in names.split()}
    missing, known = [], set()
    for prefix, module in MODULES.items():
        try:
            home = importlib.import_module(module)
            functions = {name for name in home.__all__ if inspect.isfunction(getattr(home, name))}
        except ImportError:  # solar without sunpy
            continue
        known |= {f"{prefix}{name}" for name in functions}
        missing += [f"{prefix}{name}" for name in sorted(functions) if f"{prefix}{name}" not in rows | listed]
    assert missing == []
    assert [name for name in sorted(listed) if name not in known and not name.startswith("solar.")] == []
