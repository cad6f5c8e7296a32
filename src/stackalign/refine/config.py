"""What a configuration says: TOML into a refiner and the steps to take."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from stackalign.device import parse_device
from stackalign.errors import DataError
from stackalign.io.images import open_images
from stackalign.runs import FileInput

from ._config_reader import MATCHING, SIMULATION, ConfigReader, Step
from .bloch.selection import BeamSelection
from .bloch.simulator import BlochSimulator
from .coarse import CoarseRefine

__all__ = ["Configuration", "Step", "load_config"]


@dataclass(frozen=True, eq=False)
class Configuration:
    """Everything that a configuration says.

    Parameters
    ----------
    refiner : CoarseRefine
    steps : tuple of Step
    file : FileInput
        The configuration itself.
    inputs : tuple of FileInput
        The files that it names.
    table : mapping
        What it says, as TOML has it.
    """

    refiner: CoarseRefine
    steps: tuple[Step, ...]
    file: FileInput
    inputs: tuple[FileInput, ...]
    table: Mapping[str, Any]


def load_config(
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    allow_external: bool = False,
    read_timeout: float | None = None,
) -> Configuration:
    """Read a configuration, the data and the crystal that it names; nothing is simulated.

    Parameters
    ----------
    path : path-like
        TOML with the tables [data], [crystal], [beam], [roi], optionally [simulation] and [matching], and [[step]].
    workers, memory_limit
        Of the simulations, see `BlochSimulator`.
    device : str, optional
        Of the matching, instead of the one in the configuration.
    allow_external, read_timeout
        How files that it names are opened, see `stackalign.io.open_stack`.

    Returns
    -------
    Configuration
        Ready to be run.

    Raises
    ------
    DataError
        A file cannot be read, or the configuration makes no sense; the text says where.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from stackalign.refine import load_config
    >>> settings = '''
    ... [data]
    ... kind = "larbed"
    ... file = "disks.npy"
    ... reflections = [[0, 0, 0]]
    ... gl = 40.0
    ... center = [23.5, 23.5]
    ... [crystal]
    ... cell = [4.05, 4.05, 4.05, 90, 90, 90]
    ... species = ["Al", "Al", "Al", "Al"]
    ... positions = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    ... b_iso = 0.86
    ... [beam]
    ... kv = 200.0
    ... zone = [1, 1, 0]
    ... x_axis = [0, 0, 2]
    ... [roi]
    ... height = 30
    ... width = 30
    ... [[step]]
    ... refine = { thickness = [300, 900] }
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "disks.npy"), np.random.default_rng(0).poisson(30, (1, 48, 48)))
    ...     _ = Path(folder, "al.toml").write_text(settings)
    ...     configuration = load_config(Path(folder, "al.toml"))
    >>> [step.title for step in configuration.steps]
    ['thickness, tilt']
    """
    path = Path(path)
    file = FileInput(path)
    table = _toml(path)
    how: dict[str, Any] = {} if read_timeout is None else {"read_timeout": read_timeout}
    reader = ConfigReader(path, table, partial(open_images, allow_external=allow_external, **how))
    reader.known(table, ("data", "crystal", "beam", "simulation", "roi", "matching", "step"), "")
    crystal, beam = reader.crystal_and_beam()
    data = reader.data(crystal, beam)
    selection = tuple(f.name for f in fields(BeamSelection))
    simulation = reader.section("simulation", (*SIMULATION, *selection), needed=False)
    simulator = reader.checked(
        "simulation",
        lambda: BlochSimulator(
            crystal,
            beam,
            data.reflections,
            BeamSelection(**{name: value for name, value in simulation.items() if name in selection}),
            workers=workers,
            memory_limit=memory_limit,
            **{name: value for name, value in simulation.items() if name in SIMULATION},
        ),
    )
    roi = reader.roi()
    settings = reader.settings(reader.section("matching", MATCHING, needed=False), "matching")
    if device is not None:
        settings["device"] = str(parse_device(device))
    refiner = reader.checked("matching", lambda: CoarseRefine(simulator, data, roi, **settings))
    steps = reader.steps()
    if device is not None:
        steps = tuple(replace(step, settings=_without(step.settings, "device")) for step in steps)
    # A mistake in the last step must not show when hours have been spent on those before.
    for k, step in enumerate(steps, start=1):
        reader.checked(f"[[step]] {k}:", partial(_check_step, refiner, step))
    return Configuration(refiner, steps, file, tuple(reader.inputs.values()), table)


def _toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise DataError(msg) from error
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} is not TOML: {error}"
        raise DataError(msg) from error


def _without(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


def _check_step(refiner: "CoarseRefine", step: Step) -> None:
    refiner = refiner.with_(**step.settings) if step.settings else refiner
    if step.orientation is None:
        refiner.check(step.parameters, **step.options)
    else:
        refiner.check({"thickness": step.orientation})
