# SPDX-License-Identifier: LGPL-2.1-or-later
"""How ./run docs builds the pages: Sphinx, with MyST for Markdown and furo for the looks.

The source folder is the repository, since README.md and status/format.md are pages, too: links lead
the same way here and on a Git host. Pages are those named in include_patterns.
"""

import pathlib
import re

_root = pathlib.Path(__file__).resolve().parent.parent
# Sphinx walks the folders that are not excluded: builds can hold whole systems.
_pages_live_in = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "status", "schemas"}

project = "libvirt-floor"
copyright = "the libvirt-floor authors, LGPL-2.1-or-later"
release = re.search(r"version: '([^']+)'", (_root / "meson.build").read_text())[1]

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md", "status/format.md"]
exclude_patterns = sorted(entry.name for entry in _root.iterdir() if entry.name not in _pages_live_in)

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # as a Git host makes them
# Metrics have lines that begin with "#" and hold an apostrophe: no shell would read them as a command.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"libvirt-floor {release}"
html_static_path = []
html_copy_source = False
html_show_sphinx = False
