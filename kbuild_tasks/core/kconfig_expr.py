"""Dependency expressions as scripts/kconfig prints them, with the value of every symbol, and who is to blame.

    NET [=y] && (BRIDGE [=n] || !IPV6 [=y]) && GCC_VERSION [=120200]>=130000

That is the text of expr_gstr_print() (scripts/kconfig/expr.c), the same since 2.6.33. The rules are those of
Documentation/kbuild/kconfig-language.rst: n, m, y are 0, 1, 2; && is the minimum, || the maximum, ! is 2 - x.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NEVER = "a constant n"  # what a macro such as $(cc-option,...) left behind
RANK = {"n": 0, "m": 1, "y": 2}
_TOKEN = re.compile(r'\s*(?:\[=([^\]]*)\]|(<choice>|"[^"]*"|[^\s&|()!=<>\[\]]+)|(&&|\|\||<=|>=|!=|[!()=<>]))')


@dataclass(frozen=True)
class Leaf:
    """A symbol with its value; a name without a value is a constant, or a symbol that no Kconfig defines."""

    name: str
    value: str | None

    @property
    def rank(self) -> int:
        if self.name == "<choice>":
            return 2  # that the choice exists; its own dependencies are printed beside it
        return RANK.get(self.name if self.value is None else self.value, 0)


@dataclass(frozen=True)
class Compare:
    left: Leaf
    sign: str
    right: Leaf

    @property
    def rank(self) -> int:
        left, right = (_plain(leaf) for leaf in (self.left, self.right))
        if self.sign in ("=", "!="):
            return 2 if (left == right) == (self.sign == "=") else 0
        a, b = _number(left), _number(right)
        return 2 if {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[self.sign] else 0


@dataclass(frozen=True)
class Not:
    inner: Expr

    @property
    def rank(self) -> int:
        return 2 - self.inner.rank


@dataclass(frozen=True)
class And:
    parts: tuple[Expr, ...]

    @property
    def rank(self) -> int:
        return min(part.rank for part in self.parts)


@dataclass(frozen=True)
class Or:
    parts: tuple[Expr, ...]

    @property
    def rank(self) -> int:
        return max(part.rank for part in self.parts)


Expr = Leaf | Compare | Not | And | Or


@dataclass(frozen=True)
class Blame:
    """One condition that is not met: how to say it, and the symbols that would have to change."""

    text: str
    symbols: tuple[str, ...]


def _plain(leaf: Leaf) -> str:
    return (leaf.name if leaf.value is None else leaf.value).strip('"')


def _number(text: str) -> int:
    if text in RANK:
        return RANK[text]
    try:
        return int(text, 16 if text[:2] in ("0x", "0X") else 10)
    except ValueError:
        return 0


class _Reader:
    """Recursive descent over the tokens; ValueError on anything that the printer does not write."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                raise ValueError(f"unexpected {text[position : position + 10]!r}")
            kind = ("value", "name", "sign")[match.lastindex - 1 if match.lastindex else 0]
            self.tokens.append((kind, match[match.lastindex or 0]))
            position = match.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def any_of(self) -> Expr:
        parts = [self.all_of()]
        while self.peek() == ("sign", "||"):
            self.take()
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all_of(self) -> Expr:
        parts = [self.unit()]
        while self.peek() == ("sign", "&&"):
            self.take()
            parts.append(self.unit())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def unit(self) -> Expr:
        kind, text = self.take()
        if (kind, text) == ("sign", "!"):
            return Not(self.unit())
        if (kind, text) == ("sign", "("):
            inner = self.any_of()
            if self.take() != ("sign", ")"):
                raise ValueError("a parenthesis is not closed")
            return inner
        if kind != "name":
            raise ValueError(f"unexpected {text!r}")
        left = self.leaf(text)
        if self.peek()[0] == "sign" and self.peek()[1] in ("=", "!=", "<", ">", "<=", ">="):
            sign = self.take()[1]
            kind, text = self.take()
            if kind != "name":
                raise ValueError(f"unexpected {text!r}")
            return Compare(left, sign, self.leaf(text))
        return left

    def leaf(self, name: str) -> Leaf:
        if self.peek()[0] == "value":
            return Leaf(name, self.take()[1])
        return Leaf(name, None)


def parse_expr(text: str) -> Expr:
    """Raises ValueError on what is no expression of kconfig's printer."""
    reader = _Reader(text)
    expr = reader.any_of()
    if reader.peek()[0] != "end":
        raise ValueError(f"unexpected {reader.peek()[1]!r}")
    return expr


def blame(expr: Expr, target: int) -> list[Blame]:
    """What keeps `expr` below `target` (1: m, 2: y): one Blame a condition, all of which are to be met."""
    if expr.rank >= target:
        return []
    if isinstance(expr, And):
        return [b for part in expr.parts for b in blame(part, target)]
    if isinstance(expr, Or):
        parts = [" and ".join(b.text for b in blame(part, target)) for part in expr.parts]
        symbols = tuple(s for part in expr.parts for b in blame(part, target) for s in b.symbols)
        return [Blame("one of " + ", ".join(dict.fromkeys(parts)), symbols)]
    return [_single(expr)]


def _single(expr: Expr) -> Blame:
    if isinstance(expr, Leaf):
        if expr.value is None:
            constant = expr.name in RANK
            return Blame(NEVER if constant else f"{expr.name} (not in this architecture)", ())
        if expr.name in RANK:
            return Blame(NEVER, ())
        return Blame(f"{expr.name} (is {expr.value})", (expr.name,))
    if isinstance(expr, Compare):
        got = expr.left.value if expr.left.value is not None else expr.left.name
        return Blame(f"{expr.left.name}{expr.sign}{expr.right.name} (is {got})", (expr.left.name,))
    if isinstance(expr, Not) and isinstance(expr.inner, Leaf):
        return Blame(f"{expr.inner.name} to be n (is {_plain(expr.inner)})", (expr.inner.name,))
    return Blame(f"{_written(expr)} to be y", _symbols(expr))


def _written(expr: Expr) -> str:
    if isinstance(expr, Leaf):
        return expr.name if expr.value is None else f"{expr.name} [={expr.value}]"
    if isinstance(expr, Compare):
        return f"{_written(expr.left)}{expr.sign}{expr.right.name}"
    if isinstance(expr, Not):
        return f"!{_written(expr.inner)}"
    joint = " && " if isinstance(expr, And) else " || "
    return "(" + joint.join(_written(part) for part in expr.parts) + ")"


def _symbols(expr: Expr) -> tuple[str, ...]:
    if isinstance(expr, Leaf):
        return () if expr.value is None else (expr.name,)
    if isinstance(expr, Compare):
        return _symbols(expr.left)
    if isinstance(expr, Not):
        return _symbols(expr.inner)
    return tuple(s for part in expr.parts for s in _symbols(part))
