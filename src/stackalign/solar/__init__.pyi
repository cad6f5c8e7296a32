from .archive import get_EUI_paths
from .binning import bin_factors, bin_map
from .coalign import coalign
from .coalign_result import CoalignmentResult
from .coaligner import Coaligner
from .columns import column_times
from .correct import (
    build_corrected_wcs_meta_scale_shift,
    correct_map,
    find_original_correction,
    make_corrected_wcs_map,
    transfer_correction,
)
from .directions import arcsec_per_pixel, step_arcsec
from .fitsfile import WrittenFile, write_corrected, write_map
from .flags import FLAGS
from .frames import observation_time
from .mapping import local_transform, pixel_mapping
from .phase_result import PhaseResult
from .pictures import (
    blink_maps,
    correlation_with_iteration,
    plot_alignment_before_after,
    plot_history_scatter,
)
from .pixels import PixelTransform
from .plan import RasterPlan, plan_synthetic_raster
from .raster import SyntheticRaster, build_synthetic_raster, build_synthetic_raster_from_maps
from .reading import as_map, read_map, read_maps
from .repair import repair_header, repair_map
from .reprojection import reproject_map, reproject_map_to_reference
from .search import correlation_for_params, optimize_alignment_local_grad_disc_persworkers
from .spice import CollapsedWindow, WindowInfo, collapse_window, read_window, spectral_windows
from .sunkit import register_with_sunkit_image, sunkit_coalign
from .testdata import TestObservation, create_test_observation
from .valid import valid_mask
from .wcs import corrected_header, regridded_header

__all__ = [
    "FLAGS",
    "Coaligner",
    "CoalignmentResult",
    "CollapsedWindow",
    "PhaseResult",
    "PixelTransform",
    "RasterPlan",
    "SyntheticRaster",
    "TestObservation",
    "WindowInfo",
    "WrittenFile",
    "arcsec_per_pixel",
    "as_map",
    "bin_factors",
    "bin_map",
    "blink_maps",
    "build_corrected_wcs_meta_scale_shift",
    "build_synthetic_raster",
    "build_synthetic_raster_from_maps",
    "coalign",
    "collapse_window",
    "column_times",
    "correct_map",
    "corrected_header",
    "correlation_for_params",
    "correlation_with_iteration",
    "create_test_observation",
    "find_original_correction",
    "get_EUI_paths",
    "local_transform",
    "make_corrected_wcs_map",
    "observation_time",
    "optimize_alignment_local_grad_disc_persworkers",
    "pixel_mapping",
    "plan_synthetic_raster",
    "plot_alignment_before_after",
    "plot_history_scatter",
    "read_map",
    "read_maps",
    "read_window",
    "register_with_sunkit_image",
    "regridded_header",
    "repair_header",
    "repair_map",
    "reproject_map",
    "reproject_map_to_reference",
    "spectral_windows",
    "step_arcsec",
    "sunkit_coalign",
    "transfer_correction",
    "valid_mask",
    "write_corrected",
    "write_map",
]
