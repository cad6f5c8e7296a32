"""`Coaligner` under the name of its first module; it is in `stackalign.compat`."""

from stackalign.compat.coaligner import Coaligner

__all__ = ["Coaligner"]
