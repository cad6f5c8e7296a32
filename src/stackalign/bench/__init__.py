"""Benchmarks of this machine: operations and pipelines, beside other packages, with the machine's own ceilings."""

from .comparison import Change, compare
from .report import markdown, write_report
from .runner import GROUPS, run_benchmarks, save
from .timing import Times, take_turns

__all__ = ["GROUPS", "Change", "Times", "compare", "markdown", "run_benchmarks", "save", "take_turns", "write_report"]
