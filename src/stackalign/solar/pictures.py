"""Pictures under the names that scripts import from here; they are drawn in `stackalign.plot.solar`."""

from stackalign.plot.solar import (
    blink_maps,
    correlation_with_iteration,
    plot_alignment_before_after,
    plot_history_scatter,
)

__all__ = ["blink_maps", "correlation_with_iteration", "plot_alignment_before_after", "plot_history_scatter"]
