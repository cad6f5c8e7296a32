"""Classes are documented with the members of our own base classes, and without those of Python's."""

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["is_foreign", "setup"]


def is_foreign(member: Any) -> bool:
    """Tell whether a method or property was written elsewhere, such as ``tuple.count`` and ``int.real``."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    return not str(getattr(function, "__module__", None)).startswith("stackalign")


def _skip(_app: Any, what: str, _name: str, member: Any, skip: bool, _options: Any) -> bool | None:
    described = callable(member) or isinstance(member, property) or inspect.isgetsetdescriptor(member)
    return True if not skip and what == "class" and described and is_foreign(member) else None


def setup(app: "Sphinx") -> dict[str, Any]:
    """Connect with autodoc."""
    app.connect("autodoc-skip-member", _skip)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
