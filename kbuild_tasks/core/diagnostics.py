"""What went wrong in a kernel build, found in its output: the cause, not the dozen lines of make that follow it.

Forms, by the program that writes them:
    gcc, as   FILE:LINE:COL: error: TEXT      FILE:LINE: Error: TEXT      gcc: fatal error: Killed signal ... cc1
    modpost   ERROR: modpost: "SYMBOL" [MODULE.ko] undefined!
    ld        ld: FILE.o: in function `F': FILE.c:(.text+0x1): undefined reference to `SYMBOL'
    make      make[3]: *** No rule to make target 'A', needed by 'B'.  Stop.
The first errors count most: later ones are often consequences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_GCC = re.compile(r"(?P<file>[^\s:][^:]*):(?P<line>\d+):(?:\d+:)? (?:fatal )?(?:error|Error): (?P<text>.+)")
_INCLUDED = re.compile(r"(?:In file included from|\s+from) (?P<file>[^\s:][^:]*):(?P<line>\d+)")
_MODPOST = re.compile(r'ERROR: modpost: "(?P<symbol>[^"]+)" \[(?P<module>[^\]]+)\] undefined!')
_MODPOST_OTHER = re.compile(r"(?:ERROR|FATAL): modpost: (?P<text>.+)")
_UNDEFINED = re.compile(
    r"(?:\S*ld(?:\.\w+)?: )?(?P<file>[^\s:(]+)(?::\d+)?:?(?:\([^)]*\))?: undefined reference to [`'](?P<symbol>[^`']+)'"
)
_MULTIPLE = re.compile(r"(?:.*ld(?:\.\w+)?: )?(?P<file>[^\s:(]+):.*multiple definition of [`'](?P<symbol>[^`']+)'")
_NO_RULE = re.compile(
    r"make(?:\[\d+\])?: \*\*\* No rule to make target [`'](?P<what>[^']+)'(?:, needed by '(?P<by>[^']+)')?"
)
_MAKEFILE = re.compile(r"(?P<file>[^\s:][^:]*):(?P<line>\d+): \*\*\* (?P<text>.+?)\.  Stop\.")
_KILLED = re.compile(
    r"Killed signal terminated program (?P<program>\S+)|virtual memory exhausted|out of memory allocating"
)
_STOPPED = re.compile(r"make(?:\[\d+\])?: \*\*\* \[(?P<where>[^\]]*)\] (?P<text>Error \d+.*|Killed|Terminated)")


@dataclass(frozen=True)
class Problem:
    """kind: compile | symbol | link | rule | memory | other. `file` is relative to the tree, "" where there is none."""

    kind: str
    text: str
    file: str = ""
    line: int = 0
    included_by: tuple[str, ...] = ()

    def shown(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else (f"{self.file}: " if self.file else "")
        return where + self.text


def find(lines: Iterable[str], tree: str = "") -> list[Problem]:
    """Problems in the order of the output, each once; `tree` is a prefix of paths that is dropped."""
    found: dict[tuple[str, str, int, str], Problem] = {}
    chain: list[str] = []
    for line in lines:
        included = _INCLUDED.match(line)
        if included:
            if line.startswith("In file"):
                chain = []
            chain.append(_short(included["file"], tree))
            continue
        problem = _problem(line, tree, tuple(chain))
        if problem:
            found.setdefault((problem.kind, problem.file, problem.line, problem.text), problem)
        if ": note: " not in line and not line.startswith(" ") and ": In function" not in line:
            chain = []
    return list(found.values())


def _problem(line: str, tree: str, chain: tuple[str, ...]) -> Problem | None:
    if match := _GCC.match(line):
        return Problem("compile", match["text"], _short(match["file"], tree), int(match["line"]), chain)
    if match := _MODPOST.search(line):
        module = match["module"]
        return Problem("symbol", f"{match['symbol']} is used and nothing exports it", _short(module, tree))
    if match := _MODPOST_OTHER.search(line):
        return Problem("symbol", match["text"])
    if match := _UNDEFINED.match(line):
        return Problem("link", f"{match['symbol']} is used and not defined", _source(match["file"], tree))
    if match := _MULTIPLE.match(line):
        return Problem("link", f"{match['symbol']} is defined more than once", _source(match["file"], tree))
    if match := _NO_RULE.match(line):
        by = f", which {match['by']} needs" if match["by"] else ""
        return Problem("rule", f"there is no {match['what']}{by}, and nothing makes it", _short(match["what"], tree))
    if match := _MAKEFILE.match(line):
        return Problem("rule", match["text"], _short(match["file"], tree), int(match["line"]))
    if match := _KILLED.search(line):
        return Problem("memory", f"{match['program'] or 'the compiler'} ran out of memory")
    return None


def stopped_at(lines: Iterable[str]) -> str:
    """The innermost target that make gave up, "" where it did not say: 'fs/ext4/inode.o: Error 1'."""
    for line in lines:
        if match := _STOPPED.match(line):
            return f"{match['where'].rpartition(': ')[2]}: {match['text']}"
    return ""


def blame(problem: Problem, touched: Mapping[str, Sequence[str]]) -> list[str]:
    """Patches that touched the file of a problem, or the files that include it, or the directory's Makefile."""
    stem = problem.file.rpartition(".")[0]
    near: tuple[str, ...] = {
        "symbol": (f"{stem}.c",),
        "rule": (f"{problem.file.rpartition('/')[0]}/Makefile".lstrip("/"), f"{stem}.c"),
    }.get(problem.kind, ())
    if (
        problem.kind == "link" and "/" not in problem.file
    ):  # ld knows the name that the compiler left, without directory
        near = tuple(path for path in touched if path.rpartition("/")[2] == problem.file)
    named: dict[str, None] = {}
    for path in (problem.file, *near, *problem.included_by):
        for patch in touched.get(path, ()):
            named.setdefault(patch.rpartition("/")[2])
    return list(named)


def explain(
    lines: Sequence[str], touched: Mapping[str, Sequence[str]], tree: str = "", shown: int = 4
) -> tuple[str, list[str], str | None] | None:
    """(message, evidence, hint) for a failed build; None where the output tells no cause that we know."""
    problems = find(lines, tree)
    if not problems:
        return None
    order = [problem for problem in problems if problem.kind == "memory"] or problems
    first = order[0]
    patches = blame(first, touched)
    because = f" ({', '.join(patches)} touched {_touched_file(first, touched)})" if patches else ""
    evidence = []
    for problem in order[1:shown]:
        by = blame(problem, touched)
        evidence.append(problem.shown() + (f" ({', '.join(by)})" if by else ""))
    if len(order) > shown:
        evidence.append(f"and {len(order) - shown} more")
    return first.shown() + because, evidence, _hint(first, patches)


def _touched_file(problem: Problem, touched: Mapping[str, Sequence[str]]) -> str:
    if problem.file in touched:
        return "it"
    return next((path for path in problem.included_by if path in touched), "what it is made from")


def _hint(problem: Problem, patches: Sequence[str]) -> str | None:
    if problem.kind == "memory":
        return "lend fewer slots, or raise memory_per_job of the coordinator in cluster.yaml"
    if patches:
        return f"fix {patches[-1]} and run doit again: only what depends on it is compiled"
    if problem.kind == "symbol":
        return "enable the option whose code exports it, in a fragment; or give the series an EXPORT_SYMBOL_GPL()"
    return None


def _source(file: str, tree: str) -> str:
    return _short(file, tree).rstrip(":")


def _short(path: str, tree: str) -> str:
    if tree and path.startswith(tree.rstrip("/") + "/"):
        path = path[len(tree.rstrip("/")) + 1 :]
    return path.removeprefix("./")
