"""The documentation site: `uv run --group docs sphinx-build -W docs site`; it loads nothing from elsewhere."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from mfpde import __version__

project = "mfpde"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "mfpde"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_copyright = False
html_math_renderer = "mathml"
exclude_patterns = ["studies", "_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_attr_annotations = False


def setup(app: Sphinx) -> None:
    """Formulas as MathML, which browsers draw by themselves: the site reads the same without a network."""
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))


def _inline(page: HTML5Translator, node: nodes.math) -> None:
    page.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _displayed(page: HTML5Translator, node: nodes.math_block) -> None:
    page.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode
