"""The page from plain data: what is told, what is escaped, and that there is a page whatever is missing or damaged."""

from __future__ import annotations

from dataclasses import fields, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from kbuild_tasks.report import chart, model, words
from kbuild_tasks.report.html import VOID, Html, tag, text
from kbuild_tasks.report.model import Material, troubles
from kbuild_tasks.report.page import SECTIONS, page
from tests.report_material import hostile, material

NOTHING = Material(at=1796060000.0)


class Reader(HTMLParser):
    """What a browser would make of it; every element is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]], closed: bool = False) -> None:
        self.tags.add(name)
        self.attributes |= {key for key, _ in attrs}
        told = dict(attrs)
        self.links += [value or "" for key, value in attrs if key in ("href", "src", "data", "action")]
        self.ids += [told["id"] or ""] if "id" in told else []
        if name not in ("meta", "br") and not closed:
            self._open.append(name)

    def handle_startendtag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(name, attrs, closed=True)

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop() == name

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_tells_of_the_whole_build() -> None:
    read = Reader(page(material()))
    for words_ in (
        *("6.1.2 needs a hand", "3 objects on 2 nodes in 6.5 s", "builder@k2", "gcc fs/a.o", "doit package fs/a.o"),
        *("package failed fs/a.o is not well", "k2: fell back", "1 object fell back to k1", "k2 took no part"),
        *("0001-a.patch changed (line 3)", "k2 refused the connection", "by plan", "local by design", "fell back"),
        *("6.1.1 → 6.1.2", "BRIDGE m y", "Z y m", "configured and not packaged yet", "+100 kB"),
        *("1 changed, 1 new, 1 gone", "fs: fs/a.o", "+3 −1"),
        *("copied 10 s", "reboot 1 min 0 s", "new patches/0001-a.patch", "gone patches/0000-old.patch"),
    ):
        assert words_ in read.text, words_
    assert [ident for ident in read.ids if ident in SECTIONS] == list(SECTIONS), "what is wrong comes first"


def test_names_are_text_whatever_they_hold() -> None:
    tame, wild = Reader(page(material())), Reader(page(hostile()))
    assert wild.tags == tame.tags
    assert wild.attributes == tame.attributes
    assert wild.ids == tame.ids
    assert "<script>document.title='broken in'</script>" in wild.text
    assert "\x1b" not in wild.text and "\u202e" not in wild.text


@pytest.mark.parametrize("told", [material(), hostile(), NOTHING])
def test_nothing_is_run_and_nothing_is_asked_for(told: Material) -> None:
    source = page(told)
    read = Reader(source)
    assert not read.tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "input", "use"}
    assert not [name for name in read.attributes if name.startswith("on") or name in ("style", "srcset")]
    assert all(link.startswith("#") for link in read.links)
    assert "default-src &#x27;none&#x27;" in source
    assert "url(" not in source and "@import" not in source and "@font-face" not in source


def test_nothing_built_yet() -> None:
    text_ = Reader(page(NOTHING)).text
    for words_ in (
        "nothing built yet",
        "No stage has run yet: doit",
        "Nothing was compiled yet",
        "There is no package yet",
    ):
        assert words_ in text_


ODD: list[Any] = [[], {}, "x", 3, None, [1], {"tasks": [1], "results": 3}, {"tasks": {"compile": {"objects": "x"}}}]


@pytest.mark.parametrize("name", [field.name for field in fields(Material) if field.name != "at"])
def test_any_part_may_be_missing_or_of_another_shape(name: str) -> None:
    for odd in ODD:
        if name == "manifest" and not isinstance(odd, dict):
            continue  # gather() reads records: JSON objects, or none
        Reader(page(replace(material(), **{name: odd})))


@pytest.mark.parametrize(
    "compiled",
    [
        {"per_node": [1]},
        {"per_node": {"k": "many"}, "objects": 3},
        {"fallbacks": {"a": 1}},
        {"fallbacks": [1, {}], "objects": 1},
        {"seconds": "long", "at": "never", "why": 3, "warnings": {"a": 1}},
        {"slots": 3, "per_node": {"k": 2}},
        {"at": 1e300},
    ],
)
def test_a_damaged_record_of_a_compilation(compiled: dict[str, Any]) -> None:
    Reader(page(replace(material(), done={"tasks": {"compile": {"state": "done", **compiled}}}, last_run={})))


def test_the_worst_comes_first() -> None:
    levels = [trouble.level for trouble in troubles(material())]
    assert levels == sorted(levels) and levels[0] == model.BAD
    assert troubles(NOTHING) == []


@pytest.mark.parametrize(
    ("plan", "verdict", "stale"),
    [
        ([{"task": "sync:k3", "state": "run", "why": ["is down"]}], "up to date", []),
        ([{"task": "prepare:k3", "state": "run", "why": ["x"]}], "up to date", []),
        ([{"task": "package", "state": "maybe", "why": ["if"]}], "older than your files", []),
        ([{"task": "patch", "state": "run", "why": ["a is new"]}], "older than your files", [("patch: a is new",)]),
    ],
)
def test_what_is_done_on_a_node_makes_no_package_old(plan: Any, verdict: str, stale: list[Any]) -> None:
    told = replace(NOTHING, manifest={"kernelrelease": "6.1"}, plan=plan)
    assert f"6.1 {verdict}" in Reader(page(told)).text
    assert [trouble.lines for trouble in troubles(told)] == stale


def rolled(**nodes: str) -> Material:
    """A roll-out of build "b" * 12: node -> "STATE", or "STATE of another build"."""
    entries = {}
    for name, told in nodes.items():
        step, _, other = told.partition(" of ")
        word = {"FELL_BACK": "fell back", "UNCORDONED": "verified", "": "not touched"}.get(step, step.lower())
        entries[name] = {"state": word, "step": step or None, "build": "a" * 12 if other else "b" * 12}
    return replace(NOTHING, manifest={"kernelrelease": "6.1", "packages_sha256": "b" * 64}, rollout=entries)


@pytest.mark.parametrize(
    ("nodes", "verdict", "told", "hint"),
    [
        ({"n7": "", "n2": ""}, "up to date", "", ""),
        ({"n7": "UNCORDONED of another", "n2": "UNCORDONED of another"}, "up to date", "", ""),
        ({"n7": "UNCORDONED", "n2": "UNCORDONED"}, "up to date", "", ""),
        ({"n7": "UNCORDONED", "n2": ""}, "roll-out not finished", "not touched: n2", "doit rollout goes on"),
        (
            {"n7": "BACK", "n2": "BOOTFILES_OK", "n3": "UNCORDONED of another"},
            "needs a hand",
            "on trial, not verified: n7; installed, not rebooted: n2; not touched: n3",
            "doit rollout goes on",
        ),
        (
            {"n7": "UNCORDONED", "n2": "ARMED", "n3": "BOOTFILES_OK"},
            "needs a hand",
            "armed: its next boot tries the kernel once: n2; installed, not rebooted: n3",
            "doit rollout goes on",
        ),
        (
            {"n7": "FELL_BACK", "n2": "BOOTFILES_OK"},
            "needs a hand",
            "installed, not rebooted: n2",
            "doit status tells what stopped it",
        ),
        ({"n7": "REBOOTING of another"}, "needs a hand", "rebooting: n7", "doit rollout goes on"),
    ],
)
def test_a_roll_out_that_is_half_done(nodes: dict[str, str], verdict: str, told: str, hint: str) -> None:
    material_ = rolled(**nodes)
    found = [trouble for trouble in troubles(material_) if "not finished" in trouble.title]
    assert [(t.title, t.hint) for t in found] == ([(f"roll-out not finished: {told}", hint)] if told else [])
    text_ = Reader(page(material_)).text
    assert f"6.1 {verdict}" in text_
    assert not told or f"{told} next: {hint}" in text_
    where = [part.rpartition(": ")[0] for part in told.split("; ") if not part.startswith("not touched")]
    assert all(word in text_[text_.index("known-good") :] for word in where), "and node by node"


@pytest.mark.parametrize(
    ("running", "verdict", "killed"),
    [
        (None, "needs a hand", ["the last run was killed after 8 s"]),
        ({}, "a run is in progress", []),
        ({"pid": 1}, "a run is in progress", []),
    ],
)
def test_a_run_that_was_killed(running: Any, verdict: str, killed: list[str]) -> None:
    last = {"result": "running", "started": "2026-11-30T17:23:54+0000", "seconds": 8, "tasks": {}}
    told = replace(NOTHING, last_run=last, running=running)
    assert [(t.title, t.hint) for t in troubles(told)] == [(title, "doit") for title in killed]
    text_ = Reader(page(told)).text
    assert verdict in text_ and (("killed, 2026-11-30 17:23 UTC, 8 s" in text_) == bool(killed))


@pytest.mark.parametrize(
    ("more", "shown"), [({"linux": 40}, "42 files"), ({"linux": "x"}, "2 files"), ([1], "2 files")]
)
def test_files_beyond_those_that_are_listed_are_counted(more: Any, shown: str) -> None:
    told = material()
    assert shown in Reader(page(replace(told, now={**told.now, "more": more}))).text


def test_no_path_of_the_builder_is_in_the_page() -> None:
    source = page(replace(NOTHING, root="/home/eve/linux"))
    assert "/home/eve" not in source and ">linux<" in source


def test_busy_slots_are_those_of_the_compile_phase() -> None:
    from kbuild_tasks.core.spans import Span
    from kbuild_tasks.core.trace import Timeline
    from kbuild_tasks.report.compilation import _busy

    spans = [Span("a.o", "k", 0.0, 3.0), Span("b.o", "k", 8.0, 20.0)]
    line = Timeline(0.0, 20.0, tuple(spans), (("prepare", 0.0, 2.0), ("compile", 2.0, 10.0), ("link", 10.0, 20.0)))
    assert _busy(spans, line, 1) == "38%"
    assert _busy(spans, replace(line, phases=()), 1) == "–"


@pytest.mark.parametrize(
    ("state", "titles"), [("left-out", ["k3 took no part in the last build"]), ("ready", ["prepare:k3 warned"])]
)
def test_a_node_that_is_left_out_shows_that_and_not_what_it_warned_before(state: str, titles: list[str]) -> None:
    done = {"tasks": {"prepare:k3": {"state": "done", "warnings": ["little memory"]}}}
    told = replace(NOTHING, nodes={"k3": {"state": state}}, done=done)
    assert [trouble.title for trouble in troubles(told)] == titles


def test_a_node_that_was_left_out_was_not_done() -> None:
    entry = {"state": "done", "left_out": "k3 is down", "message": "left out: k3 is down"}
    read = Reader(page(replace(NOTHING, tasks=("sync:k3",), last_run={"tasks": {"sync:k3": entry}})))
    assert "sync left out 1 node k3 left out: k3 is down" in read.text


def test_one_cause_of_many_failures_is_told_once() -> None:
    failed = {"state": "failed", "why": ["no answer"]}
    told = replace(NOTHING, last_run={"tasks": {"verify:k1": failed, "verify:k2": failed, "x": {"state": "held"}}})
    assert [(t.title, t.lines) for t in troubles(told)] == [
        ("verify:k1, verify:k2 failed", ("no answer",)),
        ("held by that: x", ()),
    ]


def test_a_run_with_nothing_to_do_does_not_hide_what_was_done() -> None:
    done = {"tasks": {"patch": {"state": "done", "message": "7 applied", "at": 1}}}
    told = replace(NOTHING, done=done, last_run={"tasks": {"patch": {"state": "fresh"}}})
    assert told.acted["patch"]["message"] == "7 applied"
    failed = replace(told, last_run={"tasks": {"patch": {"state": "failed", "why": ["x"]}}})
    assert failed.acted["patch"] == {"state": "failed", "why": ["x"]}, "nothing of the success before is told of it"
    again = replace(told, last_run={"tasks": {"patch": {"state": "done", "message": "7 applied"}}})
    assert again.acted["patch"]["at"] == 1


def test_many_objects_are_drawn_in_few_elements() -> None:
    from kbuild_tasks.core.spans import Span

    spans = [Span(f"o{n}.o", "k", n * 0.1, n * 0.1 + 0.09) for n in range(20_000)]
    drawn = chart.node_lanes(spans, 2000.0, 8, each=False)
    assert drawn.count("<rect") == chart.NAMED
    assert len(drawn) < 700_000


def test_elements_escape_what_is_no_html() -> None:
    assert tag("p", "<b>", Html("<i>x</i>"), class_='"') == '<p class="&quot;">&lt;b&gt;<i>x</i></p>'
    assert tag("p", ["a", None, ("b",)], title=None) == "<p>ab</p>"
    assert text("\x00\udc80") == "\\x00\\x80"
    assert "meta" in VOID and tag("meta", name="x") == '<meta name="x">'


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (words.size(999), "999 B"),
        (words.size(73_928), "74 kB"),
        (words.size(13_249_299), "13.2 MB"),
        (words.signed(-2200), "−2 kB"),
        (words.signed(0), "as before"),
        (words.took(0.25), "0.2 s"),
        (words.took(4), "4 s"),
        (words.took("x"), ""),
        (chart.clock(65), "1:05"),
        (chart.clock(3905), "1:05:05"),
        (chart.clock(0.5), "0.5"),
    ],
)
def test_numbers_as_people_read_them(told: str, shown: str) -> None:
    assert told == shown


@pytest.mark.parametrize("seconds", [0.3, 1, 6, 59, 264, 3600, 90_000])
def test_ticks_are_few_and_round(seconds: float) -> None:
    assert 2 <= len(chart.ticks(seconds)) <= 14


def test_no_roll_out_waits_for_a_node_on_hold() -> None:
    """Unless it was put there in the middle of one."""
    material_ = rolled(n7="UNCORDONED", n2="", n3="ARMED")
    on_hold = {name: {**material_.rollout[name], "state": "on hold"} for name in ("n2", "n3")}
    done = replace(material_, rollout={**material_.rollout, "n2": on_hold["n2"], "n3": material_.rollout["n7"]})
    assert not [trouble for trouble in troubles(done) if "not finished" in trouble.title]
    [cut] = [
        t for t in troubles(replace(done, rollout={**done.rollout, "n3": on_hold["n3"]})) if "not finished" in t.title
    ]
    assert "n3" in cut.title and "n2" not in cut.title
