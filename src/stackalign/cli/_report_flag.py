"""`--report` of `coalign`, which was a flag before it named a page as it does in all other commands."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

__all__ = ["ReportOrPages"]


class ReportOrPages(TyperCommand):
    """A command that reads ``--report`` as ``--pages`` where no name of a page follows.

    An option with an optional value would take the file that comes next for its value.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command.parse_args`, which typer has a copy of."""
        return super().parse_args(ctx, flags_as_pages(args))


def flags_as_pages(words: Sequence[str]) -> list[str]:
    """Replace ``--report`` by ``--pages`` where the next word is no name of a page."""
    after = [*words, ""][1:]
    return [
        "--pages" if word == "--report" and not following.lower().endswith((".html", ".htm")) else word
        for word, following in zip(words, after, strict=True)
    ]
