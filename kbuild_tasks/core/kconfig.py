"""Which options a configuration asks for, and the proof that the final .config has them.

The merge is the one of scripts/kconfig/merge_config.sh: of several lines for one option the last one counts, and it
takes the last place too (kconfig gives a choice to the last member that asks for it). `make olddefconfig` then decides;
it drops every request that cannot be met, without a word and with status 0. So the result is compared with each
request of the fragments and of `require`, in both directions. The base is only counted: a full .config of another
version or compiler always differs.

A request that a later fragment contradicts is unmet as well: two people asked for different things, and one of them
does not get what is written in the file. Overriding the base is what fragments are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.kconfig_syntax import Request, lines_of, same
from kbuild_tasks.core.model import Waiver

# Targets of scripts/kconfig/Makefile that make a configuration from nothing, the same on every run. Not tinyconfig: it
# merges into the tree's .config whatever KCONFIG_CONFIG says, so that its result depends on the last one.
# What kconfig finds out of compiler, binutils, rustc and pahole (init/Kconfig): nobody's request.
_DERIVED = re.compile(
    r"(?:CC|GCC|CLANG|AS|LD|LLD|RUSTC|RUSTC_LLVM|PAHOLE|BINDGEN)_VERSION(?:_TEXT)?"
    r"|(?:CC|AS|LD|RUSTC)_(?:IS|HAS|CAN|IMPLICIT)_[A-Z0-9_]+|AS_[A-Z0-9_]+|TOOLS_SUPPORT_[A-Z0-9_]+|RUST_IS_AVAILABLE"
)


@dataclass(frozen=True)
class Merged:
    """The merged configuration: what goes into olddefconfig, and what its result is held against."""

    winners: Mapping[str, Request]  # symbol -> the request that counts, in the order in which they are written
    requests: tuple[Request, ...]  # of fragments and `require`, in order: each is to be proven
    base: tuple[Request, ...]

    @property
    def text(self) -> str:
        return lines_of(tuple(self.winners.values()))


@dataclass(frozen=True)
class Unmet:
    """A request that the final .config does not fulfil. got None: the option is not in it at all."""

    request: Request
    got: str | None
    overridden_by: Request | None = None

    @property
    def line(self) -> str:
        return f"CONFIG_{self.request.symbol}: wanted {self.request.wanted}, got {self.shown} ({self.request.where})"

    @property
    def shown(self) -> str:
        if self.got is None:
            return "n" if self.request.value in ("y", "m", "n") else "nothing"
        return self.got


@dataclass(frozen=True)
class Verdict:
    """Unmet requests, sorted by what the waivers say of them on a day."""

    failing: tuple[Unmet, ...]
    waived: tuple[tuple[Unmet, Waiver], ...]
    expired: tuple[Waiver, ...]  # waivers whose requests are among `failing`
    unused: tuple[Waiver, ...]


def is_derived(symbol: str) -> bool:
    """Whether kconfig derives an option from the tools of the machine, so that no request for it counts."""
    return bool(_DERIVED.fullmatch(symbol))


def merge(base: Sequence[Request], fragments: Sequence[Sequence[Request]], require: Sequence[Request]) -> Merged:
    """Merge the kernel's way, the later line wins; `require` then asks y for what would be neither y nor m."""
    winners: dict[str, Request] = {}
    asked = [request for fragment in fragments for request in fragment]
    for request in [*base, *asked]:
        winners.pop(request.symbol, None)
        winners[request.symbol] = request
    for request in require:
        had = winners.get(request.symbol)
        if had is None or had.value not in ("y", "m"):
            winners.pop(request.symbol, None)
            winners[request.symbol] = request
    return Merged(winners, (*asked, *require), tuple(base))


def prove(merged: Merged, final: Mapping[str, str]) -> list[Unmet]:
    """The requests that the final .config does not fulfil, in the order in which they were made."""
    unmet = []
    for request in merged.requests:
        got = final.get(request.symbol)
        if is_derived(request.symbol) or fulfilled(request, got):
            continue
        winner = merged.winners[request.symbol]
        later = winner if winner != request and not fulfilled(request, winner.value) else None
        unmet.append(Unmet(request, got, later))
    return unmet


def fulfilled(request: Request, got: str | None) -> bool:
    """Whether a final value is what was asked for. An option that is not there is n, and is the empty string."""
    if request.required:
        return got in ("y", "m")
    if got is None:
        return request.value in ("n", '""')
    return same(request.value, got)


def base_differences(merged: Merged, final: Mapping[str, str]) -> list[Unmet]:
    """Lines of the base that neither a fragment nor `require` overrides and that the final .config has otherwise."""
    return [
        Unmet(request, final.get(request.symbol))
        for request in merged.base
        if merged.winners[request.symbol] is request
        and not is_derived(request.symbol)
        and not fulfilled(request, final.get(request.symbol))
    ]


def judge(unmet: Sequence[Unmet], waivers: Sequence[Waiver], today: date, source: str) -> Verdict:
    """Apply the waivers as they stand on `today`; a waiver holds up to and including its day.

    `source` is the file that has the waivers. Raises ConfigError on a day that does not exist.
    """
    valid: dict[str, Waiver] = {}
    expired: dict[str, Waiver] = {}
    for waiver in waivers:
        symbol = waiver.symbol.removeprefix("CONFIG_")
        (valid if _day(waiver, source) >= today else expired)[symbol] = waiver
    for symbol in valid:
        expired.pop(symbol, None)
    failing = tuple(u for u in unmet if u.request.symbol not in valid)
    waived = tuple((u, valid[u.request.symbol]) for u in unmet if u.request.symbol in valid)
    symbols = {u.request.symbol for u in unmet}
    return Verdict(
        failing,
        waived,
        tuple(w for symbol, w in expired.items() if symbol in symbols),
        tuple(w for symbol, w in {**valid, **expired}.items() if symbol not in symbols),
    )


def _day(waiver: Waiver, source: str) -> date:
    try:
        return date.fromisoformat(waiver.until)
    except ValueError:
        where = f"{source}:{waiver.line}" if waiver.line else source
        raise ConfigError(
            f"{where}: kernel.waivers: {waiver.until!r} is no day", "write it as 2027-01-31, or a later one"
        ) from None


def diff(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    """(symbol, old value, new value) of every option that differs, by name; None: not there.

    "is not set" and absence both mean n, so a change between them is none.
    """
    found = []
    for symbol in sorted({*old, *new}):
        before, after = old.get(symbol), new.get(symbol)
        if before != after and (before or "n") != (after or "n"):
            found.append((symbol, before, after))
    return found
