"""Functions under the names of other packages, for scripts that move over by changing an import."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, submodules={"skued"})
