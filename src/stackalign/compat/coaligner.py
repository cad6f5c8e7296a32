"""`Coaligner` and the functions of the original coalignment; see also `stackalign.solar.coalign`."""

from stackalign.solar.archive import get_EUI_paths
from stackalign.solar.coaligner import Coaligner
from stackalign.solar.search import correlation_for_params, optimize_alignment_local_grad_disc_persworkers

__all__ = ["Coaligner", "correlation_for_params", "get_EUI_paths", "optimize_alignment_local_grad_disc_persworkers"]
