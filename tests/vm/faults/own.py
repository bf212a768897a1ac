"""own: what a roll-out takes beyond the nodes' own reboots and the settling, and where that goes.

A roll-out of two VMs, traced (trace.py). Of each node's tasks deploy, reboot, verify: less the time for which it was
away, less `settle`. What remains is told apart: the node's own work (its helper's verbs, with their way over ssh) and
what the coordinator adds. A VM's processor is emulated where there is no KVM; what the same helper does with the same
package on this machine's own processor is measured beside it, in a directory (tests/node/world.py), with real pacman.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from typing import Any

from kbuild_tasks.lab.lab import Lab
from tests.node.world import World, new_world
from tests.vm.faults import Row, trace
from tests.vm.machines import VMS
from tests.vm.rollout_project import Rollout

GOAL = 3.0  # seconds a node
SETTLE = 2


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    project.settings(settle=f"{SETTLE}s")
    env, file = trace.around(project)
    project.doit("rollout", env=env)
    tasks = project.last_run()["tasks"]
    lines = trace.read(file)
    for node in VMS:
        figures = _figures(node, tasks, lines)
        yield Row(
            f"{node}: own time",
            f"<= {GOAL:g} s",
            f"{figures['own']:.1f} s: {figures['node']:.1f} its own work in {figures['asked']} questions, "
            f"{figures['waited']:.1f} until its boot is over, {figures['coordinator']:.1f} ours",
            figures["own"] <= GOAL,
            figures,
        )
        yield Row(f"{node}: of that the coordinator's", f"<= {GOAL:g} s", f"{figures['coordinator']:.1f} s",
                  figures["coordinator"] <= GOAL)  # fmt: skip
        verbs = sorted(figures["verbs"].items(), key=lambda item: -item[1]["seconds"])
        told = ", ".join(f"{verb} {spent['seconds']:.1f} ({spent['times']})" for verb, spent in verbs)
        yield Row(f"{node}: where it goes", "", f"{told}; seconds (times)")
    with new_world() as world:
        native = _native(world, project)
    work = native.pop("cpu")
    told = ", ".join(f"{verb} {seconds:.2f}" for verb, seconds in native.items())
    yield Row(
        "the node's work on this machine's own processor",
        f"<= {GOAL:g} s",
        f"{sum(native.values()):.2f} s, of CPU {work:.2f} s: {told}",
        sum(native.values()) <= GOAL,
        native | {"cpu": work},
    )


def _figures(node: str, tasks: dict[str, Any], lines: list[dict[str, Any]]) -> dict[str, Any]:
    took = {verb: float(tasks[f"{verb}:{node}"]["seconds"]) for verb in ("deploy", "reboot", "verify")}
    away = float(tasks[f"reboot:{node}"]["away"])
    own = sum(took.values()) - away - SETTLE
    lines = sorted(lines, key=lambda line: float(line["at"]))
    asked = [line for line in lines if line["node"] == node]
    reboots = next(index for index, line in enumerate(asked) if line["verb"] == "reboot")
    # From `reboot` on it is away, until the first answer of its new boot; after that verify asks for the first time.
    back = next(index for index, line in enumerate(asked) if index > reboots and line["verb"] != "observe") - 1
    outside = asked[:reboots] + asked[back:]
    verbs: dict[str, dict[str, Any]] = {}
    for line in outside:
        spent = verbs.setdefault(line["verb"], {"times": 0, "seconds": 0.0})
        spent["times"] += 1
        spent["seconds"] = round(spent["seconds"] + line["seconds"], 3)
    theirs = sum(spent["seconds"] for spent in verbs.values())
    waited = _waited(lines, asked[back]) - SETTLE
    return {
        "tasks": took,
        "away": away,
        "settle": SETTLE,
        "own": round(own, 2),
        "node": round(theirs, 2),
        "waited": round(waited, 2),
        "coordinator": round(own - theirs - waited, 2),
        "asked": len(outside),
        "verbs": verbs,
    }


def _waited(lines: list[dict[str, Any]], since: dict[str, Any]) -> float:
    """Pauses of verify, which begins with that question: they follow, in its thread, questions to its node."""
    total, node = 0.0, ""
    for line in lines:
        if line["thread"] == since["thread"] and line["at"] >= since["at"]:
            if line["verb"] == "pause" and node == since["node"]:
                total += line["seconds"]
            node = line["node"] or node
    return total


def _native(world: World, project: Rollout) -> dict[str, float]:
    """Seconds of each verb, in the order of a roll-out."""
    world.systemd_boot()
    manifest = json.loads((project.root / "artifacts/manifest.json").read_text())
    build = project.build()
    took: dict[str, float] = {}

    def ask(verb: str, payload: bytes = b"", **values: str | int) -> None:
        began = time.monotonic()
        world.good(verb, payload, **values)
        took[verb] = round(took.get(verb, 0.0) + time.monotonic() - began, 3)

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ask("observe")
    ask("lease", who="bWU=", boot_id="11111111-2222-4333-8444-555555555555")
    ask("stage-list", build=build)
    for name in [*(project.files()), "manifest.json"]:
        data = (project.root / "artifacts" / name).read_bytes()
        began = time.monotonic()
        world.put(build, name, data)
        took["stage-put"] = round(took.get("stage-put", 0.0) + time.monotonic() - began, 3)
    ask("check", build=build)
    ask("install", build=build)
    ask("bootfiles", build=build, modules="overlay br_netfilter", panic=10)
    ask("baseline")
    ask("arm", build=build, panic=10, timeout=900)
    world.runs(str(manifest["kernelrelease"]), str(manifest["build_id"]))
    for _ in range(2):
        ask("observe")
        ask("probe", modules="", release=str(manifest["kernelrelease"]))
        ask("baseline")
    ask("commit", build=build)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took["cpu"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3)
    return took
