"""Outputs whose regions the workers of an executor write themselves, so that images do not travel to the client."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from stackalign.io import Calibration
from stackalign.io.regions import RegionTarget, region_alignment
from stackalign.io.stacks import region_extensions

from .chunks import ChunkPlan

if TYPE_CHECKING:
    import numpy as np

    from .parts import Part

__all__ = ["RegionSink", "takes_regions"]


def takes_regions(final: Path, shape: tuple[int, int, int], dtype: "np.dtype[Any]", **options: Any) -> bool:
    """Tell whether workers can write an output themselves.

    Parameters
    ----------
    final : Path
        Name of the output.
    shape : tuple of int
        (N, h, w).
    dtype : numpy.dtype
        Of the output.
    **options
        As for `stackalign.io.create_stack`.

    Returns
    -------
    bool
        Whether regions of it can be written in any order.
    """
    if final.suffix.lower() not in region_extensions():
        return False
    return region_alignment(final, shape, dtype, **options) is not None


class RegionSink:
    """Takes the place of a `StackWriter` where the workers write the images, which then do not come back to the client.

    Parameters
    ----------
    path : Path
        The partial file, on storage that the workers share.
    shape : tuple of int
    dtype : numpy.dtype
    scan_shape, channel_axis, calibration, final_path, compression
        As for `stackalign.io.create_stack`.
    resume : mapping, optional
        Checkpoint of an interrupted run, of this class or of a `StackWriter`.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        dtype: "np.dtype[Any]",
        *,
        scan_shape: tuple[int, ...],
        channel_axis: bool = False,
        calibration: Calibration | None = None,
        final_path: Path | None = None,
        resume: Mapping[str, Any] | None = None,
        compression: str | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "scan_shape": scan_shape, "channel_axis": channel_axis, "compression": compression,
        }  # fmt: skip
        step = region_alignment(final_path or path, shape, dtype, **options) or 1
        self.done = 0 if resume is None else int(resume["patterns"]) // step * step
        self.target = RegionTarget.create(
            path,
            shape,
            dtype,
            calibration=calibration,
            final_path=final_path,
            **options,
            resume=resume is not None,
            done=None if resume is None else self.done,
            # A writer in order may have stored more, of which nothing is said here.
            stored_bytes=resume.get("bytes") if resume is not None and resume.get("stored") == self.done else None,
        )

    def plan(self, plan: ChunkPlan) -> ChunkPlan:
        """Fit chunks to regions.

        Parameters
        ----------
        plan : ChunkPlan
            Chunks as memory allows them.

        Returns
        -------
        ChunkPlan
            Chunks that begin and end where regions may.
        """
        step = self.target.alignment
        return ChunkPlan(plan.n_items, max(step, plan.size // step * step))

    def chunk(self, function: "Callable[[NDArray[Any], int], Part]") -> "_RegionChunk":
        """The same function, which writes its images instead of returning them.

        Parameters
        ----------
        function : callable
            Returns a `Part` with images.

        Returns
        -------
        callable
            Returns the same without them.
        """
        return _RegionChunk(function, self.target)

    def write(self, images: NDArray[Any]) -> None:
        """Refuse images: the workers write theirs, and none should come back.

        Parameters
        ----------
        images : numpy.ndarray
            Images that came back.

        Raises
        ------
        TypeError
            Always.
        """
        msg = "the workers write the regions of this output"
        raise TypeError(msg)

    def checkpoint(self) -> dict[str, Any]:
        """Return the state that a resumed run goes on from; the workers have made durable what is done."""
        step = self.target.alignment
        done = self.done if self.done == self.target.spec.shape[0] else self.done // step * step
        return self.target.checkpoint(done)

    def finish(self, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Complete the file.

        Parameters
        ----------
        metadata : mapping
            Facts to store with the data.
        arrays : mapping, optional
            Arrays with one row per pattern.
        """
        self.target.finish(metadata, arrays)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True)
class _RegionChunk:
    """A chunk function and where its images go; picklable."""

    function: "Callable[[NDArray[Any], int], Part]"
    target: RegionTarget

    @property
    def alignment(self) -> int:
        """Where regions may begin: at its multiples; 0 where the function halves its chunks itself."""
        return self.target.alignment * int(getattr(self.function, "alignment", 1))

    def restricted(self, start: int, stop: int) -> "_RegionChunk":
        """The same with what the frames start..stop need."""
        restricted = getattr(self.function, "restricted", None)
        return self if restricted is None else _RegionChunk(restricted(start, stop), self.target)

    def __call__(self, block: NDArray[Any], first: int) -> "Part":
        from .parts import Part

        part = self.function(block, first)
        if part.images is not None:
            self.target.write(first, part.images)
        return Part(part.columns)
