from .binning import bin_factors, bin_map
from .correct import (
    build_corrected_wcs_meta_scale_shift,
    correct_map,
    find_original_correction,
    make_corrected_wcs_map,
    transfer_correction,
)
from .frames import local_transform, observation_time, pixel_mapping, step_arcsec
from .headers import as_map, read_map, read_maps, repair_header, repair_map, valid_mask
from .pixels import PixelTransform
from .reprojection import reproject_map, reproject_map_to_reference
from .search import correlation_for_params, optimize_alignment_local_grad_disc_persworkers
from .wcs import corrected_header, regridded_header

__all__ = [
    "PixelTransform",
    "as_map",
    "bin_factors",
    "bin_map",
    "build_corrected_wcs_meta_scale_shift",
    "correct_map",
    "corrected_header",
    "correlation_for_params",
    "find_original_correction",
    "local_transform",
    "make_corrected_wcs_map",
    "observation_time",
    "optimize_alignment_local_grad_disc_persworkers",
    "pixel_mapping",
    "read_map",
    "read_maps",
    "regridded_header",
    "repair_header",
    "repair_map",
    "reproject_map",
    "reproject_map_to_reference",
    "step_arcsec",
    "transfer_correction",
    "valid_mask",
]
