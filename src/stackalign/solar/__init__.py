"""Coalignment of solar maps in their world coordinates; nothing heavy is loaded before a name of it is used."""

from importlib.util import find_spec as _find_spec
from typing import Any

import lazy_loader as _lazy

from stackalign.errors import MissingDependencyError as _MissingDependencyError

# The names and where they come from stand in __init__.pyi.
_getattr, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

_EXTRA = ("astropy", "sunpy", "reproject", "parfive")


def __getattr__(name: str) -> Any:
    try:
        return _getattr(name)
    except ImportError as error:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        # sunpy.map turns what it misses into an ImportError of its own, without a name.
        if package in _EXTRA or (not package and "sunpy" in str(error)):
            msg = f'stackalign.solar needs {package or "sunpy"}: pip install "stackalign[solar]"'
            raise _MissingDependencyError(msg) from error
        raise


if _find_spec("sunkit_image") is not None:
    # Its users name the method in a call of sunkit-image, and have no other reason to use a name of this package.
    from .sunkit import register_with_sunkit_image as _register

    _register()
