"""YAML text -> the plain tree of core/schema.py: values with their lines, nothing constructed, nothing expanded.

Built from the parser's events and not by yaml.load, because load forgets lines, lets the second of two equal keys win
silently, follows aliases (a few lines of them can stand for gigabytes) and reads YAML 1.1, where `tmpfs: off` is
False, 12:30 is 750 and 2027-01-31 is an object. Scalars here are YAML 1.2's core schema, as editors have it.
libyaml's parser is used where PyYAML has it (ten times faster). `import yaml` costs 14 ms: it is done on the call.
"""

from __future__ import annotations

from typing import Any

from kbuild_tasks.core.schema import Problem, Tree, place, word

MAX_DEPTH = 20
MAX_BYTES = 4 << 20  # 1,000 nodes take 100 KB
_FIRST = frozenset("-+.0123456789~nNtTfF")
_FLOAT = frozenset("+-.0123456789eE")
_NAMED: dict[str, Any] = {
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class _Fatal(Exception):
    """Nothing after this can be read; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def parse(data: bytes) -> tuple[Tree | None, list[Problem]]:
    """The tree, or None where there is none to speak of; and the problems: syntax, duplicate keys, aliases, tags."""
    if len(data) > MAX_BYTES:
        return None, [Problem(1, "", f"is larger than {MAX_BYTES >> 20} MiB: this is no cluster.yaml")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [Problem(line, "", f"is not UTF-8 (byte 0x{data[error.start]:02x})", "save the file as UTF-8")]
    problems: list[Problem] = []
    try:
        return _tree(text, problems), problems
    except _Fatal as fatal:
        return None, [*problems, fatal.problem]


def _tree(text: str, problems: list[Problem]) -> Tree | None:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        parser = loader(text)
        try:
            return _Builder(parser, yaml, problems).document()
        finally:
            parser.dispose()
    except yaml.reader.ReaderError as error:
        raise _Fatal(_unreadable(text, error)) from None
    except yaml.MarkedYAMLError as error:
        raise _Fatal(_syntax(text, error)) from None


class _Builder:
    """One pass over the events with a stack of open collections: no recursion, so depth cannot exhaust us."""

    def __init__(self, parser: Any, yaml: Any, problems: list[Problem]) -> None:
        self.next = parser.get_event
        self.yaml = yaml
        self.problems = problems
        self.path: list[str | None] = []  # of the open collections: the key being filled, None in a list

    def document(self) -> Tree | None:
        events = self.yaml.events
        self.next()  # StreamStart
        if type(event := self.next()) is events.StreamEndEvent:
            return None
        tree = self.collect()
        self.next()  # DocumentEnd
        if type(event := self.next()) is not events.StreamEndEvent:
            raise _Fatal(Problem(_line(event), "", "a second document begins here ('---'); one file is one cluster"))
        return tree

    def collect(self) -> Tree:
        events = self.yaml.events
        scalar, mapping, sequence, alias = (
            events.ScalarEvent,
            events.MappingStartEvent,
            events.SequenceStartEvent,
            events.AliasEvent,
        )
        root: list[Tree] = []
        into: dict[str, Tree] | list[Tree] = root
        stack: list[dict[str, Tree] | list[Tree]] = []
        path = self.path
        key: str | None = None
        key_line = 0
        while True:
            event = self.next()
            kind = type(event)
            line = event.start_mark.line + 1
            if kind is scalar:
                if event.tag is not None:
                    raise self.refused(key, line, f"a tag ({word(event.tag)}) is not read here", "remove the tag")
                if key is None and type(into) is dict:
                    key, key_line = event.value, line
                    continue
                value: Any = _plain(event.value) if event.implicit[0] else event.value
            elif kind is mapping or kind is sequence:
                if event.tag is not None:
                    raise self.refused(key, line, f"a tag ({word(event.tag)}) is not read here", "remove the tag")
                if key is None and type(into) is dict:
                    raise self.refused(None, line, "a key must be plain text", None)
                if len(stack) >= MAX_DEPTH:
                    raise self.refused(key, line, f"more than {MAX_DEPTH} levels deep", None)
                value = {} if kind is mapping else []
            elif kind is alias:
                raise self.refused(
                    key,
                    line,
                    f"an alias (*{word(event.anchor)}) is not read here",
                    "write the value out; what many nodes share goes under defaults",
                )
            else:  # the end of a collection
                into = stack.pop()
                path.pop()
                key = None
                if into is root:
                    return root[0]
                continue
            if type(into) is dict:
                assert key is not None
                if key in into:
                    self.duplicate(key, key_line, into[key][0])
                else:
                    into[key] = [key_line, value]
            else:
                into.append([line, value])  # type: ignore[union-attr]
            if kind is not scalar:
                stack.append(into)
                path.append(key)
                into = value
            elif into is root:
                return root[0]
            key = None

    def duplicate(self, key: str, line: int, first: int) -> None:
        self.problems.append(
            Problem(line, self.where(key), f"is given twice, first in line {first}", "remove one of the two")
        )

    def refused(self, key: str | None, line: int, what: str, hint: str | None) -> _Fatal:
        return _Fatal(Problem(line, self.where(key), what, hint))

    def where(self, key: str | None) -> str:
        return place(*(name for name in [*self.path, key] if name is not None))


def _plain(text: str) -> Any:
    """A scalar without quotes, by YAML 1.2's core schema (numbers with more than 18 digits stay text)."""
    if not text:
        return None
    if text[0] not in _FIRST:
        return text
    if text in _NAMED:
        return _NAMED[text]
    if len(text) > 18 or not _FLOAT.issuperset(text):
        return text
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text  # 10.0.0.1


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _syntax(text: str, error: Any) -> Problem:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines() or [""]
    line = min(mark.line, len(lines) - 1) if mark else 0
    what = str(error.problem or error.context or "syntax error").replace("\n", " ")
    if error.context and error.context_mark and error.context_mark.line != line:
        what += f" ({error.context}, line {error.context_mark.line + 1})"
    if "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())] or "'\\t'" in what:
        hint = f"YAML takes no tab for indentation: use spaces in line {line + 1}"
    elif "mapping values" in what:
        hint = f"look at the indentation of line {line + 1}, and put a value with ': ' in quotes"
    else:
        hint = f"look at line {line + 1} and the one before it: indentation, brackets, quotes"
    return Problem(line + 1, "", f"is not YAML: {what}", hint)


def _unreadable(text: str, error: Any) -> Problem:
    """A character that YAML forbids. libyaml counts bytes, PyYAML's own reader characters: look for it ourselves."""
    for number, line in enumerate(text.split("\n"), 1):
        for character in line:
            if not (character.isprintable() or character in "\t\r\x85\xa0\ufeff"):
                return Problem(number, "", f"is not YAML: the character {character!a} may not stand in it")
    return Problem(1, "", f"is not YAML: {error.reason}")
