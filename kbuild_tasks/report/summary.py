"""The head of the page: what was built, by whom, how long it took; then what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from kbuild_tasks.core.when import when
from kbuild_tasks.report.html import Html, chip, code, facts, join, missing, section, tag
from kbuild_tasks.report.model import BAD, Material, Trouble, object_count, troubles, unfinished
from kbuild_tasks.report.words import plural, took


def head(told: Material) -> Html:
    release = told.manifest.get("kernelrelease") or "no kernel yet"
    found = troubles(told)
    word, kind = _verdict(told, found)
    return tag(
        "header",
        tag("p", "kbuild-tasks", tag("span", PurePath(told.root).name, class_="root"), class_="over"),
        tag("h1", release, " ", chip(word, kind)),
        _lead(told),
        _facts(told),
        id="top",
    )


def _verdict(told: Material, found: list[Trouble]) -> tuple[str, str]:
    if told.running is not None:
        return "a run is in progress", "busy"
    if any(trouble.level == BAD for trouble in found):
        return "needs a hand", "bad"
    if not told.manifest:
        return "nothing built yet", "quiet"
    if told.older:
        return "older than your files", "warn"
    if unfinished(told):
        return "roll-out not finished", "warn"
    return "up to date", "ok"


def _lead(told: Material) -> Html | None:
    """One sentence: what the build that made the packages cost."""
    compiled = told.compiled
    count = object_count(compiled)
    nodes = compiled.get("per_node")
    if not count or not isinstance(nodes, Mapping):
        return None
    cached = compiled.get("ccache")
    hits = cached.get("hits") if isinstance(cached, Mapping) else None
    return tag(
        "p",
        f"{plural(count, 'object')} on {plural(len(nodes), 'node')} in {took(compiled.get('seconds'))}",
        f", and {plural(hits, 'object')} from ccache" if hits else "",
        ".",
        class_="lead",
    )


def _facts(told: Material) -> Html:
    manifest = told.manifest
    compiler = manifest.get("compiler")
    compiler = compiler.get("text") if isinstance(compiler, Mapping) else None
    sha = manifest.get("packages_sha256")
    packaged = told.acted.get("package", {})
    last = told.last_run
    result = "killed" if told.killed else last.get("result")
    run = f"{result}, {when(last.get('started'))}, {took(last.get('seconds'))}" if last else None
    return facts(
        ("packaged", when(packaged.get("at") if packaged.get("state") == "done" else None) or when(told.now.get("at"))),
        ("by", packaged.get("by")),
        ("last run", run),
        ("compiler", compiler),
        ("build id", _short(manifest.get("build_id"))),
        ("packages", _short(sha)),
        ("commit", _short(manifest.get("commit")) or ("none: not all of it was committed" if manifest else None)),
        ("again", code(manifest["reproduce"]) if manifest.get("reproduce") else None),
    )


def _short(digest: Any) -> Html | None:
    return tag("code", str(digest)[:12], title=str(digest)) if digest else None


def wrong(told: Material) -> Html:
    found = troubles(told)
    if not found:
        return section("wrong", "What is wrong", missing("Nothing that is known here."))
    return section("wrong", "What is wrong", tag("ul", [_trouble(item) for item in found], class_="troubles"))


def _trouble(item: Trouble) -> Html:
    lines = [tag("div", line, class_="evidence") for line in item.lines]
    log = tag("div", "log: ", code(item.log), class_="next") if item.log else None
    hint = tag("div", "next: ", tag("b", item.hint), class_="next") if item.hint else None
    mark = chip("wrong" if item.level == BAD else "mind", item.level)
    return tag("li", tag("div", mark, " ", tag("strong", item.title)), join(lines, log, hint), class_=item.level)
