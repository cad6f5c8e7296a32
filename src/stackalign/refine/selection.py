"""`BeamSelection` and `BeamList` under their former address; they are in `stackalign.refine.bloch`."""

from .bloch.selection import BeamList, BeamSelection

__all__ = ["BeamList", "BeamSelection"]
