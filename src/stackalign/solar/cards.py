"""The cards that a correction leaves in a header."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.io.provenance import provenance as package_provenance

from .pixels import PixelTransform
from .same_observation import header_of
from .versions import solar_versions
from .wcs import corrected_header

__all__ = ["correct_hdu", "facts_of", "facts_on"]

_CARDS = {
    "XC_DX": ("shift_x", "[pix] correction, shift along x"),
    "XC_DY": ("shift_y", "[pix] correction, shift along y"),
    "XC_A11": ("a11", "correction matrix, x from x"),
    "XC_A12": ("a12", "correction matrix, x from y"),
    "XC_A21": ("a21", "correction matrix, y from x"),
    "XC_A22": ("a22", "correction matrix, y from y"),
    "XC_SX": ("sx", "correction, scale along x"),
    "XC_SY": ("sy", "correction, scale along y"),
    "XC_ROT": ("angle", "[deg] correction, rotation from +x to +y"),
    "XC_SIGX": ("sigma_x", "[pix] standard error of the shift along x"),
    "XC_SIGY": ("sigma_y", "[pix] standard error of the shift along y"),
    "XC_CORR": ("score", "correlation with the reference"),
    "XC_REF": ("reference", "reference image"),
}
"""Cards that a correction leaves, what they are called in `provenance`, and their comments."""


def _ascii(text: str) -> str:
    """Text as a card takes it."""
    return text.encode("ascii", "replace").decode()


def facts_on(
    correction: PixelTransform,
    own: tuple[tuple[int, ...], FloatArray],
    aligned: tuple[tuple[int, ...], FloatArray],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The cards for an image, whose error bars are in its own pixels."""
    facts = facts_of(correction, own, provenance)
    lengths = [np.hypot(*grid[1][2:6].reshape(2, 2)) for grid in (aligned, own)]
    for i, key in enumerate(("sigma_x", "sigma_y")):
        if isinstance(facts.get(key), float):
            facts[key] = facts[key] * float(lengths[0][i] / lengths[1][i])
    return facts


def facts_of(
    correction: PixelTransform, grid: tuple[tuple[int, ...], FloatArray], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """What the cards say of a correction on an image of that grid."""
    (nx, ny), _ = grid
    shift = correction.shift_at([(nx - 1) / 2, (ny - 1) / 2])
    (a11, a12), (a21, a22) = correction.matrix
    own = {"shift_x": shift[0], "shift_y": shift[1], "a11": a11, "a12": a12, "a21": a21, "a22": a22}
    own |= {"sx": np.hypot(a11, a21), "sy": np.hypot(a12, a22), "angle": np.rad2deg(np.arctan2(a21, a11))}
    return {key: float(value) for key, value in own.items()} | dict(provenance)


def correct_hdu(one: Any, correction: PixelTransform, facts: Mapping[str, Any], old: str, new: str) -> None:
    """Correct the header of an HDU, and leave the cards and the history of that."""
    header = header_of(one)
    prefix = "ZNAXIS" if "ZNAXIS" in header else "NAXIS"
    before = {key: header[key] for key in header if key[:5] in ("CRPIX", "CRVAL", "CDELT") or key[:2] in ("PC", "CD")}
    before = {key: value for key, value in before.items() if key[-1].isdigit() and isinstance(value, (int, float))}
    fixed = corrected_header(header, correction, shape=(int(header[f"{prefix}2"]), int(header[f"{prefix}1"])))
    for key in [key for key in before if key not in fixed]:
        del header[key]
    for key in fixed:
        if key in ("COMMENT", "HISTORY", "", "CONTINUE"):
            continue
        if key not in header or header[key] != fixed[key]:
            header[key] = fixed[key]
    versions = package_provenance({}, [])["versions"]
    number = int(header.get("XC_N") or 0) + 1
    now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    for card, (key, comment) in _CARDS.items():
        if facts.get(key) is not None:
            header[card] = (_ascii(facts[key]) if isinstance(facts[key], str) else float(facts[key]), comment)
    header["XC_N"] = (number, "corrections applied, the last one above")
    header["XC_VERS"] = (f"stackalign {versions['stackalign']}", "software of the correction")
    header["XC_DATE"] = (now, "[UTC] date of the correction")
    parent = _ascii(str(header.get("FILENAME") or old))
    header["PARENT"] = (parent, "file that was corrected")
    if "FILENAME" in header:
        header["FILENAME"] = _ascii(new)
    header.add_history(
        f"stackalign {versions['stackalign']}: correction {number} of the coordinates, {now} UTC, of {parent}"
    )
    header.add_history(
        "p = A (q - c) + c + d for the pixel q about the middle c of the image: XC_A11..A22, XC_DX, XC_DY"
    )
    header.add_history("coordinates by " + ", ".join(f"{name} {number}" for name, number in solar_versions().items()))
    header.add_history("before: " + ", ".join(f"{key} = {value!r}" for key, value in before.items()))
    for key in sorted(set(facts) - {key for key, _ in _CARDS.values()}):
        header.add_history(_ascii(f"{key} = {facts[key]}"))
    header.remove("ZHECKSUM", ignore_missing=True)  # of the uncompressed HDU, whose header is no longer that
    one.add_checksum()
