"""The one mechanism of every long run: plan, lock, chunks, checkpoints, resumption and publication.

A pipeline states a `Plan`, all that the bytes of its output follow from, and opens a `Run` with it. `Run` decides
whether the work is finished, can be resumed, or is refused; it holds the lock, the journal and the checkpoints, and
gives the output its final name. `read_chunks` feeds the work within a memory budget.
"""

from .chunks import ChunkPlan, Progress, ProgressCallback, map_halving, read_chunks, require_fit
from .executor import ALL_GPUS, Source, executor_for
from .frames import FrameJob, chunk_parts
from .inputs import FileInput, Fingerprinted
from .journal import Journal, journal_folder
from .leftovers import find_leftovers, remove_leftovers
from .pace import CHECKPOINT_SECONDS
from .parts import Columns, Part
from .plan import Plan, array_digest, input_record
from .record import content_fingerprint, find_record, record_path
from .regions import RegionSink, takes_regions
from .run import Run
from .stack_output import StackOutput
from .stop import StopRequest

__all__ = [
    "ALL_GPUS",
    "CHECKPOINT_SECONDS",
    "ChunkPlan",
    "Columns",
    "FileInput",
    "Fingerprinted",
    "FrameJob",
    "Journal",
    "Part",
    "Plan",
    "Progress",
    "ProgressCallback",
    "RegionSink",
    "Run",
    "Source",
    "StackOutput",
    "StopRequest",
    "array_digest",
    "chunk_parts",
    "content_fingerprint",
    "executor_for",
    "find_leftovers",
    "find_record",
    "input_record",
    "journal_folder",
    "map_halving",
    "read_chunks",
    "record_path",
    "remove_leftovers",
    "require_fit",
    "takes_regions",
]
