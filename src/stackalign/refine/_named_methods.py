"""Methods of a refiner for what is usually refined, each a call of `optimize`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

from .matching.parameters import free_cell
from .result import RefinementResult
from .simulator import Simulator

__all__ = ["Bounds", "NamedMethods"]

Bounds = Sequence[float] | None


class NamedMethods(ABC):
    """Refine what is usually refined; the names are those of the original implementation."""

    simulator: Simulator
    thickness: float | None

    @abstractmethod
    def optimize(
        self,
        parameters: Mapping[str, Bounds] | Sequence[str],
        *,
        n_scan: Mapping[str, int] | None = None,
        method: Literal["gauss-newton", "nelder-mead"] = "gauss-newton",
    ) -> RefinementResult:
        """Find any parameters together, and always the tilt."""

    def optimize_orientation_thickness(self, bounds: Bounds = (200.0, 3000.0)) -> RefinementResult:
        """Find the tilt and the thickness (angstrom) from anywhere within bounds.

        Parameters
        ----------
        bounds : (float, float), optional
            Lower and upper bound, in angstrom.

        Returns
        -------
        RefinementResult
            Values with error bars, and flags.
        """
        return self.optimize({"thickness": bounds})

    def optimize_orientation_gl(self, bounds: Bounds = None, n_scan: int | None = None) -> RefinementResult:
        """Find the tilt and the length of gx in pixels, by default within 10 %; the thickness is held.

        All values are compared with one set of decompositions.

        Parameters
        ----------
        bounds : (float, float), optional
            Lower and upper bound, in pixels. 10 % to both sides by default.
        n_scan : int, optional
            Number of values that the global scan tries.

        Returns
        -------
        RefinementResult
            Values with error bars, and flags.
        """
        return self.optimize({"gl": bounds}, n_scan=None if n_scan is None else {"gl": n_scan})

    def optimize_hv(self, bounds: Bounds = None, n_scan: int | None = None) -> RefinementResult:
        """Find the accelerating voltage in kV, by default within 0.5 %; the tilt follows, the thickness is held.

        Parameters
        ----------
        bounds : (float, float), optional
            Lower and upper bound, in kV. 0.5 % to both sides by default.
        n_scan : int, optional
            Number of values that the global scan tries.

        Returns
        -------
        RefinementResult
            Values with error bars, and flags.
        """
        return self.optimize({"kv": bounds}, n_scan=None if n_scan is None else {"kv": n_scan})

    def optimize_dwf(
        self, species: str | None = None, bounds: Bounds = None, *, with_thickness: bool = True
    ) -> RefinementResult:
        """Find the isotropic Debye-Waller factor B of a species, or one of all atoms, in square angstrom.

        Parameters
        ----------
        species : str, optional
            Symbol of the element.
        bounds : (float, float), optional
            0 to 2 by default.
        with_thickness : bool
            Whether the thickness is fitted along, from where it is; both change how strong the beams are.

        Returns
        -------
        RefinementResult
            Values with error bars, and flags.
        """
        name = "b_iso" if species is None else f"b_iso.{species}"
        return self.optimize({name: bounds} | self._thickness_nearby(with_thickness))

    def optimize_unit_cell(
        self,
        free: Literal["symmetry", "all"] | Sequence[str] = "symmetry",
        bounds: Mapping[str, Bounds] | None = None,
        *,
        method: Literal["gauss-newton", "nelder-mead"] = "nelder-mead",
        with_thickness: bool = False,
        n_scan: int | None = None,
    ) -> RefinementResult:
        """Find edges (angstrom) and angles (degrees) of the unit cell.

        Parameters
        ----------
        free : "symmetry", "all" or names
            Those that the shape of the cell leaves free: equal edges stay equal, angles of 90 and 120 degrees stay. Or
            all six, or some of "a", "b", "c", "alpha", "beta", "gamma"; edges equal to a follow it unless they are
            named.
        bounds : mapping, optional
            By name; 1 % of an edge and 1 degree by default.
        method : "nelder-mead" or "gauss-newton"
            How the way from the start to the fine grid's climb is found; the climb alone needs fewer decompositions,
            and a start within about half a line's width.
        with_thickness : bool
            Whether the thickness is fitted along.
        n_scan : int, optional
            Values of each that the global scan tries, 5 by default: all combinations are decomposed.

        Returns
        -------
        RefinementResult
            Values with error bars, and flags.
        """
        names = free_cell(free, self.simulator.parameters)
        chosen: dict[str, Bounds] = {name: (bounds or {}).get(name) for name in names}
        counts = None if n_scan is None else dict.fromkeys(names, n_scan)
        return self.optimize(chosen | self._thickness_nearby(with_thickness), method=method, n_scan=counts)

    def _thickness_nearby(self, take: bool) -> dict[str, Bounds]:
        if not take:
            return {}
        if self.thickness is None:
            return {"thickness": (200.0, 3000.0)}
        return {"thickness": (0.97 * self.thickness, 1.03 * self.thickness)}
