"""How the pages are built: `make docs` runs every block of code and writes build/docs."""

import hashlib
import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]
# Pictures of notebooks are drawn by Jupyter's own backend, whatever the shell asks for.
os.environ.pop("MPLBACKEND", None)
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import figures  # noqa: E402

import unnorm  # noqa: E402

project = "unnorm"
author = "the unnorm developers"
copyright = "2026, the unnorm developers"
version = release = unnorm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "myst_nb",
    "mathml",
    "public_names",
    "shell",
]
exclude_patterns = [
    "_ext",
    "cases/*.rst",
    "gallery/*.rst",
    "generated/**/*.ipynb",
    "**/sg_execution_times.rst",
    "sg_execution_times.rst",
]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}
default_role = "code"
nitpicky = False
suppress_warnings = ["config.cache"]  # the gallery's settings hold objects

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Pages are executed again when their code or the package changes.
_sources = sorted((ROOT / "unnorm").rglob("*.py"))
_package = hashlib.sha256(b"".join(path.read_bytes() for path in _sources)).hexdigest()[:16]
nb_execution_mode = "cache"
nb_execution_cache_path = str(
    ROOT / "build" / "docs_cache" / os.environ.get("UNNORM_DOCS_CACHE", _package)
)
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress
nb_ipywidgets_js = {}

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": ["gallery", "cases"],
    "gallery_dirs": ["generated/gallery", "generated/cases"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib", figures.FigureScraper()),
    "doc_module": ("unnorm",),
    "backreferences_dir": "generated/backreferences",
    "inspect_global_variables": False,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 10_000,
    "show_memory": False,
    "write_computation_times": False,
    "abort_on_example_error": False,
    "remove_config_comments": True,
    "plot_gallery": "True",
}

html_theme = "pydata_sphinx_theme"
html_title = "unnorm"
html_static_path = ["_static"]
html_css_files = ["unnorm.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
# A page opened from disk may not read its neighbours, which the summaries of a search need.
html_show_search_summary = False
html_context = {"default_mode": "auto"}
html_sidebars = {page: [] for page in ("index", "install", "tutorial", "which_method", "limits")}
html_theme_options = {
    "logo": {"text": "unnorm"},
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
}
