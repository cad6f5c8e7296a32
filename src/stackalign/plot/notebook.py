"""Pictures of results in notebooks."""

from typing import TYPE_CHECKING, Any

from ._canvas import new_figure
from ._pictures import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["picture_of"]


def picture_of(result: Any) -> str:
    """Draw what a notebook shows of a result.

    Parameters
    ----------
    result : object
        Any result.

    Returns
    -------
    str
        An image in HTML; empty where a result has no picture.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> plot.notebook.picture_of(result).startswith("<")
    True
    """
    figure = _figure(result)
    return "" if figure is None else picture(figure, f"picture of the {type(result).__name__}", dpi=80)


def _figure(result: Any) -> "Figure | None":
    """Figure by the kind of result, which is told by name: its package need not be imported to say no."""
    kind = type(result).__name__
    if kind == "CropResult":
        from .crop import crop_figure

        return crop_figure(result)
    if kind == "RefinementResult":
        from .refine import refinement_figure

        return refinement_figure(result)
    figure = new_figure(6.4, 3.6)
    if kind == "RegistrationStack" and len(result) > 1:
        from .registration import plot_parameters

        plot_parameters(result, ax=figure.add_subplot())
    elif kind == "DriftResult":
        from .drift import plot_drift

        plot_drift(result, ax=figure.add_subplot())
    elif kind == "AzimuthalProfile" and result.angle is None:
        from .diffraction import plot_profile

        plot_profile(result, ax=figure.add_subplot())
    elif kind == "CoalignmentResult":
        from .solar import plot_map

        plot_map(result.corrected_map, figure.add_subplot(projection=result.corrected_map))
    else:
        return None
    return figure
