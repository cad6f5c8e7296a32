"""Options that mean the same in several commands."""

from pathlib import Path
from typing import Annotated

import typer

from ._config import load_config

__all__ = [
    "AllowExternal",
    "AsJson",
    "Axes",
    "Centers",
    "ConfigFile",
    "DatasetName",
    "DeviceName",
    "Images",
    "LayoutType",
    "LogLevel",
    "MaskFile",
    "MemoryLimit",
    "Offset",
    "Overwrite",
    "Quiet",
    "ReadTimeout",
    "Report",
    "Resume",
    "SaveConfig",
    "ScanShape",
    "Scheduler",
    "Shape",
    "SkipFrames",
    "SkipPerRow",
    "Workers",
]

_INPUT, _OUTPUT, _RUN = "Input", "Output", "Running"

Images = Annotated[list[str], typer.Argument(metavar="FILE...", help="Images and stacks: files, folders or globs.")]
MaskFile = Annotated[
    Path | None,
    typer.Option(help="Valid pixels (.npy .tif .h5): True or non-zero = valid.", rich_help_panel=_INPUT),
]
DatasetName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Dataset of HDF5 or zarr, series of TIFF, HDU.", rich_help_panel=_INPUT),
]
Report = Annotated[
    Path | None, typer.Option(metavar="FILE.html", help="One page with pictures.", rich_help_panel=_OUTPUT)
]
AsJson = Annotated[bool, typer.Option("--json", help="Summary as JSON on stdout.", rich_help_panel=_OUTPUT)]
MemoryLimit = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Most memory for buffers, as 512MB.", rich_help_panel=_RUN)
]
Workers = Annotated[int | None, typer.Option(help="CPU threads; one per core.", rich_help_panel=_RUN)]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:n or cuda:all.", rich_help_panel=_RUN)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.", rich_help_panel=_RUN)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.", rich_help_panel=_RUN)]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Work on a dask scheduler, as tcp://node1:8786 (DASK_SCHEDULER_ADDRESS).",
        rich_help_panel=_RUN,
    ),
]
Centers = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Table of centres, as `center` writes it.", rich_help_panel=_INPUT),
]
Shape = Annotated[str | None, typer.Option(metavar="N,H,W", help="Shape of a raw binary file.", rich_help_panel=_INPUT)]
LayoutType = Annotated[
    str | None, typer.Option(metavar="TYPE", help="Type of a raw file, as >u2.", rich_help_panel=_INPUT)
]
Offset = Annotated[int, typer.Option(help="Bytes before the data of a raw file.", rich_help_panel=_INPUT)]
ScanShape = Annotated[
    str | None, typer.Option(metavar="RY,RX", help="Scan shape, if not in the file.", rich_help_panel=_INPUT)
]
SkipFrames = Annotated[int, typer.Option(help="Frames before the scan.", rich_help_panel=_INPUT)]
SkipPerRow = Annotated[
    int, typer.Option(help="Frames behind each scan row (flyback) to leave out.", rich_help_panel=_INPUT)
]
Axes = Annotated[
    str | None,
    typer.Option(
        metavar="ORDER", help="Order of the file's axes, as yxRC for the detector first.", rich_help_panel=_INPUT
    ),
]
AllowExternal = Annotated[
    bool,
    typer.Option(
        "--allow-external", help="Follow links of a file to what lies outside its folder.", rich_help_panel=_INPUT
    ),
]
ReadTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="Longest time for one read of a file that may hang; 600.", rich_help_panel=_INPUT
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_RUN)]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        help="Options and inputs in a file; the command line goes before.",
        callback=load_config,
        is_eager=True,
        rich_help_panel=_RUN,
    ),
]
SaveConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Write the options of this run, for --config.", rich_help_panel=_RUN),
]
LogLevel = Annotated[
    str,
    typer.Option(metavar="debug|info|warning|error", help="What is said on stderr.", rich_help_panel=_RUN),
]
