"""Settings of the documentation site: `sphinx-build -W docs build/docs`, then open build/docs/index.html.

Pages load nothing from the network: the theme brings its scripts, and formulas become MathML when the site is built.
"""

from __future__ import annotations

from importlib.metadata import version as installed

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

project = "hybrid-sim"
author = "hybrid_sim maintainers"
release = installed("hybrid-sim")

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"hybrid-sim {release}"
html_copy_source = False
html_math_renderer = "mathml"


def _inline(writer: nodes.NodeVisitor, node: nodes.math) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: nodes.NodeVisitor, node: nodes.math_block) -> None:
    writer.body.append(f'<div style="padding: 0.5rem">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Formulas as MathML, which browsers draw themselves; the default of Sphinx loads a script from a server."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
