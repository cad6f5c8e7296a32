"""Pictures and pages of results: functions take result objects and return matplotlib objects."""

import lazy_loader as _lazy

# The names and where they come from stand in __init__.pyi.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
