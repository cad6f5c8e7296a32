"""Analysis of electron-diffraction images: files, masks, profiles, centres, alignment, symmetry, peaks and zones."""

from typing import Any

import lazy_loader as _lazy

from stackalign.errors import MissingDependencyError as _MissingDependencyError

# The names and where they come from stand in __init__.pyi.
_getattr, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

_EXTRA = {"pywt": "PyWavelets", "skimage": "scikit-image"}


def __getattr__(name: str) -> Any:
    try:
        return _getattr(name)
    except ImportError as error:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if package in _EXTRA:
            msg = f'stackalign.diffraction.{name} needs {_EXTRA[package]}: pip install "stackalign[image]"'
            raise _MissingDependencyError(msg) from error
        raise
