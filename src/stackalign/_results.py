"""Results as tables of astropy and pandas, and in notebooks."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import MissingDependencyError

__all__ = ["Tabular", "flagged_frames"]

NOTEBOOK_ROWS = 20


class Tabular:
    """A result that is a table: one row per image, pattern, pair, peak or parameter."""

    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns of the table by name, of one length each."""
        raise NotImplementedError

    def column_units(self) -> Mapping[str, str]:
        """Units of the columns that have one, as astropy writes them."""
        return {}

    def to_table(self) -> Any:
        """Return the columns as an `astropy.table.Table`, with units.

        Returns
        -------
        astropy.table.Table
            With ``table.meta["stackalign"]``, the version.

        Raises
        ------
        MissingDependencyError
            astropy is not installed.
        """
        try:
            from astropy.table import Table
        except ImportError as error:
            msg = 'tables of astropy need it: pip install "stackalign[solar]"'
            raise MissingDependencyError(msg) from error
        from stackalign import __version__

        table = Table(self.columns(), meta={"stackalign": __version__, "result": type(self).__name__})
        for name, unit in self.column_units().items():
            if name in table.colnames:
                table[name].unit = unit
        return table

    def to_dataframe(self) -> Any:
        """Return the columns as a `pandas.DataFrame`; ``frame.attrs["units"]`` has their units.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        MissingDependencyError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            msg = "data frames need pandas: pip install pandas"
            raise MissingDependencyError(msg) from error
        frame = pd.DataFrame(self.columns())
        frame.attrs["units"] = dict(self.column_units())
        return frame

    def _repr_html_(self) -> str:
        """Picture, where there is one and matplotlib is installed, and table, for notebooks."""
        return _picture(self) + _html_table(self.columns(), self.column_units(), type(self).__name__)


def _picture(result: Tabular) -> str:
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        return ""
    from stackalign.plot.notebook import picture_of

    return picture_of(result)


def _html_table(columns: Mapping[str, NDArray[Any]], units: Mapping[str, str], name: str) -> str:
    """Rows of a table in HTML, the first of many."""
    n = len(next(iter(columns.values())))
    heads = [escape(c) + (f" ({escape(units[c])})" if c in units else "") for c in columns]
    rows = [
        "".join(f"<td>{_cell(values[k])}</td>" for values in columns.values()) for k in range(min(n, NOTEBOOK_ROWS))
    ]
    more = f"<p>… and {n - NOTEBOOK_ROWS:,} more rows.</p>" if n > NOTEBOOK_ROWS else ""
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    caption = f"<p><b>{escape(name)}</b>, {n:,} row{'' if n == 1 else 's'}</p>"
    return f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    return escape(str(value))


def flagged_frames(flags: Iterable[str | Sequence[str]], file: str | None = None) -> list[dict[str, Any]]:
    """List the images that are flagged, as all records of all commands have them.

    Parameters
    ----------
    flags : iterable of str or of sequences of str
        For each image its flags, in a sequence or as words with spaces between.
    file : str, optional
        Which file's images, where a record has several.

    Returns
    -------
    list of dict
        ``{"frame": n, "flags": [...]}``, with "file" first where that was given, for images with a flag alone.
    """
    named = {} if file is None else {"file": file}
    words = (text.split() if isinstance(text, str) else list(text) for text in flags)
    return [{**named, "frame": k, "flags": each} for k, each in enumerate(words) if each]
