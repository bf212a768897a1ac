"""Which commands of a shell function will run, as far as that can be told without running it.

bash's own `declare -f` writes a function with one command a line and four spaces a level, without comments; so what
stands inside of what can be read off. Conditions that are plain tests of variables which no function sets
(`if [ -n "$_makenconfig" ]`, `[[ $_cpu = native ]] && ...`) are decided by the values that bash reported; of every
other one it is open.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}$]*))?\}|(\w+))")
_TEST = re.compile(r"^(?:\[\[ (.+) \]\]|\[ (.+) \]|test (.+))$")
_SKIPPED = re.compile(r"^(fi|done|esac|\}|\{|;;|then|do)\b[;]?|^[{}()]+;?$")
_HEREDOC = re.compile(r"<<-?\s*[\"'\\]?(\w+)")
_SAYING = re.compile(r"^(?:echo|printf|msg2?|plain|note|warning|error|:)(?:\s|$)")
_SUBSTITUTED = re.compile(r"\$\([^()]*\)")


@dataclass(frozen=True)
class Command:
    """A line of a function. runs: True, or None where that depends on what only the run will know."""

    text: str
    runs: bool | None


def commands(text: str, values: Mapping[str, str | None]) -> Iterator[Command]:
    """The commands of `declare -f` text in their order, without those that a known condition rules out.

    values  what a plain variable holds; None: not known before the run. One that is not named holds nothing.
    """
    around: list[tuple[int, bool | None]] = []  # indentation of an opening line, whether what is inside runs
    here = ""  # the word that ends a here-document
    for line in text.splitlines()[2:]:  # "name () ", "{ "
        bare = line.strip()
        if here:
            here = "" if bare == here else here
            continue
        if document := _HEREDOC.search(bare):
            here = document[1]
        depth = len(line) - len(line.lstrip())
        while around and depth <= around[-1][0] and not bare.startswith(("else", "elif")) and bare != "do":
            around.pop()
        if bare.startswith(("else", "elif")) and around:
            _, before = around.pop()
            inside = None if before is None else not before
            if bare.startswith("elif") and inside:
                inside = decide(bare[5:].removesuffix("; then"), values)
            around.append((depth, inside))
            continue
        state: bool | None = True
        for _, runs in around:
            state = False if state is False or runs is False else None if runs is None else state
        if bare.startswith("if ") and bare.endswith("; then"):
            condition = bare[3:].removesuffix("; then")
            if state is not False:
                yield Command(condition, state)
            around.append((depth, decide(condition, values)))
            continue
        if bare.startswith(("for ", "while ", "until ", "case ", "select ")) or bare.endswith(("() ", ")")):
            opens = not bare.endswith(")") or bare.startswith("for ")
            if state is not False:
                yield Command(bare, state) if opens else Command(_unsaid(bare), state)
            if opens or not re.search(r"[$(]\(|\w\(|^\(", bare):  # "x | y)" of a case, not the end of "$(nproc)"
                around.append((depth, True if bare.startswith("for ") else None))  # a list is there to be gone through
            continue
        if state is not False and bare and not _SKIPPED.match(bare):
            yield from _in_line(bare.rstrip(";"), state, values)


def _in_line(bare: str, state: bool | None, values: Mapping[str, str | None]) -> Iterator[Command]:
    """A && B || C: whether B runs is told by A where A is a test; of any other command it is assumed that it succeeds,
    and open whether what stands after || runs."""
    status: bool | None = True
    certain = True
    for operator, part in _parts(bare):
        runs = state
        if operator == "&&" and status is not True:
            if status is False and certain:
                continue
            runs = None
        elif operator == "||" and not (status is False and certain):
            if status is True and certain:
                continue
            runs = None
        told = decide(part, values) if _TEST.match(part.removeprefix("! ")) else None
        certain = told is not None
        status = told if certain or _TEST.match(part.removeprefix("! ")) else True
        yield Command(_unsaid(part), runs)


def _parts(bare: str) -> list[tuple[str, str]]:
    """ "A && B || C" -> [("", A), ("&&", B), ("||", C)]; operators in quotes, [[ ]] and ( ) are none."""
    parts, start, operator = [], 0, ""
    quote, depth, position = "", 0, 0
    while position < len(bare):
        char, two = bare[position], bare[position : position + 2]
        if char == "\\" and quote != "'":
            position += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif two in ("[[", "]]"):
            depth += 1 if two == "[[" else -1
            position += 1
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif two in ("&&", "||") and depth == 0:
            parts.append((operator, bare[start:position].strip()))
            operator, start = two, position + 2
            position += 1
        position += 1
    return [*parts, (operator, bare[start:].strip())]


def _unsaid(command: str) -> str:
    """Without the words of a command that only says them: what is left are its redirections, pipes, substitutions."""
    if not _SAYING.match(command):
        return command
    quote = ""
    for position, char in enumerate(command):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "<>|":
            return " ".join([*_SUBSTITUTED.findall(command[:position]), command[position:]])
    return " ".join(_SUBSTITUTED.findall(command))


def decide(condition: str, values: Mapping[str, str | None]) -> bool | None:
    """The outcome of a test, None where it is not known.

    >>> decide('[ -n "$_x" ]', {"_x": "y"}), decide("[[ $_x == z* ]]", {"_x": "y"}), decide("make", {})
    (True, False, None)
    """
    if condition.startswith("! "):
        told = decide(condition[2:], values)
        return None if told is None else not told
    found = _TEST.match(condition)
    if not found or "$(" in condition or "`" in condition:
        return None
    try:
        words = shlex.split(found[1] or found[2] or found[3])
    except ValueError:
        return None
    negated = words[:1] == ["!"]
    told = _test(words[negated:], values, pattern=bool(found[1]))
    return told if told is None or not negated else not told


def _test(words: list[str], values: Mapping[str, str | None], pattern: bool) -> bool | None:
    held = [_expand(word, values) for word in words]
    if None in held:
        return None
    match held:
        case [one]:
            return bool(one)
        case ["-n", one]:
            return bool(one)
        case ["-z", one]:
            return not one
        case [left, "=" | "==" | "!=" as how, right]:
            equal = fnmatchcase(left or "", right or "") if pattern else left == right
            return equal != (how == "!=")
    return None


def _expand(word: str, values: Mapping[str, str | None]) -> str | None:
    unknown = False

    def value(found: re.Match[str]) -> str:
        nonlocal unknown
        held = values.get(found[1] or found[3], "")
        unknown = unknown or held is None
        return held or found[2] or ""

    told = _VARIABLE.sub(value, word)
    return None if unknown or "$" in told else told
