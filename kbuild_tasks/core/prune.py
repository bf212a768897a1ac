"""Which builds on a node nothing needs any more: pure. The helper on the node decides once more, by its own records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbuild_tasks.core.history import BEFORE_REBOOT, IN_FLIGHT, History
from kbuild_tasks.core.when import when

KEPT = "keep-"  # copies of an older default's boot files


def in_the_way(answer: Mapping[str, Any], history: History) -> str:
    """Why nothing is removed there now; "" where it may be. `answer`: the node's to observe."""
    if history.back is not None:
        return f"is being rolled back since {when(history.back.at)}"
    if history.state in IN_FLIGHT:
        return f"is in the middle of build {history.build} ({history.state} since {when(history.since)})"
    if trial := answer.get("trial"):
        return f"tries build {trial.get('build') or 'of somebody else'}"
    return ""


def needed(answer: Mapping[str, Any], history: History, current: str) -> dict[str, str]:
    """What stays, and why: name -> reason. current: the build in artifacts/, which a roll-out would bring again."""
    loader = answer.get("loader") or {}
    stays: dict[str, str] = {}
    denied = {str(entry.get("build")) for entry in answer.get("deny") or ()}
    for record, why in (("known_good", "known-good"), ("previous", "previous")):
        found = answer.get(record) or {}
        build = str(found.get("build") or "")
        if record == "previous" and build in denied:
            continue  # taken back: nobody goes there again
        for name in (build, of_entry(found.get("entry"))):
            if name:
                stays.setdefault(name, why)
    for key, why in (("selected", "it runs"), ("default", "the default")):
        if name := of_entry(loader.get(key)):
            stays.setdefault(name, why)
    if history.state in BEFORE_REBOOT:
        stays.setdefault(history.build, "being rolled out")
    if current and current not in denied and current not in history.failed:
        stays.setdefault(current, "in artifacts/")
    return stays


def old(answer: Mapping[str, Any], history: History, current: str) -> list[str]:
    """Names of builds (and keep-<id>) that may go."""
    stays = needed(answer, history, current)
    return [str(name) for name in answer.get("builds") or () if name not in stays]


def of_entry(entry: Any) -> str:
    """The name behind a boot entry of ours, "" for others."""
    return str(entry).removeprefix("kbuild-") if str(entry or "").startswith("kbuild-") else ""


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**20:.0f} MiB" if count >= 10 << 20 else f"{count / 2**20:.1f} MiB"
