"""Entry point of the command `stackalign`."""

import logging
import sys
from typing import Annotated

import typer

from stackalign import __version__

from ._console import FAILED, plain_warnings, say, user_log
from ._report_flag import ReportOrPages
from .align import align
from .bench import bench
from .center import center
from .coalign import coalign
from .crop import crop
from .drift import drift
from .info import info
from .mask import mask_command
from .nfold import nfold
from .peaks import peaks
from .profile import profile
from .refine import refine
from .verify import verify
from .warmup import warmup

__all__ = ["app", "main"]

app = typer.Typer(
    help="Batched operations on stacks of images, on CPU and CUDA, and the pipelines that stand on them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",  # not the default of every version; brackets in help texts are escaped for it
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(align)
app.command()(bench)
app.command()(center)
app.command(cls=ReportOrPages)(coalign)
app.command()(crop)
app.command()(drift)
app.command()(info)
app.command("mask")(mask_command)
app.command()(nfold)
app.command()(peaks)
app.command()(profile)
app.command()(refine)
app.command()(verify)
app.command()(warmup)


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"stackalign {__version__}\n")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""
    user_log.setLevel(logging.WARNING)
    user_log.detailed = False
    logging.getLogger("stackalign").setLevel(logging.NOTSET)
    logging.getLogger("stackalign").addHandler(user_log)
    context.with_resource(plain_warnings())


def main(words: list[str] | None = None) -> None:
    """Run the command line, by default that of this process; also an interruption before it is read is one line."""
    try:
        app(words)
    except KeyboardInterrupt as error:
        say("Aborted.")
        raise SystemExit(FAILED) from error


if __name__ == "__main__":
    main()
