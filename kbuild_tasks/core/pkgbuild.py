"""What a PKGBUILD says, and what each part of it depends on.

bash itself reads the file (effects/pkgbuild.sh); here its answer, the variables and functions as `declare` writes
them, is split into four parts, each with a digest:

    source   what decides download and unpacking: sources, checksums, keys, noextract, pkgver()
    prepare  what prepare() depends on
    build    what build() depends on
    package  everything, the bytes of the file among it (their sha256 stands in each package's .BUILDINFO)

A function depends on its own text, on every function that its text names (and what those name, in turn), on the
value of every variable that these texts name, on every variable that is exported (make sees them all), and on
options=() as far as makepkg's build environment follows them. "Names" means: the word occurs anywhere in the text.
That takes in too much now and then (a word in a string) and never too little, unless a text can reach what it does
not name: eval, source, ${!indirect}, namerefs, the build script itself. Then the part depends on everything, and
`undivided` says why. Comments and layout count nowhere but in "package": bash does not keep them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.finding import Finding

PARTS = ("source", "prepare", "build", "package")

# Set by every run of ours for itself (effects/makepkg.py): places, speed, looks. They change no byte of the result.
OWN_SETTINGS = frozenset(
    ("BUILDDIR", "PKGDEST", "SRCDEST", "SRCPKGDEST", "LOGDEST", "startdir", "PKGEXT", "SRCEXT", "PACKAGER", "GPGKEY")
) | {"MAKEFLAGS", "BUILDENV", "COLOR", "PACMAN_AUTH", "DISTCC_HOSTS", "DLAGENTS", "VCSCLIENTS"}
# prepare_buildenv() in /usr/share/makepkg/buildenv.sh exports these for build(); MAKEFLAGS is ours.
BUILD_FLAGS = ("CPPFLAGS", "CFLAGS", "CXXFLAGS", "LDFLAGS", "RUSTFLAGS", "CHOST")
# build_options of /usr/share/makepkg/buildenv/*.sh: the entries of options=() that change build()'s environment.
BUILD_OPTIONS = frozenset(("buildflags", "makeflags", "ccache", "distcc", "lto", "debug"))

UNSET = "unset"
_WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_FUNCTION_WORD = _WORD | frozenset("+.@-")  # lint_pkgname: package_<name> may hold these
_SEPARATORS = (";", "&&", "||", "|", "&", "(", "`", "{ ", "then ", "else ", "do ", "if ", "while ", "until ", "! ")
_STARTDIR = r"startdir\}?\"?/\"?([\w.+@-]+)(?![\w.+@*?\[${-])"
_DECLARING = frozenset(("declare", "local", "typeset", "readonly"))


@dataclass(frozen=True)
class Source:
    """One entry of source=() or source_<arch>=(): as written, the file's name, local|https|git|..., its checksums."""

    entry: str
    name: str
    protocol: str
    sums: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.entry.partition("::")[2] or self.entry

    @property
    def checked(self) -> bool:
        """Whether the PKGBUILD says which content it must have: by a checksum, or a commit or tag of a repository."""
        fragment = self.url.partition("#")[2].startswith(("commit=", "tag=", "revision="))
        return fragment or any(value != "SKIP" for value in self.sums.values())


@dataclass(frozen=True)
class Pkgbuild:
    """A PKGBUILD as bash read it.

    sha256     of its bytes
    fields     name -> elements: {"pkgname": ("linux", "linux-headers"), "pkgver": ("6.1.192",), ...}
    variables  name -> `declare -p` text, only what the PKGBUILD and makepkg.conf set; UNSET for what they unset
    functions  name -> `declare -f` text
    exported   names of exported functions
    files      install and changelog files that it names
    warnings   what bash printed on standard error while it read the file
    findings   what cannot work here, or works otherwise (core/pkgbuild_lint.py)
    """

    name: str
    sha256: str
    arch: str
    fields: Mapping[str, tuple[str, ...]]
    variables: Mapping[str, str]
    functions: Mapping[str, str]
    sources: tuple[Source, ...] = ()
    exported: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def pkgnames(self) -> tuple[str, ...]:
        return self.fields.get("pkgname", ())

    @property
    def pkgbase(self) -> str:
        return (*self.fields.get("pkgbase", ()), *self.pkgnames, "")[0]

    @property
    def pkgver(self) -> str:
        return (*self.fields.get("pkgver", ()), "")[0]

    @property
    def makedepends(self) -> tuple[str, ...]:
        return (*self.fields.get("makedepends", ()), *self.fields.get(f"makedepends_{self.arch}", ()))

    @property
    def depends(self) -> tuple[str, ...]:
        return (*self.fields.get("depends", ()), *self.fields.get(f"depends_{self.arch}", ()))

    def digest(self, part: str) -> str:
        """Hex sha256 of what `part` (one of PARTS) depends on."""
        return self._digests[part]

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {part: _sha256(self.depends_on(part)) for part in PARTS}

    @cached_property
    def undivided(self) -> dict[str, str]:
        """part -> why it depends on the whole file, for those that do."""
        reasons = {part: self._reach(part)[1] for part in ("source", "prepare", "build")}
        return {part: reason for part, reason in reasons.items() if reason}

    def depends_on(self, part: str) -> dict[str, Any]:
        """What counts for `part`, readable, as plain JSON: {"functions": {...}, "variables": {...}, ...}."""
        everything = {
            "functions": dict(self.functions),
            "variables": {k: v for k, v in self.variables.items() if k not in OWN_SETTINGS},
            "exported": sorted(self.exported),
        }
        if part == "package":
            return {**everything, "sha256": self.sha256}
        functions, reason = self._reach(part)
        source = {
            "pkgbase": self.pkgbase,
            "sources": [[s.entry, s.name, dict(s.sums)] for s in self.sources],
            "noextract": list(self.fields.get("noextract", ())),
            "validpgpkeys": list(self.fields.get("validpgpkeys", ())),
        }
        if reason:
            return {**everything, "sha256": self.sha256, "whole": reason}
        words = _words("\n".join(self.functions[name] for name in functions))
        variables = {name: text for name, text in self.variables.items() if name in words and name not in OWN_SETTINGS}
        result: dict[str, Any] = {
            "functions": {name: self.functions[name] for name in functions},
            "variables": variables,
        }
        if part == "source":
            return {**source, **result}
        variables.update(
            (name, text)
            for name, text in self.variables.items()
            if name not in OWN_SETTINGS
            and ("x" in _flags(text) or text == UNSET or name in (*BUILD_FLAGS, "SHELLOPTS", "BASHOPTS"))
        )
        options = [o for o in self.fields.get("options", ()) if o.lstrip("!") in BUILD_OPTIONS]
        return {**result, "options": options, "pkgbase": self.pkgbase}

    def local_files(self, part: str, beside: Iterable[str]) -> tuple[str, ...]:
        """Names of the files beside the PKGBUILD (of `beside`) whose content counts for `part`.

        source: local sources; package: install and changelog files too. In any part: a file that its functions name;
        all where they take from $startdir what no word names (a glob, a variable).
        """
        names = {s.name for s in self.sources if s.protocol == "local"} if part == "source" else set()
        functions = tuple(self.functions) if part == "package" else self._reach(part)[0]
        if part == "package":
            names |= set(self.files)
        text = "\n".join(self.functions[name] for name in functions)
        text += "\n".join(self.variables[name] for name in _words(text) & self.variables.keys() - OWN_SETTINGS)
        everything = part != "source" and len(_words_startdir(text)) < text.count("startdir")
        return tuple(sorted(n for n in beside if everything or n in names or n in text))

    def runs(self) -> dict[str, tuple[str, ...]]:
        """stage -> the functions of the PKGBUILD that it comes to run; one that several run stands at the first."""
        packages = {name for name in self.functions if name == "package" or name.startswith("package_")}
        roots = {"patch": {"prepare"}, "compile": {"build"}, "package": packages}
        told: dict[str, tuple[str, ...]] = {}
        seen = {"prepare", "build", *packages}
        for stage, names in roots.items():
            found = {name for root in names for name in self._reach(root)[0]} - (seen - names)
            told[stage] = tuple(sorted(found))
            seen |= found
        return told

    def _reach(self, part: str) -> tuple[tuple[str, ...], str]:
        """(names of the functions that `part` can come to run, why it may reach more than it names or "")."""
        root = "pkgver" if part == "source" else part
        found: list[str] = []
        waiting = [name for name in (root, *self.exported) if name in self.functions]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.append(name)
            text = self.functions[name]
            named = _words(text)
            # a command may stand in a variable: make="_logged make"
            text += "".join(self.variables[variable] for variable in named & self.variables.keys())
            named |= _words(text, _FUNCTION_WORD) | _words(text)
            waiting += [other for other in self.functions if other in named and other not in found]
        for name in found:
            if reason := _reaches_unnamed(self.functions[name]):
                return tuple(sorted(found)), f"{name}() uses {reason}"
        return tuple(sorted(found)), ""


def check(pkgbuild: Pkgbuild) -> None:
    """Refuse what no run could build. Raises ConfigError."""
    name, functions = pkgbuild.name, pkgbuild.functions
    if not pkgbuild.pkgnames:
        raise ConfigError(
            f"{name}: pkgname is not set", f"set pkgbase=, pkgname=, pkgver=, pkgrel= and arch= in {name}"
        )
    for needed in ("pkgver", "pkgrel", "arch"):
        if not any(pkgbuild.fields.get(needed, ())):
            raise ConfigError(f"{name}: {needed} is not set", f"set {needed}= in {name}")
    for text in (pkgbuild.pkgbase, *pkgbuild.pkgnames):
        if not text or not set(text) <= _FUNCTION_WORD or text[0] in "-.":
            raise ConfigError(f"{name}: {text!r} cannot be a package's name", "use letters, digits and + _ . @ -")
    if "build" not in functions:
        raise ConfigError(f"{name}: has no build() function", "build() is what compiles the kernel; see PKGBUILD(5)")
    single = len(pkgbuild.pkgnames) == 1
    for package in pkgbuild.pkgnames:
        wanted = [f"package_{package}"] + (["package"] if single else [])
        if not any(option in functions for option in wanted):
            raise ConfigError(f"{name}: has no {wanted[-1]}() function", f"pkgname names {package}; see PKGBUILD(5)")
    arches = pkgbuild.fields.get("arch", ())
    if pkgbuild.arch not in arches and "any" not in arches:
        raise ConfigError(
            f"{name}: arch=({' '.join(arches)}) does not name {pkgbuild.arch}, which kernel.arch asks for",
            f"add {pkgbuild.arch} to arch=() if this kernel builds there, or change kernel.arch in cluster.yaml",
        )


def with_told(pkgbuild: Pkgbuild, warnings: Iterable[str], findings: Iterable[Finding]) -> Pkgbuild:
    return replace(pkgbuild, warnings=tuple(warnings), findings=tuple(findings))


class _Blanks(dict[int, int]):
    """For str.translate: a blank for each character that is none of `letters`."""

    def __init__(self, letters: frozenset[str]) -> None:
        super().__init__((ord(letter), ord(letter)) for letter in letters)

    def __missing__(self, key: int) -> int:
        self[key] = ord(" ")
        return ord(" ")


def _words(text: str, letters: frozenset[str] = _WORD) -> set[str]:
    """The words of a text: longest runs of `letters`."""
    return set(text.translate(_Blanks(letters)).split())


def _words_startdir(text: str) -> list[str]:
    """The names that a text takes from $startdir, where they stand there in full."""
    return re.findall(_STARTDIR, text) if "startdir" in text else []


def _flags(declared: str) -> str:
    """The attribute letters in `declare -x name=...`."""
    return declared.split(" ", 2)[1] if declared.startswith("declare ") else ""


def _reaches_unnamed(text: str) -> str:
    """By what a function's text can come to variables or functions that it does not name, "" if it cannot."""
    if "${!" in text:
        return "${!...}"
    words = _words(text, _FUNCTION_WORD)
    for word in ("eval", "compgen"):
        if word in words:
            return word
    if words & {"PKGBUILD", "BUILDFILE", "BASH_SOURCE"}:
        return "the PKGBUILD's own text"
    for separator in _SEPARATORS:
        text = text.replace(separator, "\n")
    for line in text.splitlines():
        command = [word for word in line.replace('"', " ").split() if word not in ("builtin", "command")]
        while command and "=" in command[0]:  # an assignment before the command
            command.pop(0)
        if command[:1] in (["source"], ["."]):
            return command[0]
        if len(command) > 1 and command[0] in _DECLARING and command[1][0] == "-" and set(command[1]) & set("npfF"):
            return " ".join(command[:2])
    return ""


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
