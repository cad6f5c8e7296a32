"""Formulas as MathML, which browsers draw themselves: no script, no font and no request to another host."""

from html import escape
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

__all__ = ["setup"]


_log = logging.getLogger(__name__)


def _converted(node: nodes.math | nodes.math_block, **options: Any) -> str:
    try:
        return tex2mathml(node.astext(), **options)
    except MathError as error:
        _log.warning("a formula cannot be converted: %s", error, location=node)
        return f"<code>{escape(node.astext())}</code>"


def inline(self: Any, node: nodes.math) -> None:
    self.body.append(_converted(node))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math-block">{_converted(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
