"""Bloch waves of many tilts: the loop over chunks that makes them, and what is asked of them afterwards."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from array_api_compat import array_namespace, is_numpy_namespace
from numpy.typing import ArrayLike, NDArray

from stackalign._types import FloatArray
from stackalign.device import default_memory_limit, default_workers, format_bytes, parse_bytes
from stackalign.errors import DataError, StackalignWarning
from stackalign.refine.simulator import Reflection, as_thicknesses, reflection_indices

from ._threads import run
from .bethe import make_fold
from .eigen import Matrices, amplitudes, bytes_per_tilt, decompose
from .geometry import Geometry
from .selection import BeamList

__all__ = ["Absorption", "PreparedBloch", "Solver", "SolverOptions"]

Array = Any
Absorption = Callable[[Geometry, NDArray[np.int64]], NDArray[np.complex128]]

CHUNK_BYTES = {"cpu": 32 * 2**20, "gpu": 2 * 2**30}
"""Temporary memory per thread, or of the GPU, that decompositions aim at."""
WARN_PHASE = 0.2
"""Error of a phase, in radians, that beams left out may make before it is said."""
WARN_INTENSITY = 0.02
"""Error of an intensity, in units of the incident beam, that more beams would mend before it is said."""
THIN, THICK = 200.0, 250.0
"""Thickness in angstrom up to which a crystal is thin, and from which on it is not; between them both are blended."""


@dataclass(frozen=True, eq=False)
class PreparedBloch:
    """Bloch waves of all tilts. See `Prepared`.

    Parameters
    ----------
    gamma : array
        (T, N) wave vectors less K_n in 1/angstrom, complex with absorption.
    weight : array
        (T, R, N) amplitudes at the entrance surface of the R kept reflections in the N Bloch waves.
    reflections : tuple of (h, k, l)
        The R kept reflections.
    beams : BeamList
        Beams that took part.
    phase_error_per_angstrom : float
        Estimate, from the strongest beams that were left out, of how fast phases go wrong with thickness.
    workers : int
        Threads for arrays of the host.
    beam_error : callable or None
        Thicknesses (n,) to the error (n,) of intensities that more beams would mend, where beams were chosen for these
        very tilts.
    thin : ThinPrepared or None
        Where the Bloch waves for thin crystals come from, if these are others.
    """

    gamma: Array
    weight: Array
    reflections: tuple[Reflection, ...]
    beams: BeamList
    phase_error_per_angstrom: float
    workers: int = 1
    beam_error: Callable[[FloatArray], FloatArray] | None = None
    thin: "ThinPrepared | None" = None

    @property
    def step_angstrom(self) -> float:
        """Thickness step that samples the fastest oscillation of the intensities four times."""
        xp = array_namespace(self.gamma)
        excited = xp.max(xp.abs(self.weight), axis=1) > 0.01
        real = xp.real(self.gamma)
        highest = xp.max(xp.where(excited, real, -xp.inf), axis=1)
        spread = float(xp.max(highest - xp.min(xp.where(excited, real, xp.inf), axis=1)))
        return 0.25 / spread if spread > 0 else np.inf

    def _few_beams(self, thicknesses: FloatArray) -> str:
        """Say where more beams are needed; empty where not."""
        thickest, wrong = float(thicknesses.max()), ""
        error = self.phase_error_per_angstrom * thickest
        if error > WARN_PHASE:
            wrong = f"phases go wrong by {error:.1f} radians or more"
        elif self.beam_error is not None:
            errors = self.beam_error(thicknesses)
            if errors.max() > WARN_INTENSITY:
                thickest = float(thicknesses[errors.argmax()])
                wrong = f"intensities are wrong by some {errors.max():.2g} of the incident beam"
        if not wrong:
            return ""
        return (
            f"{len(self.beams)} beams are few for {thickest:g} angstrom: {wrong}. "
            "Lower `strong` and `weak` of the BeamSelection, or see `check_convergence`"
        )

    def intensities(self, thicknesses_angstrom: ArrayLike, reflections: Sequence[Reflection] | None = None) -> Array:
        """See `Prepared.intensities`; warns where more beams are needed for the thickness."""
        thicknesses = as_thicknesses(thicknesses_angstrom)
        share = np.zeros(len(thicknesses))
        if self.thin is not None:
            share = np.clip((THICK - thicknesses) / (THICK - THIN), 0.0, 1.0)
        own, other = np.flatnonzero(share < 1), np.flatnonzero(share > 0)
        doubt = self._few_beams(thicknesses[own]) if len(own) else ""
        if doubt:
            warnings.warn(doubt, StackalignWarning, stacklevel=2)
        if self.thin is None or not len(other):
            return self._intensities(thicknesses, reflections)
        thin = self.thin.prepared.intensities(thicknesses[other], reflections)
        if not len(own):
            return thin
        result = array_namespace(thin).zeros((len(thicknesses), *thin.shape[1:]), dtype=np.float64)
        mine = self._intensities(thicknesses[own], reflections)
        for rows, values, weights in ((own, mine, 1 - share), (other, thin, share)):
            for k, row in enumerate(rows.tolist()):
                result[row] += float(weights[row]) * values[k]
        return result

    def _intensities(self, thicknesses: FloatArray, reflections: Sequence[Reflection] | None) -> Array:
        """Intensities of these very waves."""
        xp = array_namespace(self.gamma)
        chosen = reflection_indices(self.reflections, reflections)
        weight = self.weight if len(chosen) == len(self.reflections) and reflections is None else self.weight[:, chosen]
        n_tilts, n_waves = self.gamma.shape
        result = xp.empty((len(thicknesses), len(chosen), n_tilts), dtype=np.float64)

        def task(start: int, stop: int) -> None:
            part = amplitudes(xp, self.gamma[start:stop], weight[start:stop], thicknesses)
            result[:, :, start:stop] = (part.real**2 + part.imag**2).transpose(2, 1, 0)

        per_tilt = 16 * len(thicknesses) * (2 * n_waves + 3 * len(chosen))
        budget = CHUNK_BYTES["cpu"] // 8 if is_numpy_namespace(xp) else CHUNK_BYTES["gpu"]
        run(task, n_tilts, self.workers, max(1, budget // per_tilt))
        return result


class ThinPrepared(Protocol):
    """Makes the Bloch waves for thin crystals when they are first asked for."""

    @property
    def prepared(self) -> PreparedBloch:
        """Bloch waves of the same tilts and reflections."""
        ...


@dataclass(frozen=True)
class SolverOptions:
    """What a solver is told beside crystal, beam and list of beams.

    Parameters
    ----------
    real : bool
        Whether potentials are real, as for a centre of inversion at the origin.
    absorption, absorptive_ratio, workers, memory_limit
        See `BlochSimulator`.
    floor : float
        See `BeamSelection`.
    """

    real: bool
    absorption: Literal["perturbative", "exact"] | None
    absorptive_ratio: float | Absorption
    floor: float
    workers: int | None
    memory_limit: int | str | None


@dataclass(frozen=True, eq=False)
class Solver:
    """One `prepare`: matrices that all tilts share, and the loop over chunks of tilts."""

    options: SolverOptions
    geometry: Geometry
    beams: BeamList
    kept: tuple[Reflection, ...]
    rows: NDArray[np.int64]
    xp: Any

    def solve(self, tilts: FloatArray) -> PreparedBloch:
        """Decompose the structure matrices of all tilts (T, 2)."""
        xp, options, geometry = self.xp, self.options, self.geometry
        matrices = self._matrices()
        n, exact = len(self.beams), matrices.exact
        complex_weight = exact or matrices.potential.dtype.kind == "c"
        gamma = xp.empty((len(tilts), n), dtype=np.complex128 if options.absorption else np.float64)
        shape = (len(tilts), len(self.rows), n)
        itemsize = 16 if complex_weight else 8
        workers = (options.workers or default_workers()) if is_numpy_namespace(xp) else 1
        fold = make_fold(xp, geometry, self.beams, tilts, self.options.real, workers)
        n_direct = 0 if fold is None else len(fold.direct)
        shared = 0 if fold is None or fold.terms is None else fold.terms.nbytes
        per_tilt = bytes_per_tilt(n, n_direct, itemsize, exact)
        limit = default_memory_limit() if options.memory_limit is None else parse_bytes(options.memory_limit)
        needed = gamma.nbytes + int(np.prod(shape)) * itemsize + shared + workers * per_tilt
        if needed > limit:
            msg = (
                f"the Bloch waves of {len(tilts)} tilts, {n} beams and {len(self.rows)} reflections take "
                f"{format_bytes(needed)}, more than the limit of {format_bytes(limit)}: keep fewer reflections, "
                "simulate fewer tilts at a time, or raise memory_limit"
            )
            raise DataError(msg)
        weight = xp.empty(shape, dtype=np.complex128 if complex_weight else np.float64)
        g_normal = geometry.g_vectors(self.beams.strong) @ geometry.inward

        def task(start: int, stop: int) -> None:
            part = tilts[start:stop]
            normal = geometry.incident(part)[1]
            scale = 1 / np.sqrt(1 + g_normal / normal[:, None])
            detuning = geometry.detuning(part, self.beams.strong)
            folded = None if fold is None else fold.matrices(xp, geometry, part)
            moved = (xp.asarray(values) for values in (scale, normal))
            gamma[start:stop], weight[start:stop] = decompose(xp, matrices, xp.asarray(detuning), folded, *moved)

        room = min(CHUNK_BYTES["cpu" if is_numpy_namespace(xp) else "gpu"], (limit - needed) // workers + per_tilt)
        run(task, len(tilts), workers, max(1, min(int(room // per_tilt), -(-len(tilts) // (4 * workers)))))
        return PreparedBloch(gamma, weight, self.kept, self.beams, self._phase_error(tilts), workers)

    def _matrices(self) -> Matrices:
        xp, options, geometry = self.xp, self.options, self.geometry
        strong, real = self.beams.strong, self.options.real
        potential = geometry.couplings(strong, strong)
        absorptive = None
        if options.absorption is not None:
            ratio = options.absorptive_ratio
            absorptive = ratio(geometry, strong[:, None] - strong) if callable(ratio) else ratio * potential
        np.fill_diagonal(potential, 0.0)  # the mean is in the wave vectors

        def moved(array: NDArray[np.complex128] | None) -> Array:
            return None if array is None else xp.asarray(np.ascontiguousarray(array.real if real else array))

        exact = options.absorption == "exact"
        return Matrices(moved(potential), moved(absorptive), xp.asarray(self.rows), exact)

    def _phase_error(self, tilts: FloatArray) -> float:
        """Fastest change with thickness of a phase against that of 000, to second order in the beams left out."""
        geometry, omitted = self.geometry, self.beams.omitted
        if not len(omitted):
            return 0.0
        some = tilts[np.unique(np.linspace(0, len(tilts) - 1, 5).round().astype(int))]
        central = self.beams.strong[:12]
        coupling = np.abs(geometry.couplings(central, omitted)) ** 2
        off = geometry.detuning(some, omitted)
        off = np.where(np.abs(off) < self.options.floor, np.inf, off)  # lines: local, not a shift
        shift = -(coupling / off[:, None]).sum(-1) / (2 * geometry.incident(some)[1][:, None])
        return float(2 * np.pi * np.abs(shift - shift[:, :1]).max())
