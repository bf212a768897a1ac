"""What in a PKGBUILD cannot work here, or works otherwise than its author meant: told before anything runs.

Found in what bash says of the file (functions as `declare -f` writes them, values of variables), so that comments,
quoting and package functions made by eval mislead nobody; the line is then looked for in the file itself. A command
that runs for certain and cannot work is refused, one behind a condition that is not known yet is warned of, and one
behind a switch that is off is passed over. docs/pkgbuild.md has the table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kbuild_tasks.core.finding import Finding
from kbuild_tasks.core.shelltext import commands

ASSIGNED = r"(?:^|[\s;(]){}\+?=|\bread\b.*\b{}\b|\bfor {} in\b|\bmapfile\b.*\b{}\b"
# makedepends -> a program of that package; those that a kernel's build needs and a machine may well not have
PROGRAMS = {
    "bc": "bc", "bindgen": "bindgen", "bison": "bison", "clang": "clang", "cpio": "cpio", "flex": "flex", "git": "git",
    "graphviz": "dot", "imagemagick": "convert", "kmod": "depmod", "lld": "ld.lld", "llvm": "llvm-ar",
    "pahole": "pahole", "perl": "perl", "python": "python3", "python-sphinx": "sphinx-build", "rsync": "rsync",
    "rust": "rustc", "rust-bindgen": "bindgen", "tar": "tar", "texlive-latexextra": "pdflatex", "xmlto": "xmlto",
    "xz": "xz", "zstd": "zstd",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """pattern of a command; {0} in text is the function, {1} what was found. certain: the kind where it does run."""

    stages: tuple[str, ...]
    pattern: re.Pattern[str]
    certain: str
    text: str
    hint: str
    without: re.Pattern[str] | None = None  # such a command is no case of it
    program: str = ""
    several: bool = False
    values: bool = False  # also where it stands in the value of a variable that the function names


def _rule(stages: str, pattern: str, certain: str, text: str, hint: str, without: str = "", **more: object) -> Rule:
    return Rule(
        tuple(stages.split()), re.compile(pattern), certain, text, hint,
        re.compile(without) if without else None, **more,  # type: ignore[arg-type]
    )  # fmt: skip


_MENUS = r"\bmake\b.*?\b((?:menu|n|x|g)config)\b"
_GIT = r"\bgit\b(?: -c \S+)* (am|cherry-pick|revert|merge|rebase|commit|stash)\b"
RULES = (
    _rule("patch compile package", _MENUS, "refuse", "{0}() runs make {1}, which asks at a terminal, and there is none",
          "make the options a fragment: kernel.fragments in cluster.yaml"),
    _rule("patch compile package", r"(?:^|[\s(])(read -\w*p|select \w+ in)\b", "refuse",
          "{0}() asks a question ({1}), and nobody answers it", "set the answer in the PKGBUILD",
          r"<|\| *read|^(?:while|until) "),
    _rule("compile", r"(\bLLVM(?:_IAS)?=[\"']?[^\s\"'$)]+|\bCC=[\"']?[^\s$]*clang)(?=[\"'\s)]|$)", "refuse",
          "{0}() compiles with clang ({1}), and the .config is made and proven with gcc, which all nodes have",
          "leave it out: this cluster compiles with gcc", r"LLVM(?:_IAS)?=0(?:[\s)]|$)", values=True),
    _rule("patch compile package", r"(-m(?:arch|cpu|tune)=native|-Q --help=target|/proc/cpuinfo|\bMNATIVE\w*|"
          r"\bX86_NATIVE_CPU|\blscpu)\b", "warn",
          "{0}() asks the coordinator's processor ({1}): other nodes may have another, and no worker can help",
          "name the processor that all nodes have: -march=x86-64-v3", several=True, values=True),
    _rule("compile", r"\bmake\b.*?\s(--jobs\b\S*|-j\"?\$\([^)]*\)|-j\S*(?: +\d+\b)?)", "warn",
          "{0}() runs make {1}: it overrides the jobs that fit the nodes' slots", "leave -j out, or write -j$(nproc)",
          r"\s(?:-j|--jobs=?) *\S*\$\(+ *(?:\$\( *)?nproc(?! --all)"),
    _rule("patch compile", r"(?:>>? *|\b(?:cp|mv|install|touch|mkdir|tee|ln)\b.* |sed -i\S* .*)"
          r"(\"?\$\{?startdir\}?[^ ]*) *$", "warn",
          "{0}() writes {1}: a copy, thrown away afterwards; the files beside the PKGBUILD are never written",
          "write into the tree or beside it, in $srcdir"),
    _rule("patch", rf"{_GIT}|\bgit\b(?: -c \S+)* (apply(?: \S+)*? (?:--index|--cached|--3way|-3))(?= |$)", "refuse",
          "{0}() runs git {1}, and the kernel's tree is no repository here",
          "git apply, or patch -Np1 -i, or the directory of patches of cluster.yaml", r"git (?:-C|init|clone)"),
    _rule("patch compile package", r"\bgit (describe|rev-parse|log|rev-list)\b", "warn",
          "{0}() runs git {1}, and the kernel's tree is no repository here", "ask it in pkgver()", r"git (?:-C|init)"),
    _rule("patch", r"(scripts/config\b|merge_config\.sh|\bmake\b.*?local(?:mod|yes)config|/proc/config\.gz|"
          r">> *\"?\S*\.config\b)", "warn",
          "{0}() makes a .config ({1}); it is not used: configure makes it of kernel.config and kernel.fragments",
          "put these options into a fragment"),
    _rule("compile", r"(scripts/config\b|>>? *\"?\S*\.config\b|\bmake\b.*?\b\w*config\b)", "warn",
          "{0}() may change the .config ({1}) that configure proved: compile refuses a kernel whose .config did change",
          "leave it out; options belong into a fragment", r"kernelrelease"),
    _rule("compile", r"(?:^|[\s(])(patch)\b.* -\w*p\d|\b(git apply)\b", "warn",
          "{0}() changes the source ({1}): its next run finds it changed already, for the tree stays",
          "do it in prepare()"),
    _rule("compile", r"(?:^|\s)(O=\S+|KBUILD_OUTPUT=\S+)", "refuse",
          "{0}() compiles outside of the tree ({1})", "leave it out: the build tree is private already", values=True),
    _rule("compile", r"\bmake\b.*?\b(mrproper|distclean)\b", "refuse",
          "{0}() runs make {1}, which removes the .config that was proven", "leave it out"),
    _rule("compile", r"\bmake\b.*?\s(clean)\b", "warn", "{0}() runs make {1}: every run compiles everything again",
          "leave it out: what a change touches is known"),
    _rule("compile", r"\bCC=[\"']?(ccache|distcc)\b", "warn", "{0}() sets CC to {1}: the compiler's front does that",
          "leave it out", values=True),
    _rule("compile", r"\bmake\b.*?\b((?:html|pdf|latex|epub)docs)\b", "refuse",
          "{0}() makes {1}, and there is no sphinx-build", "install Sphinx, or leave it out", program="sphinx-build"),
)  # fmt: skip
_LATER = re.compile(
    r"\bpatch\b .*|git apply.*|scripts/config\b.*|merge_config\.sh.*|\bmake\b.*config\b|>+ *localversion\S*"
)
_DIRECTORY = re.compile(r"startdir\}?\"?/\"?([\w.+@-]+)/")


def lint(
    text: str,
    functions: Mapping[str, str],
    variables: Mapping[str, str],
    reach: Mapping[str, Iterable[str]],
    *,
    makedepends: Iterable[str] = (),
    missing: Iterable[str] = (),
    repositories: bool = False,
    directories: Iterable[str] = (),
) -> tuple[Finding, ...]:
    """Everything that is to be said of a PKGBUILD, in the order of its lines.

    text         the file
    functions    name -> `declare -f` text; variables: name -> `declare -p` text
    reach        stage -> the functions that it runs
    missing      local sources that do not lie beside it; directories: those that do
    repositories whether other sources than the kernel's are git repositories: git may be meant for them
    """
    values = _values(functions, variables)
    lines = _code(text)
    found: dict[tuple[str, str], Finding] = {}
    for stage, names in reach.items():
        for name in names:
            for finding in _function(stage, name, functions[name], variables, values, lines):
                if repositories and " runs git " in finding.text:
                    finding = replace(finding, kind="warn")
                key = (finding.text, finding.stage)
                if key not in found or found[key].kind == "warn":
                    found[key] = finding
            for directory in _DIRECTORY.findall(functions[name]):
                if directory in set(directories):
                    told = (
                        f"{name}() reads {directory}/ beside the PKGBUILD, and only files beside it come to the build"
                    )
                    line = _line(lines, re.compile(re.escape(directory) + "/"), name)
                    found[told, stage] = Finding("refuse", stage, line, told, "put its files beside the PKGBUILD")
    told_of = [*found.values(), *_top_level(lines, makedepends, missing)]
    return tuple(sorted(told_of, key=lambda finding: finding.line))


def _function(
    stage: str, name: str, text: str, variables: Mapping[str, str], values: Mapping[str, str | None], lines: list[str]
) -> Iterator[Finding]:
    told = list(commands(text, values))
    asked = [number for number, command in enumerate(told) if re.search(r"\bkernelrelease\b", command.text)]
    if stage == "patch" and asked:
        for command in told[asked[-1] + 1 :]:
            if later := _LATER.search(command.text):
                yield Finding(
                    "warn", stage, _line(lines, re.compile("kernelrelease"), name),
                    f"{name}() takes kernelrelease before {later[0][:60]!r}: afterwards it may be another",
                    "ask for it last, or in the package function",
                )  # fmt: skip
                break
    for rule in RULES:
        if stage not in rule.stages:
            continue
        for command in told:
            match = rule.pattern.search(command.text)
            if match and not (rule.without and rule.without.search(command.text)):
                what = next(group for group in match.groups() if group)
                kind = rule.certain if command.runs else "warn"
                yield _finding(rule, kind, stage, name, what, lines)
        if rule.values:
            yield from _in_values(rule, stage, name, text, variables, lines)


def _in_values(
    rule: Rule, stage: str, name: str, text: str, variables: Mapping[str, str], lines: list[str]
) -> Iterator[Finding]:
    """A flag in a variable that the function names (make "${BUILD_FLAGS[@]}"), or that is exported."""
    for variable, declared in variables.items():
        exported = declared.startswith("declare -") and "x" in declared.split(" ", 2)[1]
        if not exported and not re.search(rf"\$\{{?{re.escape(variable)}\b", text):
            continue
        shown = _shown(declared)
        match = rule.pattern.search(shown)
        if match and not (rule.without and rule.without.search(shown)):
            yield _finding(rule, rule.certain, stage, name, next(g for g in match.groups() if g), lines)


def _shown(declared: str) -> str:
    """declare -ax f=([0]="CC=clang" [1]="LLVM=1") -> "f=( CC=clang  LLVM=1)"; declare -x LLVM="1" -> "LLVM=1"."""
    try:
        words = shlex.split(declared.split(" ", 2)[-1])
    except ValueError:
        words = [declared]
    return re.sub(r"\[\w+\]=", " ", " ".join(words))


def _finding(rule: Rule, kind: str, stage: str, name: str, what: str, lines: list[str]) -> Finding:
    word = r"(?<!\w)" if what[0].isalnum() else ""
    line = _line(lines, re.compile(word + re.escape(what).replace(r"\ ", r"\s+")), name)
    return Finding(kind, stage, line, rule.text.format(name, what), rule.hint, rule.program, rule.several)


def _top_level(lines: list[str], makedepends: Iterable[str], missing: Iterable[str]) -> Iterator[Finding]:
    for package in makedepends:
        plain = re.split("[<>=:]", package)[0]
        if program := PROGRAMS.get(plain):
            text = f"makedepends names {plain}, and this machine has no program {program}"
            line = _line(lines, re.compile(rf"(?<![\w-]){re.escape(plain)}(?![\w-])"))
            yield Finding("warn", "compile", line, text, f"install {plain}", program)
    for name in missing:
        text = f"source=() names {name}, which does not lie beside the PKGBUILD"
        yield Finding("refuse", "extract", _line(lines, re.compile(re.escape(name))), text, f"put {name} there")
    for number, code in enumerate(lines, 1):
        if "KBUILD_BUILD_TIMESTAMP=" in code and re.search(r"\bdate\b", code) and "SOURCE_DATE_EPOCH" not in code:
            text = "KBUILD_BUILD_TIMESTAMP is the time of day: two builds of the same inputs differ"
            yield Finding("warn", "compile", number, text, "leave it out, or take it from SOURCE_DATE_EPOCH")


def _values(functions: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str | None]:
    """Plain variables -> value; None for those that a function may set, for arrays, and for what bash sets itself."""
    values: dict[str, str | None] = dict.fromkeys(("HOME", "PWD", "srcdir", "pkgdir", "startdir", "USER", "MAKEFLAGS"))
    everything = "\n".join(functions.values())
    for name in {*variables, *re.findall(r"\$\{?(\w+)", everything)}:
        word = re.escape(name)
        declared = variables.get(name)
        assigned = re.search(ASSIGNED.replace("{}", word), everything, re.MULTILINE)
        if name in values or assigned or name.isdigit() or (declared or "").startswith("declare -a"):
            values[name] = None
        elif declared is not None:
            try:
                values[name] = shlex.split(declared.partition("=")[2])[0] if "=" in declared else ""
            except (ValueError, IndexError):
                values[name] = None if "=" in declared and declared.partition("=")[2] != '""' else ""
    return values


def _code(text: str) -> list[str]:
    """The file's lines, comments blanked."""
    return [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]


def _line(lines: list[str], pattern: re.Pattern[str], function: str = "") -> int:
    """The number of the first line that has it, in the function where that is in the file, else anywhere; or 0."""
    head = re.compile(rf"^\s*(?:function\s+)?{re.escape(function)}\s*\(\)" if function else "^")
    start = next((number for number, line in enumerate(lines) if head.search(line)), None)
    if start is not None and function:
        for number in range(start, len(lines)):
            if pattern.search(lines[number]):
                return number + 1
            if lines[number].startswith("}"):
                break
    return next((number for number, line in enumerate(lines, 1) if pattern.search(line)), 0)
