"""How Sphinx builds the pages; `python docs/build.py` runs it."""

import inspect
from pathlib import Path

from docutils import nodes

import bayeslmm

project = "bayeslmm"
author = "The bayeslmm developers"
copyright = author
version = release = bayeslmm.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode", "numpydoc", "myst_nb"]
templates_path = [str(Path(__file__).parent / "templates")]
nitpicky = True
default_role = "py:obj"

html_theme = "furo"
html_title = f"bayeslmm {version}"
html_copy_source = False
html_extra_path = [str(Path(__file__).parent / "_build" / "extra")]  # the interactive pages, written by build.py
html_show_sphinx = False

autosummary_generate = True
autodoc_typehints = "none"  # the sections say the types, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class's page shows them in full
numpydoc_xref_param_type = False

nb_execution_mode = "off"  # the notebooks are committed with what they showed
myst_heading_anchors = 2
myst_enable_extensions = ["attrs_inline", "dollarmath"]

# Texts in single backticks that are no links: what belongs to other packages, and what callables take.
ELSEWHERE = {"arviz", "numpy", "np", "pm"}
INSTANCES = {"lmm": "bayeslmm.LMM", "fit": "bayeslmm.likelihood.fit.LikelihoodFit"}


def plain_names() -> set[str]:
    """The parameters of all public callables and of their methods."""
    found: set[str] = set()
    for name in bayeslmm.__all__:
        public = getattr(bayeslmm, name)
        owned = [member for key, member in inspect.getmembers(public) if not key.startswith("_")]
        for call in (one for one in [public, *owned] if inspect.isfunction(one) or inspect.ismethod(one)):
            found.update(inspect.signature(call).parameters)
        found.update(getattr(public, "__dataclass_fields__", ()))
    return found


def resolve(app, env, node, contnode):
    """Link `lmm.ml`; show a parameter, or another package's name, as a literal; what is left is a broken reference."""
    if node.get("reftype") != "obj":
        return None
    target = node["reftarget"]
    first, _, rest = target.partition(".")
    if rest and first in INSTANCES:
        whole, python = f"{INSTANCES[first]}.{rest}", env.get_domain("py")
        return python.resolve_xref(env, node["refdoc"], app.builder, "obj", whole, node, contnode)
    if target in app.config.plain or first in ELSEWHERE:
        return nodes.literal(target, target)
    return None


def setup(app):
    """Connect what is above."""
    app.add_config_value("plain", plain_names(), "env")
    app.connect("missing-reference", resolve)
