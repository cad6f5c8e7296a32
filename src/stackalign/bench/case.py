"""What is measured: a problem, the function that solves it, and other packages that solve it too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

__all__ = ["Case", "Cases", "Peer", "Setting", "installed_peer"]


@dataclass(frozen=True)
class Peer:
    """Another package's way.

    Parameters
    ----------
    name : str
    run : callable
    share : float
        Of the problem that a call does: slow packages take a few of many images, and their time is divided by it.
    """

    name: str
    run: Callable[[], Any]
    share: float = 1.0


@dataclass(frozen=True)
class Case:
    """One problem.

    Parameters
    ----------
    name : str
        Of the operation or pipeline, as users call it.
    problem : str
        Sizes, in words.
    run : callable
        With all that a user pays: preparation and smoothing too, where the peers' time has them.
    unit : str
        What is counted, such as "candidates"; `count` of them are done in a call.
    count : float
    bytes : float
        That must at least be read and written once; 0 where nothing general can be said.
    operations : float
        Floating-point operations of the plain algorithm; 0 where nothing general can be said.
    peers : tuple of Peer
    series : tuple of (str, float), optional
        The size that grows among cases of one name, such as ("pixels", 65536).
    error : callable, optional
        Largest difference to an independent answer, in words; called once.
    """

    name: str
    problem: str
    run: Callable[[], Any]
    unit: str
    count: float = 1.0
    bytes: float = 0.0
    operations: float = 0.0
    peers: tuple[Peer, ...] = ()
    series: tuple[str, float] | None = None
    error: Callable[[], str] | None = None


@dataclass(frozen=True)
class Setting:
    """How large problems are, and where they are solved."""

    device: str = "cpu"
    workers: int = 1
    size: str = "full"
    peers: bool = False
    scratch: Any = field(default=None, repr=False)

    def pick(self, tiny: Any, quick: Any, full: Any) -> Any:
        """Choose by `size`: tiny (for tests), quick or full."""
        return {"tiny": tiny, "quick": quick, "full": full}[self.size]

    def peer(
        self, module: str, name: str, function: Callable[..., Any], *arguments: Any, share: float = 1.0
    ) -> list[Peer]:
        """Give another package's way in a list, which is empty where it is not asked for or not installed."""
        if not self.peers or not installed_peer(module):
            return []
        return [Peer(name, partial(function, *arguments), share)]

    def prepared_peer(
        self, module: str, name: str, prepare: Callable[..., Callable[[], Any]], *arguments: Any, share: float = 1.0
    ) -> list[Peer]:
        """Do the same for a package whose users prepare something once: what `prepare` returns is timed."""
        if not self.peers or not installed_peer(module):
            return []
        try:
            return [Peer(name, prepare(*arguments), share)]
        except ImportError:
            return []


Cases = Callable[[Setting], Iterator[Case]]
"""Gives cases one by one, so that one problem is in memory at a time."""


def installed_peer(module: str) -> bool:
    """Tell whether a package can be imported."""
    try:
        import_module(module)
    except ImportError:
        return False
    return True
