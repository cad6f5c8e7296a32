"""Earlier names of arguments, which scripts still use."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from stackalign.errors import StackalignWarning

__all__ = ["renamed"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def renamed(**names: str) -> Callable[[_Function], _Function]:
    """Let a function take arguments by their earlier names too, with a warning that has the new name.

    Parameters
    ----------
    **names
        Earlier name to today's.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> from stackalign._renamed import renamed
    >>> @renamed(found="center")
    ... def draw(center):
    ...     return center
    >>> draw((3, 4))
    (3, 4)
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            for earlier in names.keys() & kwargs.keys():
                msg = f"the argument {earlier} of {function.__name__} is called {names[earlier]} now; use that name"
                warnings.warn(msg, StackalignWarning, stacklevel=2)
                kwargs[names[earlier]] = kwargs.pop(earlier)
            return function(*args, **kwargs)

        return cast("_Function", wrapped)

    return decorate
