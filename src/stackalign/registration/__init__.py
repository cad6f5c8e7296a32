"""Registration: the transform between two images, or within thousands of pairs, with error bars and flags."""

from .align import register, register_stack
from .result import FLAGS, RegistrationResult, RegistrationStack
from .synthetic import SyntheticPair, create_test_pair, point_error, random_scene

__all__ = [
    "FLAGS",
    "RegistrationResult",
    "RegistrationStack",
    "SyntheticPair",
    "create_test_pair",
    "point_error",
    "random_scene",
    "register",
    "register_stack",
]
