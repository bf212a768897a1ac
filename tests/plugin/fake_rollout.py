"""A doit whose nodes are fakes (tests/fake_nodes.py) that outlive the process: their state is kept in build/world.json.

FAKE_FAULTS="n7=panic" gives faults to nodes, FAKE_KILL=17 kills this process at the 17th point, FAKE_KILL_AT=ARMED
when that is written down, FAKE_HANGS="n7=check" has an ssh at work there that does not end by itself,
FAKE_REAL_SLEEP=1 makes pauses real, a thousandth as long (100: a tenth). FAKE_COORDINATOR=1: n1 is a node as well, the
machine that this process runs on: it ends by kill -9 when n1 goes down, and build/unit is what would start it again.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from kbuild_tasks.effects import clock, helper, journal
from tests import fake_nodes


class Setter:
    """What tests/fake_nodes.py wants of pytest's monkeypatch."""

    def setattr(self, where: Any, name: str, value: Any) -> None:
        setattr(where, name, value)


class Forever(fake_nodes.World):
    """A world that is saved after every question, and dies by a real kill -9."""

    def point(self) -> None:
        self.points += 1
        if str(self.points) == os.environ.get("FAKE_KILL"):
            os.kill(os.getpid(), signal.SIGKILL)


def install(root: Path) -> None:
    names = "n7 n2 n3 n1" if os.environ.get("FAKE_COORDINATOR") else "n7 n2 n3"
    artifacts = (root / "artifacts/manifest.json").exists()
    if not artifacts:
        return
    kept = (root / "artifacts/manifest.json").read_bytes()
    world = Forever(root, Setter(), names)
    (root / "artifacts/manifest.json").write_bytes(kept)
    from kbuild_tasks.effects import artifacts as files

    world.build = files.load(world.paths)
    saved = root / "build/world.json"
    if saved.exists():
        value = json.loads(saved.read_text())
        world.time, world._uuids = value["time"], value["uuids"]
        for name, state in value["nodes"].items():
            state["staged"] = {b: {n: d.encode("latin1") for n, d in f.items()} for b, f in state["staged"].items()}
            state["installed"] = set(state["installed"])
            vars(world.nodes[name]).update(state)
    for word in os.environ.get("FAKE_FAULTS", "").split():
        name, _, fault = word.partition("=")
        world.nodes[name].faults = {fault} - {""}
    guard = threading.Lock()
    ask = helper.ask

    def saving(*args: Any, **more: Any) -> Any:
        with guard:
            try:
                return ask(*args, **more)
            finally:
                save(world, saved)

    helper.ask = saving  # type: ignore[assignment]
    append = journal.Journal.append

    def appending(file: Any, build: str, state: str, *args: Any) -> Any:
        written = append(file, build, state, *args)
        if state == os.environ.get("FAKE_KILL_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    journal.Journal.append = appending  # type: ignore[method-assign]
    if hangs := os.environ.get("FAKE_HANGS"):
        helper.ask = hanging(world, *hangs.split("="))  # type: ignore[assignment]
    if os.environ.get("FAKE_COORDINATOR"):
        on_this_machine(world, saved)
    if part := float(os.environ.get("FAKE_REAL_SLEEP", 0)):
        sleep = clock.sleep

        def slowly(seconds: float) -> None:
            time.sleep(seconds * part / 1000)
            with guard:
                sleep(seconds)

        clock.sleep = slowly  # type: ignore[assignment]


def hanging(world: Forever, name: str, wanted: str) -> Any:
    """helper.ask, with an ssh that has begun to ask this verb, and ends as ssh does where it is told to end."""
    from kbuild_tasks.effects import node as remote

    ask = helper.ask

    def hang(cluster: Any, node: Any, verb: str, *args: Any, **more: Any) -> Any:
        if (node.name, verb) != (name, wanted):
            return ask(cluster, node, verb, *args, **more)
        word = remote.new_word()
        ssh = f"trap 'exit 255' TERM INT; echo; echo '@@{word} start'; : >build/hangs; while :; do sleep 0.05; done"
        return remote.converse(cluster, node, ["sh", "-c", ssh], b"", word, 60)

    return hang


def save(world: Forever, path: Path) -> None:
    nodes = {}
    for name, node in world.nodes.items():
        state = {key: value for key, value in vars(node).items() if key not in ("world", "lies", "faults")}
        state["staged"] = {b: {n: d.decode("latin1") for n, d in f.items()} for b, f in node.staged.items()}
        state["installed"] = sorted(node.installed)
        nodes[name] = state
    value = {"time": world.time, "uuids": world._uuids, "nodes": nodes, "max_down": world.max_down}
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(value))
    scratch.rename(path)


def on_this_machine(world: Forever, saved: Path) -> None:
    """The coordinator's own boot takes this process with it; its unit is written where a test finds it."""
    from kbuild_tasks.effects import node, resume

    write, sleep = node.ask, clock.sleep

    def ask(cluster: Any, where: Any, text: str, values: Any = None, *args: Any, **more: Any) -> Any:
        if resume.UNIT not in str((values or {}).get("name")):
            return write(cluster, where, text, values, *args, **more)
        (saved.parent / "unit").write_text(values["unit"])
        return {}

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        for fake in world.nodes.values():
            boots = len(fake.boots)
            fake.settle()
            if fake.name == "n1" and len(fake.boots) > boots:
                world.time += 60
                fake.settle()  # and is up again
                save(world, saved)
                os.kill(os.getpid(), signal.SIGKILL)

    node.ask = ask  # type: ignore[assignment]
    clock.sleep = sleeping  # type: ignore[assignment]
