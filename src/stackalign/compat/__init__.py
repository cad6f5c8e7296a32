"""Names and calls of other packages and of original implementations, for scripts that move over by changing an import.

- `skued`: functions of scikit-ued
- `cropper`: `DiffractionCropper`
- `coaligner`: `Coaligner` and its functions
- `coarse`: `CoarseOptimize`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, submodules={"coaligner", "coarse", "cropper", "skued"})
