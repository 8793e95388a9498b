"""What the site shows that is not written in docs/: results, the changelog, flags, the HTTP API.

mkdocs calls the functions named on_*. A line `<!-- generated: NAME ARGUMENTS -->` of a page is
replaced by what the function of that name in `GENERATORS` returns. What stands between the lines
`<!-- in a checkout -->` and `<!-- end -->` is left out.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable
from typing import Any

import flag_tables
import http_api
import notebook
import public_names
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

log = get_plugin_logger("site")
ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results"
# Page of the site -> file of the project, where it is not in docs/.
PAGES = {"changelog.md": ROOT / "CHANGELOG.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
GENERATORS: dict[str, Callable[..., str]] = {
    "flag_files": flag_tables.files,
    "commands": flag_tables.commands,
    "http_api": http_api.page,
    "notebook": notebook.section,
    "public_names": public_names.section,
}
# What a page says to those who read its file, where the site shows more.
_IN_A_CHECKOUT = re.compile(r"<!-- in a checkout -->\n.*?<!-- end -->\n+", re.DOTALL)
_MARK = re.compile(r"^<!-- generated: (\w+) ?(.*?) -->$", re.MULTILINE)
# A link from a page of docs/ to a file outside it, as it works in a checkout.
_OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:experiments/results/|CHANGELOG|CONTRIBUTING)[^)]*)\)")
# What a browser would fetch from elsewhere to show a page.
_FETCHED = re.compile(r"""<(?:script|img|iframe)[^>]*src="?https?:|<link[^>]*href="?https?:""")
# The reverse: a link from a page that lies elsewhere to one of docs/.
_INTO_DOCS = re.compile(r"\]\((?:\.\./)+docs/([^)]*)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that lie elsewhere in the project."""
    results = [*RESULTS.rglob("*.md"), *RESULTS.rglob("*.svg")]
    places = {f"results/{path.relative_to(RESULTS).as_posix()}": path for path in results}
    del places["results/benchmark_notes.md"]  # the end of benchmark.md
    for name, path in {**PAGES, **places}.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is generated, and let links to the added pages lead to them."""
    markdown = _IN_A_CHECKOUT.sub("", markdown)
    up = "../" * page.file.src_uri.count("/")
    markdown = _OUTSIDE.sub(lambda link: f"]({up}{_place(link[1])})", markdown)
    markdown = _INTO_DOCS.sub(rf"]({up}\1)", markdown)
    return _MARK.sub(lambda mark: GENERATORS[mark[1]](*mark[2].split()), markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warn of a page that cannot be read offline."""
    if fetched := _FETCHED.search(output):
        log.warning("%s fetches from elsewhere: %s", page.file.src_uri, fetched[0])
    return output


def _place(path: str) -> str:
    """Return where the site has a file of the project."""
    name, hash_sign, anchor = path.partition("#")
    name = name.removeprefix("experiments/") if "/" in name else name.lower()
    return name + hash_sign + anchor
