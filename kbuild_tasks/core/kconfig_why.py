"""Why a request did not take, told from what the tree's own kconfig says of the option.

The facts come from kconfig itself (effects/kconfig_explain.py), linked from the tree's scripts/kconfig, not from a
parser of ours or of a library: kconfiglib 14.1.0, the last release (2020), stops at the bare `modules` of
kernel/module/Kconfig (Linux >= 5.16); with that line rewritten it reads 6.1 and 6.12, but is 1 and 2 options off the
tree's own x86_64_defconfig (visibility of choices and menus), takes 2.0 and 3.1 s against 1.2 s, and each new keyword
breaks it again. The tree's objects are exact for the tree by construction, and add no dependency.

Here is only the reading of that text and the order of the questions, the first that answers wins: does someone later
ask otherwise, does the option exist, is the value of its type and range, who selects it, which dependency is unmet,
who won the choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kbuild_tasks.core.kconfig import Merged, Unmet
from kbuild_tasks.core.kconfig_expr import NEVER, RANK, Blame, Expr, blame, parse_expr

_TYPES = {"bool": "y or n", "tristate": "y, m or n", "integer": "a number", "hex": "a number such as 0x10"}
# Symbols whose value is a finding about compiler, assembler, linker or rustc.
_TOOLS = re.compile(r"(?:CC|AS|LD|GCC|CLANG|RUSTC?|LLD|PAHOLE|TOOLS|TOOLCHAIN)_[A-Z0-9_]+|HAVE_RUST")
_SHOWN = 3


@dataclass(frozen=True)
class Definition:
    """One `config NAME` of a symbol. prompt None: not for the user to set."""

    place: str  # "net/Kconfig:188"
    prompt: str | None = None
    depends: str = ""
    visible: str = ""  # only where it differs from depends


@dataclass(frozen=True)
class Symbol:
    name: str
    value: str
    type: str  # bool | tristate | integer | hex | string | unknown
    range: str = ""
    definitions: tuple[Definition, ...] = ()
    selected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "y": who selects it to y; "n": who could


@dataclass(frozen=True)
class Choice:
    prompt: str
    members: Mapping[str, str]  # symbol -> value


@dataclass(frozen=True)
class Knowledge:
    """What kconfig said. symbols holds only those that it was asked about."""

    names: frozenset[str]
    choices: tuple[Choice, ...]
    symbols: Mapping[str, Symbol]


def read_knowledge(text: str) -> Knowledge:
    """The output of kconfig_explain as values."""
    head, _, rest = text.partition("@symbol ")
    names = [line for line in head.splitlines() if not line.startswith("@")]
    choices = [_choice(line) for line in head.splitlines() if line.startswith("@choice")]
    found = {}
    for part in rest.split("\n@symbol ") if rest else ():
        name, _, body = part.partition("\n")
        if body.strip():
            found[name] = _symbol(name, body)
    return Knowledge(frozenset(names), tuple(choices), found)


def _choice(line: str) -> Choice:
    members, _, prompt = line.removeprefix("@choice").partition(" | ")
    pairs = (member.partition("=") for member in members.split())
    return Choice(prompt, {name: value for name, _, value in pairs})


def _symbol(name: str, body: str) -> Symbol:
    """Read get_relations_str() of scripts/kconfig/menu.c."""
    seen: dict[str, str] = {}
    definitions: list[dict[str, str]] = []
    selected: dict[str, list[str]] = {}
    group: list[str] | None = None
    for line in body.splitlines():
        key, _, value = line.strip().partition(": ")
        if group is not None and line.startswith("  - "):
            group.append(re.split(r"[\s&|\[]", line[4:].lstrip("(!"), maxsplit=1)[0])
            continue
        group = None
        if who := re.match(r"Selected by \[([ymn])\]:", line):
            group = selected.setdefault(who[1], [])
        elif line.startswith("Defined at "):
            definitions.append({"place": line.removeprefix("Defined at ")})
        elif key in ("Prompt", "Depends on", "Visible if") and definitions:
            definitions[-1].setdefault(key, value)
        else:
            seen.setdefault(key.strip(), value)
    return Symbol(
        name,
        re.sub(r"^.*?\[=(.*)\]$", r"\1", seen.get("Symbol", "")),
        seen.get("Type", "unknown").strip(),
        seen.get("Range", "").strip(),
        tuple(
            Definition(d["place"], d.get("Prompt"), d.get("Depends on", ""), d.get("Visible if", ""))
            for d in definitions
        ),
        {value: tuple(dict.fromkeys(who)) for value, who in selected.items()},
    )


@dataclass(frozen=True)
class Asker:
    """All that the reasons are drawn from.

    macros     (file:line of a definition) -> its lines that ask the compiler: "depends on $(cc-option,-mfoo)"
    elsewhere  unknown symbol -> file:line of a Kconfig of another architecture that defines it
    """

    known: Knowledge
    merged: Merged
    final: Mapping[str, str]
    macros: Callable[[str], Sequence[str]] = lambda place: ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def why(self, unmet: Unmet) -> str:
        """One or two clauses, without a final stop."""
        if unmet.overridden_by:
            by = unmet.overridden_by
            return f"overridden by {by.where}, which asks for {by.wanted}"
        symbol = self.known.symbols.get(unmet.request.symbol)
        if symbol is None or not symbol.definitions:
            return self._unknown(unmet.request.symbol)
        return self._type(unmet, symbol) or self._logic(unmet, symbol) or self._value(unmet, symbol)

    def blamed(self, unmet: Unmet) -> tuple[str, ...]:
        """Symbols that a reason would name: worth a second question to kconfig."""
        symbol = self.known.symbols.get(unmet.request.symbol)
        if symbol is None or unmet.overridden_by:
            return ()
        return tuple(s for b in self._unmet(symbol, RANK.get(unmet.request.value, 1)) for s in b.symbols)

    def _unknown(self, name: str) -> str:
        import difflib

        if name in self.elsewhere:
            return f"no option of this architecture; {self.elsewhere[name]} has it for another one"
        near = difflib.get_close_matches(name, self.known.names, n=1, cutoff=0.75)
        return f"this tree has no such option; did you mean {near[0]}?" if near else "this tree has no such option"

    def _type(self, unmet: Unmet, symbol: Symbol) -> str | None:
        wanted = unmet.request.value
        word = wanted in RANK
        if symbol.type in ("bool", "tristate"):
            fits = word and not (symbol.type == "bool" and wanted == "m")
        elif symbol.type == "string":
            fits = wanted.startswith('"')
        else:
            fits = not word and not wanted.startswith('"') and (symbol.type == "hex") == wanted.lower().startswith("0x")
        if fits or (wanted == "n" and unmet.got is None):
            return None
        takes = _TYPES.get(symbol.type, "a quoted string")
        return f"{symbol.name} is of type {symbol.type}: it takes {takes} ({symbol.definitions[0].place})"

    def _logic(self, unmet: Unmet, symbol: Symbol) -> str | None:
        if symbol.type not in ("bool", "tristate"):
            return None
        wanted, got = RANK.get(unmet.request.value, 0), RANK.get(unmet.got or "n", 0)
        if wanted < got:
            return self._too_high(unmet, symbol, got)
        limits = self._unmet(symbol, 1 if unmet.request.required else wanted)
        if limits:
            return self._depends(symbol, limits)
        if not any(d.prompt for d in symbol.definitions):
            return self._no_prompt(symbol)
        return self._lost_choice(symbol)

    def _too_high(self, unmet: Unmet, symbol: Symbol, got: int) -> str | None:
        level = "nmy"[got]
        if selectors := symbol.selected.get(level):
            return f"selected by {_some(selectors)}"
        if unmet.request.value == "m" and self.final.get("MODULES") != "y":
            return "there are no modules: MODULES is n"
        for choice in self._choices(symbol.name):
            return f'the choice "{choice.prompt}" needs one of its members: ask for another one with =y'
        if not any(d.prompt for d in symbol.definitions):
            return f"has no prompt, its default decides ({symbol.definitions[0].place})"
        if hidden := self._unmet(symbol, 1):
            return f"cannot be changed: its prompt needs {_joined(hidden)}"
        return None

    def _unmet(self, symbol: Symbol, target: int) -> list[Blame]:
        """What keeps the option below `target`; of several definitions the one that lacks least."""
        best: list[Blame] | None = None
        for definition in sorted(symbol.definitions, key=lambda d: d.prompt is None):
            if definition.prompt is None and best is not None:
                continue
            found = [b for text in (definition.depends, definition.visible) for b in self._blame(text, symbol, target)]
            found = list(dict.fromkeys(found))
            if best is None or len(found) < len(best):
                best = found
        return best or []

    def _blame(self, text: str, symbol: Symbol, target: int) -> list[Blame]:
        if not text:
            return []
        if symbol.type == "bool":
            target = min(target, 1)  # a bool that depends on an m may be y
        try:
            expr: Expr = parse_expr(text)
        except ValueError:
            return [Blame(text, ())] if symbol.value in ("n", "") else []
        return blame(expr, max(target, 1))

    def _depends(self, symbol: Symbol, limits: Sequence[Blame]) -> str:
        place = symbol.definitions[0].place
        others = [b for b in limits if b.text != NEVER]
        if len(others) < len(limits):
            asks = self.macros(place)
            proof = (
                f"a compiler or tool of this machine lacks what it asks for: {_some(asks)}" if asks else "never here"
            )
            return f"{proof} ({place})" + (f"; depends on {_joined(others)}" if others else "")
        text = f"depends on {_joined(limits)}"
        if any(_TOOLS.fullmatch(s) for b in limits for s in b.symbols):
            return f"{text}; needs a newer or another compiler or tool ({place})"
        notes = [note for name in dict.fromkeys(s for b in limits for s in b.symbols) if (note := self._note(name))]
        return text + "".join(f"; {note}" for note in notes[:_SHOWN])

    def _note(self, name: str) -> str | None:
        """One step further: why a symbol that is missing is not there."""
        symbol = self.known.symbols.get(name)
        if symbol is None or symbol.value != "n" or symbol.type not in ("bool", "tristate"):
            return None
        asked = self.merged.winners.get(name)
        if asked and asked.value == "n":
            return f"{asked.where} sets {name} to n"
        if deeper := self._unmet(symbol, 1):
            return f"{name} depends on {_joined(deeper)}"
        if not any(d.prompt for d in symbol.definitions):
            who = symbol.selected.get("n", ())
            return f"{name} is only set by {_some(who)}" if who else f"{name} has no prompt"
        return None if asked else f"nobody asks for {name}"

    def _no_prompt(self, symbol: Symbol) -> str:
        who = symbol.selected.get("n", ())
        place = symbol.definitions[0].place
        if who:
            return f"has no prompt, cannot be asked for ({place}): selected by {_some(who)}, which are off"
        return f"has no prompt, cannot be asked for: its default decides ({place})"

    def _choices(self, name: str) -> list[Choice]:
        return [choice for choice in self.known.choices if name in choice.members]

    def _lost_choice(self, symbol: Symbol) -> str | None:
        for choice in self._choices(symbol.name):
            for member in choice.members:
                if self.final.get(member) == "y" and member != symbol.name:
                    asked = self.merged.winners.get(member)
                    by = f", asked for by {asked.where}" if asked and asked.value == "y" else ""
                    return f'only one of the choice "{choice.prompt}" can be y, and {member} won{by}'
        return None

    def _value(self, unmet: Unmet, symbol: Symbol) -> str:
        if hidden := self._unmet(symbol, 1):
            return f"depends on {_joined(hidden)}"
        if not any(d.prompt for d in symbol.definitions):
            return f"has no prompt, cannot be asked for ({symbol.definitions[0].place})"
        if symbol.range and unmet.got is not None:
            return f"out of range {_range(symbol.range)} ({symbol.definitions[0].place})"
        return f"kconfig decided otherwise; see {symbol.definitions[0].place}"


def _range(text: str) -> str:
    """[NR_CPUS_RANGE_BEGIN [=2] 512] -> [2 512]"""
    return re.sub(r"[^\s\[]+ \[=([^\]]*)\]", r"\1", text)


def _joined(limits: Sequence[Blame]) -> str:
    return ", ".join(dict.fromkeys(b.text for b in limits))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
