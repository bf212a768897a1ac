"""What a terminal and a log file see of a running stage."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from kbuild_tasks.plugin.progress import Progress, render

SHOT = {
    "done": 3,
    "total": 10,
    "phase": "compile",
    "seconds": 20.0,
    "rate": 0.5,
    "eta": 14.0,
    "in_use": {"k2": 1},
    "slots": {"k2": 2},
    "per_node": {"k2": 3},
    "fallbacks": 0,
    "gone": (),
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(stream: io.StringIO, clock: Callable[[], float] | None = None, **environ: str) -> Progress:
    return Progress(stream, {"TERM": "xterm", **environ}, clock or Clock(), lambda: 60)


def test_one_line_in_place_on_a_terminal() -> None:
    stream = Terminal()
    shown = progress(stream)
    shown.show("compile", SHOT)
    shown.show("compile", {**SHOT, "done": 4})
    text = "  compile  compile  3/10 objects  0.5/s  14 s left  k2 1/2"
    assert stream.getvalue() == f"\r\x1b[K{text}\r\x1b[K{text.replace('3/10', '4/10')}"
    assert len(text) < 60


def test_a_line_while_another_thread_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module stands in sys.modules before its functions do."""
    from kbuild_tasks.plugin.reporter import Reporter

    monkeypatch.setitem(sys.modules, "kbuild_tasks.plugin.progress", ModuleType("kbuild_tasks.plugin.progress"))
    out = io.StringIO()
    Reporter(out, {})._line("fresh", "extract", "")
    assert out.getvalue() == "  fresh  extract\n"


def test_the_line_is_taken_away_once() -> None:
    stream = Terminal()
    shown = progress(stream)
    shown.clear()
    assert stream.getvalue() == ""
    shown.show("compile", SHOT)
    shown.show("compile", {"ended": True})
    shown.clear()
    assert stream.getvalue().count("\r\x1b[K") == 2
    assert stream.getvalue().endswith("\r\x1b[K")


def test_never_wider_than_the_terminal() -> None:
    stream = Terminal()
    shown = Progress(stream, {"TERM": "xterm"}, Clock(), lambda: 30)
    shown.show("compile", {**SHOT, "slots": {f"kubenode{n}": 4 for n in range(20)}})
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) < 30


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_no_live_line_where_it_is_not_wanted(environ: dict[str, str]) -> None:
    stream = Terminal()
    shown = progress(stream, **environ)
    shown.show("compile", SHOT)
    assert stream.getvalue() == ""


def test_a_plain_line_every_ten_seconds_without_a_terminal() -> None:
    stream, clock = io.StringIO(), Clock()
    shown = progress(stream, clock)
    for tenth in range(0, 301):
        clock.now = tenth / 10
        shown.show("compile", SHOT)
    assert stream.getvalue().splitlines() == ["  compile  compile  3/10 objects  0.5/s  14 s left  k2 1/2"] * 3
    assert "\r" not in stream.getvalue()


def test_a_short_stage_says_nothing_in_a_log() -> None:
    stream = io.StringIO()
    shown = progress(stream)
    shown.show("extract", {"step": "unpack"})
    shown.show("extract", {"ended": True})
    assert stream.getvalue() == ""


def test_steps_of_other_stages() -> None:
    assert render("extract", {"step": "unpack"}) == "  extract  unpack"
    assert render("extract", {"bytes": 3}) == ""


def test_a_terminal_that_went_away_does_not_end_the_build() -> None:
    stream = Terminal()
    shown = progress(stream)
    stream.close()
    shown.show("compile", SHOT)
    shown.clear()
