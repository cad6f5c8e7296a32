__version__: str

from . import (
    chunks,
    compat,
    crop,
    device,
    diffraction,
    drift,
    errors,
    io,
    objectives,
    ops,
    optimize,
    plot,
    refine,
    registration,
    solar,
    transforms,
)
from .errors import (
    BackendUnavailableError,
    DataError,
    Interrupted,
    MaskError,
    MissingDependencyError,
    OutputExistsError,
    StackalignError,
    StackalignWarning,
)
from .ops import *  # noqa: F403 -- the array API, which ops lists
from .registration import RegistrationResult, RegistrationStack, register, register_stack

__all__ = [
    "BackendUnavailableError",
    "DataError",
    "Interrupted",
    "MaskError",
    "MissingDependencyError",
    "OutputExistsError",
    "RegistrationResult",
    "RegistrationStack",
    "StackalignError",
    "StackalignWarning",
    "chunks",
    "compat",
    "crop",
    "device",
    "diffraction",
    "drift",
    "errors",
    "io",
    "objectives",
    "ops",
    "optimize",
    "plot",
    "refine",
    "register",
    "register_stack",
    "registration",
    "solar",
    "transforms",
]
__all__ += ops.__all__
