"""What a crop's bytes follow from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign.io import StackReader

from .config import CroppingConfig
from .reuse import results_hash

__all__ = ["CHECKPOINT_SECONDS", "NOT_IN_THE_BYTES", "plan_record"]

CHECKPOINT_SECONDS = runs.CHECKPOINT_SECONDS

NOT_IN_THE_BYTES = ("device", "use_gpu", "workers", "memory_limit", "chunk_size", "visualization", "verbose", "strict")
"""Options that may differ when a run is resumed: the output does not depend on them."""


def plan_record(
    reader: StackReader,
    config: CroppingConfig,
    mask: NDArray[np.bool_] | None,
    centers: NDArray[np.float64] | None,
    reuse: Path | None,
    open_options: Mapping[str, Any],
    compression: str | None,
) -> runs.Plan:
    """Everything that the output's bytes follow from."""
    settings = {k: v for k, v in config.to_dict().items() if k not in NOT_IN_THE_BYTES}
    settings["compression"] = compression
    settings["reused results"] = None if reuse is None else results_hash(reuse)
    settings["stated centers"] = runs.array_digest(centers)
    return runs.Plan("crop", [runs.input_record(reader, **open_options)], settings, {"mask": runs.array_digest(mask)})
