"""Use the radius and the window of an earlier crop again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io import StackReader
from stackalign.io._reader import damage_as_data_error

from .config import CroppingConfig
from .flags import set_aside
from .measure import N_MEAN
from .result import CropAnalysis, Flag
from .window import chosen_windows

__all__ = ["results_hash", "reused_analysis"]


def reused_analysis(
    results: Path, reader: StackReader, config: CroppingConfig, *, totals: NDArray[np.float64] | None = None
) -> CropAnalysis:
    """Build an analysis from the results of another crop, without reading the data.

    The radius is that of the earlier crop. Its centres are used pattern by pattern where both stacks have the same scan
    shape; otherwise its median centre is used for every pattern, so that all windows are the same region.

    Parameters
    ----------
    results : Path
        ``*_results.json`` of the earlier crop.
    reader : StackReader
        The stack to be cropped.
    config : CroppingConfig
    totals : numpy.ndarray, optional
        (N,) total of each pattern, once the second pass has measured it.

    Raises
    ------
    DataError
        The file holds no results of a crop, or those of patterns of another size.
    """
    analysis = _load(results)
    frame = (int(reader.info.shape[1]), int(reader.info.shape[2]))
    if tuple(analysis["original_shape"]) != frame:
        height, width = analysis["original_shape"]
        msg = f"{results} is of {height} x {width} patterns, {reader.path} has {frame[0]} x {frame[1]}"
        raise DataError(msg)
    n = reader.info.shape[0]
    centers, note = _centers(results, analysis, reader)
    radius = int(analysis["global_radius"])
    windows = chosen_windows(centers, radius, frame, config)
    total = np.zeros(n) if totals is None else totals
    flags = np.zeros(n, np.uint8)
    if totals is not None:
        flags[~(totals > 0)] |= np.uint8(Flag.EMPTY)
    return CropAnalysis(
        radii=np.full(n, radius, np.int64),
        centers=centers,
        measured_centers=centers,
        total=total,
        minimum=np.full(n, np.nan),
        maximum=np.full(n, np.nan),
        flags=flags,
        excluded=set_aside(flags)[0] if (flags == 0).any() else np.ones(n, np.bool_),
        global_radius=windows.radius,
        window=windows.shape,
        window_before=windows.before,
        original_shape=frame,
        scan_shape=reader.info.scan_shape,
        profiles=(),
        mean_pattern=np.zeros(frame),
        n_mean=max(1, len(range(0, n, max(1, n // N_MEAN)))),
        notes=(note,),
    )


def _centers(results: Path, analysis: dict[str, Any], reader: StackReader) -> tuple[NDArray[np.float64], str]:
    """Centres (N, 2) for the windows, and a note that says which they are."""
    n = reader.info.shape[0]
    earlier = _array(results, analysis, "centers").reshape(-1, 2)
    if tuple(analysis.get("scan_shape", ())) == reader.info.scan_shape and len(earlier) == n:
        return earlier, f"radius and centres are those of {results.name}"
    flagged = np.zeros(len(earlier), np.bool_)
    flagged[_array(results, analysis, "excluded").astype(np.int64)] = True
    usable = earlier[~flagged] if not flagged.all() else earlier
    note = f"radius and median centre are those of {results.name}: one region for all patterns"
    return np.tile(np.median(usable, axis=0), (n, 1)), note


def results_hash(results: Path) -> str:
    """Hash of a results file, by which a resumed run knows that it is the same."""
    try:
        return hashlib.sha256(results.read_bytes()).hexdigest()
    except OSError as error:
        msg = f"{results} cannot be used as an analysis ({error}); give the *_results.json of an earlier crop"
        raise DataError(msg) from error


def _load(results: Path) -> dict[str, Any]:
    try:
        contents = json.loads(results.read_text())
        analysis: dict[str, Any] = contents["analysis"]
        analysis["global_radius"], analysis["original_shape"], analysis["centers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{results} cannot be used as an analysis ({error}); give the *_results.json of an earlier crop"
        raise DataError(msg) from error
    return analysis


def _array(results: Path, analysis: dict[str, Any], key: str) -> NDArray[np.float64]:
    """A per-pattern list of the JSON, or the array beside it that the JSON points to."""
    value = analysis.get(key, [])
    if not isinstance(value, dict):
        return np.asarray(value, np.float64)
    beside = results.with_name(value["file"])
    try:
        # Opened here: NumPy would leave a damaged one open.
        with damage_as_data_error(str(beside), "the analysis"), beside.open("rb") as file, np.load(file) as archive:
            return np.asarray(archive[value["array"]], np.float64)
    except DataError as error:
        msg = f"{results} points to {beside.name}, which cannot be read ({error}); keep both files together"
        raise DataError(msg) from error
