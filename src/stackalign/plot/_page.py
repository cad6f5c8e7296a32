"""The HTML of a page: style, escaping, tables. Everything is inline; a page needs no network and no script."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["definitions", "escape", "items", "page", "table"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #ffffff;
  --band: #f6f8fa; --good: #00694b; --bad: #a84300; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9ca6b0; --line: #3a424b; --paper: #14171a; --band: #1d2126; --good: #4cc9a0;
    --bad: #ff9d57; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .2rem; padding-top: 1.2rem; border-top: 2px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p { margin: .3rem 0; max-width: 72ch; }
.soft { color: var(--soft); font-size: .9rem; }
.done { color: var(--good); font-weight: 600; }
.short { color: var(--bad); font-weight: 600; }
figure { margin: 1rem 0; }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line); }
.wide { overflow: auto; max-height: 34rem; }
.wide thead th { position: sticky; top: 0; background: var(--paper); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); }
tbody tr:nth-child(even) { background: var(--band); }
ul { margin: .3rem 0; padding-left: 1.2rem; max-width: 80ch; }
a { color: inherit; }
td > a { display: inline-block; min-width: 8em; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); gap: 0 3rem; }
code { font: .85em/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --band: #fff; --good: #000; --bad: #000; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  section { break-before: page; }
  h2 { border: 0; margin-top: 0; padding-top: 0; }
  h3 { break-after: avoid; }
  figure, tr, .columns > div { break-inside: avoid; }
  table { font-size: 8pt; line-height: 1.25; }
  th, td { padding-top: 2px; padding-bottom: 2px; }
  thead { display: table-header-group; }
  .wide { overflow: visible; max-height: none; }
}
@page { size: A4 landscape; margin: 12mm; }
"""


def escape(value: Any) -> str:
    """Make text safe for HTML, also a file name with bytes that are no text."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """Make a table of cells that are HTML already; the columns in ``numeric`` are set flush right."""
    right, right_class = set(numeric), ' class="n"'

    def row(cells: Sequence[str], tag: str, scope: str = "") -> str:
        shown = (f"<{tag}{scope}{right_class * (k in right)}>{cell}</{tag}>" for k, cell in enumerate(cells))
        return f"<tr>{''.join(shown)}</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    top = row(head, "th", ' scope="col"')
    # A table that scrolls must be reached by the keyboard.
    return f'<div class="wide" tabindex="0"><table><thead>{top}</thead>\n<tbody>\n{body}\n</tbody></table></div>'


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Make a table of two columns, name and value (HTML already)."""
    rows = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>' for name, value in pairs)
    return f"<table><tbody>\n{rows}\n</tbody></table>"


def items(texts: Iterable[str]) -> str:
    """Make a list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def page(title: str, body: str) -> str:
    """Make a whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
