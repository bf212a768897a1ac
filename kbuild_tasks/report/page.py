"""The page: its head, its style, its sections in the order in which one wants to read them at two in the morning."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources

from kbuild_tasks.core.when import when
from kbuild_tasks.report import changes, compilation, nodes, stages, summary
from kbuild_tasks.report.html import Html, join, missing, section, tag
from kbuild_tasks.report.model import Material

SECTIONS: dict[str, tuple[str, Callable[[Material], Html]]] = {
    "wrong": ("What is wrong", summary.wrong),
    "stages": ("Stages", stages.stages),
    "compile": ("Compilation", compilation.compilation),
    "changes": ("Against the last build", changes.changes),
    "patches": ("Patches", changes.patches),
    "rollout": ("Roll-out", nodes.rollout),
    "nodes": ("Nodes", nodes.nodes),
}


def page(told: Material) -> str:
    """The whole file. Whatever the material is, there is a page."""
    style = resources.files(__package__).joinpath("style.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = join(
        guarded("top", "kbuild-tasks", summary.head, told),
        tag("nav", [tag("a", title, href=f"#{ident}") for ident, (title, _) in SECTIONS.items()]),
        tag("main", [guarded(ident, title, make, told) for ident, (title, make) in SECTIONS.items()]),
        tag("footer", f"doit report, {when(told.at)}. Times are UTC."),
    )
    release = told.manifest.get("kernelrelease") or "nothing built yet"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{release}: report"),
        tag("style", Html(style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def guarded(ident: str, title: str, make: Callable[[Material], Html], told: Material) -> Html:
    """A section, or that what it is made from is damaged: JSON of another version may have any shape, and the other
    sections are worth reading all the same."""
    try:
        return make(told)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ArithmeticError) as error:
        return section(ident, title, missing(f"This part cannot be told: what it is made from is damaged ({error!r})."))
