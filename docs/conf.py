"""The settings of the site; ``docs/build.sh`` builds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from estbench import __version__

project = "estbench"
author = "The estbench developers"
copyright = "The estbench developers"  # noqa: A001  (the name that Sphinx reads)
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "estbench_site.extension",
]
exclude_patterns = ["_build", "_extensions"]

# Markdown and notebooks.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True  # they write results/
nb_merge_streams = True

# Python.
default_role = "code"  # single backticks in docstrings and in the help of commands
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False  # the pages of modules are made by estbench_site
napoleon_google_docstring = False
napoleon_use_ivar = True  # attributes are documented once
napoleon_use_rtype = False  # many a "Returns" is a sentence and no type

# Every reference must lead somewhere, except those to other libraries: the site is built without network, and so
# without their inventories.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|np|pandas|pd|pyarrow|pa|pydantic|annotated_types|matplotlib|mpl|click)\..*"),
    ("py:.*", r"(collections|contextlib|os|pathlib|types|typing)\..*"),
    ("py:class", "NoneType"),
    # Names in annotations that are imported only for type checking, and so stay as they are written.
    ("py:class", "(ArrayLike|Axes|Figure|NDArray|Path)"),
    ("py:class", "(Analysis|CertificateStatus|Check|DrawFigures|Helper|LineStyle|Name|Point|RenderedFigure)"),
]

html_theme = "furo"
html_title = "estbench"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_baseurl = "https://estbench.github.io/estbench/"
html_theme_options = {
    "source_repository": "https://github.com/estbench/estbench/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
