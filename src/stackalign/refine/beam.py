"""What comes in: electrons of one energy, the orientation of the crystal, and the frame in which tilts are given."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import constants

from stackalign._carriers import plain_array
from stackalign._types import FloatArray

from .crystal import Crystal

__all__ = ["Beam"]

Index = tuple[float, float, float]


@dataclass(frozen=True)
class Beam:
    """Accelerating voltage and orientation.

    Parameters
    ----------
    kv : float
        Accelerating voltage in kV.
    zone : tuple of float
        [uvw] of the zone axis, a direction of the direct lattice that points from the specimen to the source: at zero
        tilt the electrons travel along -[uvw].
    x_axis : tuple of float
        (hkl) of the reciprocal lattice vector whose part across the zone axis is the x-axis of tilts and displays.
    normal : tuple of float, optional
        [uvw] of the normal of the foil, on the side of the source; the zone axis unless given.

    Notes
    -----
    The frame is right-handed: z is the zone axis, y = z x x. Seen from the source with x to the right, y is up.
    Tilts are the transverse part K_t = (x, y) of the wave vector of the incoming electrons, in 1/angstrom;
    `tilts_from_mrad` and `tilts_to_mrad` convert from and to thousandths of the sine of the angle.

    Examples
    --------
    >>> from stackalign.refine import Beam
    >>> beam = Beam(200, zone=(1, 1, 0), x_axis=(0, 0, 2))
    >>> round(beam.wavelength_angstrom, 6)
    0.025079
    """

    kv: float
    zone: Index
    x_axis: Index
    normal: Index | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.kv) and self.kv > 0):
            msg = f"kv must be an accelerating voltage above 0 in kV, got {self.kv}"
            raise ValueError(msg)
        for name in ("zone", "x_axis", "normal"):
            value = getattr(self, name)
            if value is None and name == "normal":
                continue
            index = np.asarray(value, dtype=np.float64)
            if index.shape != (3,) or not np.isfinite(index).all() or not index.any():
                msg = f"{name} must be three numbers that are not all 0, got {value!r}"
                raise ValueError(msg)
            object.__setattr__(self, name, tuple(index.tolist()))

    @property
    def wavenumber(self) -> float:
        """1/wavelength in vacuum, in 1/angstrom, relativistic."""
        e, m, c, h = constants.e, constants.m_e, constants.c, constants.h
        energy = self.kv * 1e3 * e
        return float(np.sqrt(2 * m * energy * (1 + energy / (2 * m * c**2))) / h * 1e-10)

    @property
    def wavelength_angstrom(self) -> float:
        """Relativistic wavelength in vacuum."""
        return 1 / self.wavenumber

    @property
    def mass_ratio(self) -> float:
        """Relativistic mass over rest mass."""
        return float(1 + self.kv * 1e3 * constants.e / (constants.m_e * constants.c**2))

    @property
    def interaction_per_volt_angstrom(self) -> float:
        """Phase per projected potential, 2 pi m e / (h^2 k), in rad / (V angstrom)."""
        e, h = constants.e, constants.h
        return float(2 * np.pi * self.mass_ratio * constants.m_e * e / (h**2 * self.wavenumber) * 1e-10 * 1e-10)

    def frame(self, crystal: Crystal) -> FloatArray:
        """Axes of the beam's frame.

        Parameters
        ----------
        crystal : Crystal
            The crystal that the zone axis and the x-axis refer to.

        Returns
        -------
        numpy.ndarray
            (3, 3): rows x, y, z, unit vectors in Cartesian coordinates of the crystal.
        """
        z = np.asarray(self.zone) @ crystal.direct
        z /= np.linalg.norm(z)
        g = crystal.g_vectors(self.x_axis)
        x = g - (g @ z) * z
        if np.linalg.norm(x) < 1e-6 * np.linalg.norm(g):
            msg = f"x_axis {self.x_axis} is parallel to the zone axis {self.zone}: choose a reflection across it"
            raise ValueError(msg)
        x /= np.linalg.norm(x)
        return np.stack([x, np.cross(z, x), z])

    def inward_normal(self, crystal: Crystal) -> FloatArray:
        """Normal of the foil, into it.

        Parameters
        ----------
        crystal : Crystal
            The crystal that the foil's normal refers to.

        Returns
        -------
        numpy.ndarray
            (3,) unit vector in the frame of `frame`.
        """
        frame = self.frame(crystal)
        normal = frame @ (np.asarray(self.normal or self.zone) @ crystal.direct)
        normal /= np.linalg.norm(normal)
        if normal[2] < 0.1:
            msg = f"the normal {self.normal} of the foil must be within 84 degrees of the zone axis {self.zone}"
            raise ValueError(msg)
        return np.asarray(-normal)

    def tilts_from_mrad(self, tilts_mrad: ArrayLike) -> FloatArray:
        """Convert tilts from mrad to 1/angstrom.

        Parameters
        ----------
        tilts_mrad : array_like
            Thousandths of the sine of the angle with the zone axis, of any shape.

        Returns
        -------
        numpy.ndarray
            Transverse part of the wave vector in 1/angstrom.
        """
        return plain_array(tilts_mrad, np.float64, "tilts_mrad") * (1e-3 * self.wavenumber)

    def tilts_to_mrad(self, tilts: ArrayLike) -> FloatArray:
        """Convert tilts from 1/angstrom to mrad.

        Parameters
        ----------
        tilts : array_like
            Transverse part of the wave vector in 1/angstrom, of any shape.

        Returns
        -------
        numpy.ndarray
            Thousandths of the sine of the angle with the zone axis.

        Examples
        --------
        >>> from stackalign.refine import Beam
        >>> beam = Beam(200, zone=(1, 1, 0), x_axis=(0, 0, 2))
        >>> beam.tilts_to_mrad(beam.tilts_from_mrad([2.0, -1.0])).round(6).tolist()
        [2.0, -1.0]
        """
        return plain_array(tilts, np.float64, "tilts") / (1e-3 * self.wavenumber)
