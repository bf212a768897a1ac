"""Validates cluster.yaml's tree against schema.json, the file that editors read too: one contract, no second list.

Why not the jsonschema package: importing it costs 30-43 ms and it knows nothing of lines. This reads the subset of
JSON Schema draft 7 that schema.json uses (test_config_schema.py refuses others), and tells what is wanted in
the words of the schema's `patternErrorMessage`, which yaml-language-server shows as well.

A tree is plain JSON, so that it can be kept: [line, value], where a value is a scalar, {key: tree} or [tree].
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kbuild_tasks.core import suggest
from kbuild_tasks.core.errors import EVIDENCE_LINES, ConfigError

Tree = list[Any]  # [line, value]
Where = tuple[Any, ...]  # the keys and list positions on the way to a value: only a problem makes text of them
SCHEMA = Path(__file__).parent.parent / "schema.json"
DOCUMENT = "docs/cluster-yaml.md"


class Problem(NamedTuple):
    """One thing that is wrong: where in the file (line from 1, "nodes.kubenode2.slots"), what, what to do."""

    line: int
    where: str
    what: str
    hint: str | None = None


def refusal(source: str, problems: list[Problem]) -> ConfigError:
    """All problems as one error: the first in the file's order is the message, the next ten are evidence."""
    ordered = sorted(problems, key=lambda problem: problem.line)
    lines = [f"{source}:{p.line}: {p.where}: {p.what}" if p.where else f"{source}:{p.line}: {p.what}" for p in ordered]
    rest = lines[1:]
    if len(rest) > EVIDENCE_LINES:
        rest[EVIDENCE_LINES - 1 :] = [f"and {len(rest) - EVIDENCE_LINES + 1} more"]
    first = ordered[0]
    return ConfigError(
        lines[0], first.hint or f"correct line {first.line} of {source}; {DOCUMENT} lists every key", evidence=rest
    )


@functools.cache
def schema() -> Mapping[str, Any]:
    """The contract, as shipped with the package (a constant of the program, hence read here, in core)."""
    loaded: dict[str, Any] = json.loads(SCHEMA.read_bytes())
    return loaded


def validate(tree: Tree) -> list[Problem]:
    """Every place where the tree is not what schema.json asks for; empty: none."""
    problems: list[Problem] = []
    _check(tree[0], tree[1], schema(), (), problems)
    return problems


def described(value: Any) -> str:
    """A value of the file as a message shows it: short, and nothing in it can steer a terminal."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return word(value) if isinstance(value, str) else f"the number {value}"


def word(text: str) -> str:
    """Text as it is where it is plain, else quoted and escaped; at most 60 characters."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return short if re.fullmatch(r"[\w./:%@+~-]+", short, re.ASCII) else repr(short)


def place(*where: str | int) -> str:
    """A place as a message names it: place("kernel", "fragments", 0) -> "kernel.fragments[0]"."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{word(step)}" if text else word(step)
    return text


def _check(line: int, value: Any, rule: Mapping[str, Any], where: Where, problems: list[Problem]) -> None:
    rule = _resolved(rule)
    if not fits(rule, value):
        problems.append(_misfit(line, value, rule, where))
    elif isinstance(value, dict):
        _check_mapping(line, value, rule, where, problems)
    elif isinstance(value, list):
        _check_list(line, value, rule, where, problems)


def _misfit(line: int, value: Any, rule: Mapping[str, Any], where: Where) -> Problem:
    wanted = _wanted(rule)
    if value is None:
        return Problem(line, place(*where), "is empty", f"give it a value ({wanted}), or remove the key")
    return Problem(line, place(*where), f"must be {wanted}, not {described(value)}{_better(value, rule)}")


def _better(value: Any, rule: Mapping[str, Any]) -> str:
    better = suggest.repaired(value, rule, functools.partial(fits, rule))
    return f", did you mean {better}?" if better else ""


def _check_mapping(
    line: int, value: dict[str, Tree], rule: Mapping[str, Any], where: Where, problems: list[Problem]
) -> None:
    known = rule.get("properties", {})
    others = rule["additionalProperties"]
    names = rule.get("propertyNames", {})
    if len(value) < rule.get("minProperties", 0):
        problems.append(Problem(line, place(*where), "is empty", f"write an entry; {DOCUMENT} has examples"))
    missing = [key for key in rule.get("required", ()) if key not in value]
    for key, (key_line, entry) in value.items():
        here = (*where, key)
        if key in known:
            _check(key_line, entry, known[key], here, problems)
        elif others is False:
            near = suggest.closest(key, missing) or suggest.closest(key, list(known))
            problems.append(Problem(key_line, place(*here), f"unknown key{_meant(key, near, known, where)}"))
            if near in missing:
                missing.remove(near)
        else:
            if not fits(names, key):
                problems.append(Problem(key_line, place(*here), f"must be {_wanted(names)}{_better(key, names)}"))
            _check(key_line, entry, others, here, problems)
    for key in missing:
        what = f"is missing: {_wanted(_resolved(known[key]))}"
        problems.append(Problem(line, place(*where, key), what, f"add the key {key} ({DOCUMENT} has examples)"))


def _check_list(line: int, value: list[Tree], rule: Mapping[str, Any], where: Where, problems: list[Problem]) -> None:
    if len(value) < rule.get("minItems", 0):
        problems.append(Problem(line, place(*where), "is an empty list", "give a value, or remove the key"))
    seen: dict[str, int] = {}
    for index, (item_line, item) in enumerate(value):
        here = (*where, index)
        _check(item_line, item, rule["items"], here, problems)
        if rule.get("uniqueItems") and isinstance(item, str):
            if item in seen:
                what = f"{word(item)} is listed twice, first as {place(*where, seen[item])}"
                problems.append(Problem(item_line, place(*here), what))
            seen.setdefault(item, index)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping (key: value)",
    "array": "a list",
}


def fits(rule: Mapping[str, Any], value: Any) -> bool:
    """Whether the value itself, without what lies below it, is as the rule wants it."""
    if "const" in rule:
        return bool(value == rule["const"]) and type(value) is type(rule["const"])
    if "enum" in rule:
        return isinstance(value, str) and value in rule["enum"]
    types = rule.get("type", ())
    for name in (types,) if isinstance(types, str) else types:
        if isinstance(value, _TYPES[name]) and isinstance(value, bool) == (name == "boolean"):
            break
    else:
        if types:
            return False
    if isinstance(value, str):
        if not rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", len(value)):
            return False
        return "pattern" not in rule or matcher(rule["pattern"]).fullmatch(value) is not None
    if isinstance(value, int | float):
        return bool(rule.get("minimum", value) <= value <= rule.get("maximum", value))
    return True


@functools.cache
def matcher(pattern: str) -> re.Pattern[str]:
    """A pattern of schema.json, all of which are anchored. Python's $ would also match before a final newline."""
    return re.compile(f"(?:{pattern.removeprefix('^').removesuffix('$')})")


def _wanted(rule: Mapping[str, Any]) -> str:
    """What a rule asks for, as a phrase after "must be"."""
    if "patternErrorMessage" in rule:
        return str(rule["patternErrorMessage"]).removeprefix("must be ")
    if "const" in rule:
        return str(rule["const"])
    if "enum" in rule:
        return ", ".join(rule["enum"][:-1]) + " or " + str(rule["enum"][-1])
    text = _WORDS[rule["type"]]
    if "minimum" in rule:
        text += f" from {rule['minimum']} to {rule['maximum']}"
    if "minLength" in rule:
        text += ", not empty"
    return text


def _resolved(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule with its $ref followed: what stands beside a $ref are words for editors, not rules (draft 7)."""
    if "$ref" in rule:
        found: Mapping[str, Any] = schema()["$defs"][rule["$ref"].rpartition("/")[2]]
        return found
    return rule


def _meant(key: str, near: str | None, known: Mapping[str, Any], where: Where) -> str:
    """What an unknown key may have been meant to be: a near name here, or the same name at its own place."""
    if near:
        return f", did you mean {near}?"
    homes = [home for home in keys() if home.rpartition(".")[2] == key and home != place(*where, key)]
    if homes:
        return f", did you mean {' or '.join(homes)}?"
    return f"; known here: {', '.join(known)}"


def keys() -> Iterator[str]:
    """Every key that schema.json knows, with its place: "kernel.waivers[].until", "nodes.<name>.slots"."""
    yield from _keys(schema(), "")


def _keys(rule: Mapping[str, Any], where: str) -> Iterator[str]:
    rule = _resolved(rule)
    for key, below in rule.get("properties", {}).items():
        here = f"{where}.{key}" if where else key
        yield here
        yield from _keys(below, here)
    if isinstance(rule.get("additionalProperties"), dict):
        yield from _keys(rule["additionalProperties"], f"{where}.<name>")
    if isinstance(rule.get("items"), dict):
        yield from _keys(rule["items"], f"{where}[]")
