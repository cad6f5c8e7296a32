"""Functions of the first implementation under the name of their first module; they are in `stackalign.compat`."""

from stackalign.compat.coaligner_search import correlation_for_params, optimize_alignment_local_grad_disc_persworkers

__all__ = ["correlation_for_params", "optimize_alignment_local_grad_disc_persworkers"]
