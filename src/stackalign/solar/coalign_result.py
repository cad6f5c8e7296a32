"""What a coalignment found, and the way to corrected files."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from sunpy.map import GenericMap

from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.io.provenance import to_jsonable

from .correct import correct_map
from .detectors import DetectorFit
from .directions import arcsec_per_pixel
from .fitsfile import WrittenFile, uncorrected_hdus, write_corrected, write_map
from .flags import sentences
from .frames import name_of
from .jpeg2000 import is_jpeg2000
from .misfit import Wanted
from .phase_result import PhaseResult
from .pixels import PixelTransform
from .plan import RasterPlan

__all__ = ["CoalignmentResult"]


@dataclass(frozen=True)
class CoalignmentResult(Tabular):
    """The correction of a map's coordinates, and what speaks for it.

    Parameters
    ----------
    target : GenericMap
        The map as it was given.
    reference : GenericMap
    phases : tuple of PhaseResult
        In the order they ran; the last one's correction is that of the result.
    flags : tuple of str
        Of the last phase, and of earlier ones what the last one cannot see: whether another shift is as good.
    provenance : dict
        Versions, settings, device and files.
    sampler : callable
        Gives the reference of the last phase on the target's pixels, by a correction.
    source : Path or None
        File of the target.
    hdu : int or None
        HDU in it.
    details : dict
        Sentences with this result's numbers, of some of the flags.
    background : (float, float) or None
        Sigma in pixels (y, x) of the smooth part that was taken off both images.
    detectors : dict
        With ``detectors="apart"``, by name the result of a window of each other detector of the file, or a sentence why
        there is none.
    """

    target: GenericMap = field(repr=False)
    reference: GenericMap = field(repr=False)
    phases: tuple[PhaseResult, ...]
    flags: tuple[str, ...]
    provenance: Mapping[str, Any] = field(repr=False)
    sampler: Callable[[PixelTransform], FloatArray] = field(repr=False)
    source: Path | None = None
    hdu: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    background: tuple[float, float] | None = None
    detectors: Mapping[str, "CoalignmentResult | str"] = field(default_factory=dict)

    @property
    def last(self) -> PhaseResult:
        """The phase whose result this is."""
        return self.phases[-1]

    @property
    def model(self) -> str:
        """Key of `MODELS`."""
        return self.last.model

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, see `stackalign.solar.MODELS`."""
        return self.last.names

    @property
    def parameters(self) -> FloatArray:
        """(P,) values in the order of `names`: shifts in pixels of the target, angle in degrees."""
        return self.last.parameters

    @property
    def covariance(self) -> FloatArray:
        """(P, P)."""
        return self.last.covariance

    @property
    def sigma(self) -> FloatArray:
        """(P,) standard errors."""
        return self.last.sigma

    @property
    def correction(self) -> PixelTransform:
        """``p = A q + b``: the target's pixel q shows what its uncorrected header says of the pixel p."""
        return self.last.correction

    @property
    def score(self) -> float:
        """Correlation of the target with the reference as the last phase compared them."""
        return self.last.score

    @property
    def overlap(self) -> float:
        """Share of the target's valid pixels that the score is made of."""
        return self.last.overlap

    @property
    def ok(self) -> bool:
        """No flag is set: the numbers can be trusted."""
        return not self.flags

    @property
    def wanted(self) -> Wanted | None:
        """What the model holds and the images want, with the values that they want; see the flag model_too_small."""
        return self.last.wanted

    @property
    def plan(self) -> RasterPlan | None:
        """Which frame served which column of the synthetic raster; ``plan.to_table()`` is a table."""
        return self.last.plan

    def __getitem__(self, name: str) -> float:
        """Value of a parameter by name."""
        return self.last[name]

    def columns(self) -> dict[str, Any]:
        """Return a table of one row: parameters, the shift on the sky, score and flags."""
        values = dict(zip(self.names, self.parameters, strict=True))
        errors = {f"sigma_{name}": value for name, value in zip(self.names, self.sigma, strict=True)}
        sky = {"shift_tx": self.shift_arcsec.value[0], "shift_ty": self.shift_arcsec.value[1]}
        sky |= {"sigma_tx": self.sigma_arcsec.value[0], "sigma_ty": self.sigma_arcsec.value[1]}
        row = {**values, **errors, **sky, "score": self.score, "overlap": self.overlap, "flags": " ".join(self.flags)}
        return {name: np.array([value]) for name, value in row.items()}

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        pixels = {"dx": "pix", "dy": "pix", "angle": "deg"}
        known = {name: pixels[name] for name in self.names if name in pixels}
        known |= {f"sigma_{name}": unit for name, unit in known.items()}
        return known | dict.fromkeys(("shift_tx", "shift_ty", "sigma_tx", "sigma_ty"), "arcsec")

    @property
    def shift(self) -> Quantity:
        """(dx, dy) of the middle of the image, in pixels."""
        return self.parameters[:2] * u.pix

    @property
    def shift_arcsec(self) -> Quantity:
        """(Tx, Ty) by which the middle of the image moves on the sky."""
        return arcsec_per_pixel(self.target.wcs) @ self.parameters[:2] * u.arcsec

    @property
    def sigma_arcsec(self) -> Quantity:
        """Standard errors of `shift_arcsec`."""
        return np.sqrt(np.diagonal(self.covariance_arcsec.value)) * u.arcsec

    @property
    def covariance_arcsec(self) -> Quantity:
        """(2, 2) of `shift_arcsec`."""
        jacobian = arcsec_per_pixel(self.target.wcs)
        return jacobian @ self.covariance[:2, :2] @ jacobian.T * u.arcsec**2

    @cached_property
    def corrected_map(self) -> GenericMap:
        """The target with a corrected header; its data are the same array."""
        return correct_map(self.target, self.correction)

    def reference_images(self) -> tuple[FloatArray, FloatArray]:
        """The reference on the target's pixels, by the header before the correction and after it."""
        return self.sampler(PixelTransform.identity()), self.sampler(self.correction)

    def uncorrected_hdus(self) -> tuple[str, ...]:
        """Images of the target's file that a corrected file leaves as they are, each with the reason."""
        if self.source is None or is_jpeg2000(self.source):
            return ()
        return uncorrected_hdus(self.source, self.correction, self.hdu, self._fits(flagged=False))

    @property
    def distortion_pixels(self) -> float | None:
        """Largest move of a pixel by the tables of distortions of the file, None where they were not applied."""
        largest: float | None = self.provenance["parameters"].get("distortion_pixels")
        return largest

    def detector_offsets(self) -> dict[str, tuple[Quantity, Quantity]]:
        """How far the pointing of each other detector is from what headers say relative to this one's.

        Returns
        -------
        dict of str to (Quantity, Quantity)
            (Tx, Ty) in arcsec by which that detector's images move more than this one's, and standard errors.
        """
        known = {name: one for name, one in self.detectors.items() if isinstance(one, CoalignmentResult)}
        return {
            name: (one.shift_arcsec - self.shift_arcsec, np.hypot(one.sigma_arcsec, self.sigma_arcsec))
            for name, one in known.items()
        }

    def _fits(self, *, flagged: bool) -> dict[str, DetectorFit | str]:
        """The corrections of other detectors; sentences where there is none that may be written."""
        fits: dict[str, DetectorFit | str] = {}
        for name, one in self.detectors.items():
            if isinstance(one, str):
                fits[name] = f"its detector {name} was not aligned: {one}"
            elif one.flags and not flagged:
                why = "; ".join(sentences(one.flags, one.details).values())
                fits[name] = f"the correction of its detector {name} is not to be trusted: {why}"
            else:
                assert one.hdu is not None
                fits[name] = DetectorFit(one.hdu, one.correction, one._facts())
        return fits

    def map_after(self, phase: str) -> GenericMap:
        """The target with the correction as it was after a phase.

        Parameters
        ----------
        phase : str
            "binned", "full" or "synthetic", one that was run.

        Returns
        -------
        GenericMap
            The same data with another header.
        """
        for done in self.phases:
            if done.name == phase:
                return correct_map(self.target, done.correction)
        msg = f"the phases were {', '.join(done.name for done in self.phases)}, not {phase!r}"
        raise KeyError(msg)

    def __str__(self) -> str:
        values = ", ".join(
            f"{name} = {value:.5g} +- {sigma:.2g}"
            for name, value, sigma in zip(self.names, self.parameters, self.sigma, strict=True)
        )
        (tx, ty), (sx, sy) = self.shift_arcsec.value, self.sigma_arcsec.value
        return (
            f"{values}; ({tx:.3f} +- {sx:.2g}, {ty:.3f} +- {sy:.2g}) arcsec; score {self.score:.4f}, "
            f"overlap {self.overlap:.0%}, flags: {', '.join(self.flags) or 'none'}{''.join(self._further())}"
        )

    def _further(self) -> Iterator[str]:
        """What else was done: distortions, and offsets of other detectors."""
        if self.distortion_pixels is not None:
            yield f"; tables of distortions applied, up to {self.distortion_pixels:.2g} px"
        for name, ((tx, ty), (sx, sy)) in self.detector_offsets().items():
            yield f"; detector {name} is off by ({tx.value:.3f} +- {sx.value:.2g}, {ty.value:.3f} +- {sy.value:.2g})"
            one = self.detectors[name]
            yield " arcsec more" + ("" if isinstance(one, str) or one.ok else f", flags: {', '.join(one.flags)}")
        for name, one in self.detectors.items():
            if isinstance(one, str):
                yield f"; detector {name} was not aligned: {one}"

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists, as JSON takes them; what is not finite becomes None."""
        plain: dict[str, Any] = to_jsonable(
            {
                "target": name_of(self.target),
                "reference": name_of(self.reference),
                "model": self.model,
                "parameters": dict(zip(self.names, self.parameters.tolist(), strict=True)),
                "sigma": dict(zip(self.names, self.sigma.tolist(), strict=True)),
                "covariance": self.covariance,
                "shift_arcsec": self.shift_arcsec.value,
                "sigma_arcsec": self.sigma_arcsec.value,
                "matrix": self.correction.matrix,
                "offset": self.correction.offset,
                "score": self.score,
                "overlap": self.overlap,
                "background_pixels": self.background,
                "ok": self.ok,
                "flags": sentences(self.flags, self.details),
                "wanted": None if self.wanted is None else self.wanted.to_dict(),
                "detectors": {name: self._detector(name) for name in self.detectors},
                "distortion_pixels": self.distortion_pixels,
                "phases": [phase.to_dict() for phase in self.phases],
                "columns": None if self.plan is None else str(self.plan).splitlines(),
                "provenance": self.provenance,
            }
        )
        return plain

    def _detector(self, name: str) -> dict[str, Any]:
        """What is said of another detector."""
        one = self.detectors[name]
        if isinstance(one, str):
            return {"message": one}
        offset, sigma = self.detector_offsets()[name]
        numbers = {"shift_arcsec": one.shift_arcsec.value, "sigma_arcsec": one.sigma_arcsec.value}
        numbers |= {"offset_arcsec": offset.value, "offset_sigma_arcsec": sigma.value}
        return {"hdu": one.hdu, **numbers, "score": one.score, "flags": sentences(one.flags, one.details)}

    def write(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, again: bool = False, flagged: bool = False
    ) -> Path:
        """Write a corrected FITS file, see `write_file`.

        Parameters
        ----------
        path : path-like
            The new file.
        overwrite : bool
            Replace an existing file.
        again : bool
            Correct a file that carries a correction already.
        flagged : bool
            Write the correction of a flagged result too.

        Returns
        -------
        Path
            The file.
        """
        return self.write_file(path, overwrite=overwrite, again=again, flagged=flagged).path

    def write_file(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, again: bool = False, flagged: bool = False
    ) -> WrittenFile:
        """Write a corrected FITS file: a copy of the target's file with new headers, or the map where that is no FITS.

        Parameters
        ----------
        path : path-like
            A new file.
        overwrite : bool
            Replace an existing one.
        again : bool
            Correct a file that carries a correction already.
        flagged : bool
            Write a correction that flags speak against.

        Returns
        -------
        WrittenFile
            With the names of the HDUs that were corrected and of those that were left.

        Raises
        ------
        DataError
            A flag is set, or see `write_corrected`.
        """
        if self.flags and not flagged:
            why = "; ".join(sentences(self.flags, self.details).values())
            msg = f"the correction of {name_of(self.target)} is not to be trusted and was not written: {why}"
            raise DataError(msg)
        facts = self._facts()
        if self.source is not None and not is_jpeg2000(self.source):
            detectors = self._fits(flagged=flagged)
            return write_corrected(
                self.source, path, self.correction, hdu=self.hdu, provenance=facts, detectors=detectors, again=again,
                overwrite=overwrite,
            )  # fmt: skip
        written = write_map(
            self.target, path, correction=self.correction, provenance=facts, again=again, overwrite=overwrite
        )
        return WrittenFile(written, ("PRIMARY",), ())

    def _facts(self) -> dict[str, Any]:
        """What the cards of a corrected header say."""
        sigma = dict(zip(self.names, self.sigma.tolist(), strict=True))
        return {
            "score": self.score,
            "sigma_x": sigma["dx"],
            "sigma_y": sigma["dy"],
            "reference": name_of(self.reference),
            "model": self.model,
            "phases": " ".join(phase.name for phase in self.phases),
            "flags": " ".join(self.flags) or "none",
            # On the sky, which on pixels that are not square is not what the matrix of pixels says.
            **{name: self[name] for name in ("sx", "sy", "angle") if name in self.names},
        }
