"""Is this node well on the new kernel? Every answer is a difference to the node's own baseline, taken before its
reboot: old noise neither stops a roll-out nor hides a new fault.

What a node does not tell counts against it: an answer without a key is never taken for "no errors".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbuild_tasks.core.model import Rollout
from kbuild_tasks.core.nodestate import valid_boot_id
from kbuild_tasks.core.rollout import Build

SKEW = 2.0  # seconds: k3s and etcd want less
SHOWN = 3
# proc(5), Documentation/admin-guide/tainted-kernels.rst
TAINT = "PFSRMBUDAWCIOELKXT"
# Mounts that come and go with what runs: not a node's own file systems.
_PASSING = re.compile(
    r"/(proc|sys|dev|run)(/|$)|/usr/lib/modules/|/var/lib/(kubelet|rancher|docker|containers|containerd|cni)/"
    r"|/(tmp|var/tmp|snap)(/|$)"
)


@dataclass(frozen=True)
class Finding:
    """One line of the table. ok: as it should be. soon: may become right by waiting (a unit that is still starting)."""

    what: str
    ok: bool
    told: str
    soon: bool = False


@dataclass(frozen=True)
class Check:
    """What was asked of the node now: answers of observe, baseline and probe, the user's commands, and how far its
    clock is from ours (seconds)."""

    observe: Mapping[str, Any]
    baseline: Mapping[str, Any]
    probe: Mapping[str, Any]
    commands: Sequence[Mapping[str, Any]] = ()
    skew: float = 0.0


def compare(build: Build, boot_id: str, before: Mapping[str, Any], now: Check, rollout: Rollout) -> list[Finding]:
    """All findings.

    boot_id  of the boot that is verified
    before   the baseline file: {"observe", "baseline", "skew"}
    """
    found = [*_kernel(build, boot_id, before, now)]
    found += [*_modules(rollout.verify_modules, now.probe)]
    found += [*_health(before.get("baseline"), now.baseline, rollout.verify_ignore)]
    found += [*_clock(before, now)]
    found += [*_commands(rollout.verify_commands, now.commands)]
    return found


def failed(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


def table(findings: Sequence[Finding]) -> list[str]:
    """For the log: one line each, the bad ones marked."""
    width = max((len(finding.what) for finding in findings), default=0)
    return [f"{'ok ' if f.ok else 'BAD'}  {f.what:<{width}}  {f.told}" for f in findings]


def _kernel(build: Build, boot_id: str, before: Mapping[str, Any], now: Check) -> Iterator[Finding]:
    old = str((before.get("observe") or {}).get("boot_id"))
    for name, answer in (("observe", now.observe), ("probe", now.probe)):
        if answer.get("boot_id") != boot_id or not valid_boot_id(boot_id):
            yield Finding("boot", False, f"was rebooted meanwhile ({name} shows boot {_word(answer.get('boot_id'))})")
            return
    yield Finding("boot", boot_id != old and valid_boot_id(old), f"{boot_id}, before {old}")
    for what, key, wanted in (
        ("kernelrelease", "release", build.release),
        ("uname -v", "version", build.version),
        ("build id", "build_id", build.build_id),
    ):
        if wanted is None:
            continue
        shown = [answer.get(key) for answer in (now.observe, now.probe) if answer.get(key) != wanted]
        yield Finding(what, not shown, wanted if not shown else f"is {_word(shown[0])}, not {wanted}")
    for build_now in (now.observe.get("build"), now.probe.get("build")):  # an earlier helper's entry says nothing
        if build_now and build_now != build.build:
            yield Finding("build", False, f"{_word(build_now)} was booted, not {build.build}")
            break
    entry = (now.observe.get("loader") or {}).get("selected")
    if entry:
        good = entry == build.entry
        yield Finding("boot entry", good, str(entry) if good else f"{entry} was booted, not {build.entry}")
    config = now.probe.get("config_sha256")
    if config:
        good = build.config is None or config == build.config
        yield Finding(
            ".config", good, "/proc/config.gz is the shipped one" if good else "/proc/config.gz is another one"
        )
    else:  # an equal build id is an equal vmlinux: the stronger proof
        good = config == "" and bool(build.build_id) and now.probe.get("build_id") == build.build_id
        yield Finding(
            ".config", good, "no /proc/config.gz (CONFIG_IKCONFIG_PROC)" + ("; told by build id" if good else "")
        )


def _files(probe: Mapping[str, Any]) -> Finding:
    """What the kernel finds in its module directory is what the build brought: an equal vmlinux may have others."""
    files = probe.get("files")
    wrong = files.get("wrong") if isinstance(files, Mapping) else None
    if not isinstance(files, Mapping) or not isinstance(wrong, list) or not files.get("count"):
        return Finding("module files", False, "were not told")
    names = [str(path).rsplit("/", 1)[-1] for path in wrong]
    return Finding("module files", not wrong, _few(names, "of another build") or f"{files['count']} are the build's")


def _modules(wanted: Sequence[str], probe: Mapping[str, Any]) -> Iterator[Finding]:
    yield _files(probe)
    loaded, builtin, refused = probe.get("loaded"), probe.get("builtin"), probe.get("failed")
    if not isinstance(loaded, list) or not isinstance(builtin, list) or not isinstance(refused, dict):
        yield Finding("modules", False, "were not told")
        return
    there = {str(name).replace("-", "_") for name in (*loaded, *builtin)}
    bad = {str(name): str(why) for name, why in refused.items()}
    for name in wanted:
        if name not in bad and name.replace("-", "_") not in there:
            bad[name] = "is not loaded"
    told = "; ".join(f"{name}: {why}" for name, why in list(bad.items())[:SHOWN])
    yield Finding("modules", not bad, told or (f"{len(wanted)} load" if wanted else "none asked for"))


def _health(before: Any, now: Mapping[str, Any], ignore: Sequence[str]) -> Iterator[Finding]:
    before = before if isinstance(before, Mapping) else {}
    old = [*_texts(before, "kernel_errors"), *_texts(before.get("previous") or {}, "kernel_errors")]
    known = {normal(line) for line in old}
    errors = now.get("kernel_errors")
    if not isinstance(errors, list):
        yield Finding("kernel log", False, "was not told")
    else:
        new = [str(line) for line in errors if normal(str(line)) not in known]
        new = [line for line in dict.fromkeys(new) if not any(part in line for part in ignore)]
        yield Finding("kernel log", not new, _few(new, "new error") or "no new error")
    yield _taint(before.get("taint"), now.get("taint"))
    yield _list("failed units", _texts(before, "failed_units"), now.get("failed_units"), "newly failed", soon=True)
    yield _list("pstore", _texts(before, "pstore"), now.get("pstore"), "new dump")
    mounts = now.get("mounts")
    if not isinstance(mounts, list):
        yield Finding("mounts", False, "were not told")
    else:
        missing = sorted(_mounted(_texts(before, "mounts")) - _mounted(mounts))
        yield Finding("mounts", not missing, _few(missing, "missing") or "as before", soon=True)


def _taint(before: Any, now: Any) -> Finding:
    if not isinstance(now, int) or not isinstance(before, int):
        return Finding("taint", False, "was not told")
    new = now & ~before
    letters = "".join(TAINT[bit] if bit < len(TAINT) else "?" for bit in range(64) if new >> bit & 1)
    return Finding("taint", not new, f"new: {letters}" if new else str(now))


def _list(what: str, before: Sequence[str], now: Any, word: str, soon: bool = False) -> Finding:
    if not isinstance(now, list):
        return Finding(what, False, "was not told")
    new = sorted({str(name) for name in now} - set(before))
    return Finding(what, not new, _few(new, word) or "as before", soon)


def _clock(before: Mapping[str, Any], now: Check) -> Iterator[Finding]:
    was = before.get("skew")
    allowed = max(SKEW, abs(was) + SKEW) if isinstance(was, int | float) else SKEW
    good = abs(now.skew) <= allowed
    yield Finding("clock", good, f"{now.skew:+.1f} s" + ("" if good else ", before it was right"), soon=True)
    told = now.baseline.get("synchronized")
    lost = bool((before.get("baseline") or {}).get("synchronized")) and told is not True
    yield Finding(
        "time", not lost and isinstance(told, bool), "no longer synchronised" if lost else "as before", soon=True
    )


def _commands(wanted: Sequence[str], ran: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for index, command in enumerate(wanted):
        result = ran[index] if index < len(ran) else {}
        status = result.get("status")
        good = status == 0 and result.get("command") == command
        told = "status 0" if good else f"status {status}: {str(result.get('out') or '').strip()[-200:]}".rstrip(": ")
        yield Finding(f"command {_word(command)[:40]}", good, told, soon=True)


def normal(line: str) -> str:
    """A kernel message without what differs at each boot: addresses, times, amounts, process ids. Small numbers stay:
    ata1 is not ata2."""
    line = re.sub(r"^\s*(?:<\d+>)?(?:\[\s*\d+\.\d+\]\s*)?", "", line.strip())
    line = re.sub(r"0x[0-9a-fA-F]+|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "#", line)
    line = re.sub(r"\b\d+\.\d+\b|(?<![\w-])\d{4,}\b", "#", line)
    line = re.sub(
        r"(?<![\w-])\d+(?=\s?(?:ns|us|usecs?|ms|msecs?|s|secs?|seconds|jiffies|bytes|[kKMG]i?B|%|MHz)\b)", "#", line
    )
    line = re.sub(r"(\w)\[[\d#]+\]", r"\1[#]", line)
    return re.sub(r"(?i)\b(pid|cpu)([:= ]+)\d+", r"\1\2#", line)


def _mounted(lines: Iterable[Any]) -> set[str]:
    targets = {str(line).split(" ")[0] for line in lines}
    return {target for target in targets if target.startswith("/") and not _PASSING.match(target)}


def _texts(value: Any, key: str) -> list[str]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return [str(item) for item in found] if isinstance(found, list) else []


def _few(items: Sequence[str], word: str) -> str:
    if not items:
        return ""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{word}: " + "; ".join(item[:160] for item in items[:SHOWN]) + more


def _word(value: Any) -> str:
    text = str(value) if value not in (None, "") else "not told"
    return text if text.isprintable() else repr(text)


def counts(findings: Sequence[Finding]) -> str:
    """ "14 checks" or "2 of 14 checks" for the one line of a task."""
    bad = Counter(finding.ok for finding in findings)[False]
    return f"{bad} of {len(findings)} checks" if bad else f"{len(findings)} checks"
