"""The images that a run writes, one for each frame."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__
from stackalign.errors import UnfitStateError
from stackalign.io import StackWriter, create_stack
from stackalign.io.images import write_images
from stackalign.io.stacks import writable_extensions

from .chunks import ChunkPlan
from .parts import ChunkFunction
from .regions import RegionSink, takes_regions
from .run import Run

__all__ = ["StackOutput"]


class StackOutput:
    """The images that a run writes, one for each frame: streamed in the final format, or converted to it at the end.

    Parameters
    ----------
    run : Run
    shape : tuple of int
        (N, h, w).
    dtype : numpy.dtype
    scan_shape : tuple of int
    single : bool
        One image, which is written without the axis of frames.
    header : str, optional
        Cards for FITS.
    remote : bool
        Chunks are worked on by an executor, whose workers write the images where the format allows it.
    """

    def __init__(
        self,
        run: Run,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        scan_shape: tuple[int, ...],
        single: bool = False,
        header: str | None = None,
        remote: bool = False,
    ) -> None:
        self._run, self._single, self._header = run, single, header
        self._streamed = run.output.suffix.lower() in writable_extensions() and not single
        self._path = run.data if self._streamed else run.data.with_name("stream.npy")
        scan = scan_shape if self._streamed else shape[:1]
        final = run.output if self._streamed else self._path
        by_workers = remote and takes_regions(final, shape, dtype, scan_shape=scan)
        self._create = partial(
            RegionSink if by_workers else create_stack, self._path, shape, dtype, scan_shape=scan, final_path=final
        )
        try:
            self._open(run.last_note().get("state"))
        except UnfitStateError as error:
            run.begin_anew(error)
            self._open(None)

    def _open(self, state: Mapping[str, Any] | None) -> None:
        self._writer: StackWriter | RegionSink = self._create(resume=state)
        if isinstance(self._writer, RegionSink):
            self.done = self._writer.done
        else:
            self.done = 0 if state is None else int(state["patterns"])

    def begin_anew(self, reason: UnfitStateError) -> None:
        """Drop the images of an interrupted run, whose rows are lost.

        Parameters
        ----------
        reason : UnfitStateError
            What is lost.
        """
        self._writer.close()
        self._run.begin_anew(reason)
        self._open(None)

    def placed(self, function: ChunkFunction, plan: ChunkPlan) -> tuple[ChunkFunction, ChunkPlan]:
        """Return the function and the chunks to work with: where workers write regions, both are adapted to that.

        Parameters
        ----------
        function : callable
            Works on the frames of a chunk.
        plan : ChunkPlan
            The chunks.

        Returns
        -------
        function, plan
            What to work with.
        """
        if isinstance(self._writer, RegionSink):
            return self._writer.chunk(function), self._writer.plan(plan)
        return function, plan

    def passed(self, done: int) -> None:
        """Take note of how many frames are done.

        Parameters
        ----------
        done : int
            Number of frames.
        """
        if isinstance(self._writer, RegionSink):
            self._writer.done = done

    def write(self, images: NDArray[Any]) -> None:
        """Append images.

        Parameters
        ----------
        images : numpy.ndarray
            (n, h, w), the next frames.
        """
        self._writer.write(images)

    def checkpoint(self) -> dict[str, Any]:
        """Make them durable; the state that a resumed run goes on from."""
        return self._writer.checkpoint()

    def finish(self) -> None:
        """Complete the file in the final format."""
        self._writer.finish({"software": f"stackalign {__version__}"})
        if not self._streamed:
            images = np.load(self._path, mmap_mode="r")
            write_images(
                self._run.data, images[0] if self._single else images, fits_header=self._header, overwrite=True
            )

    def close(self) -> None:
        """Release the file."""
        self._writer.close()
