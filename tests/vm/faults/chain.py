"""One node's roll-outs with power cuts in them: see cuts.py."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from tests.vm.faults.look import HELPER, Old, changed, default_holds, look, old
from tests.vm.faults.machine import Machine
from tests.vm.faults.moments import ORDER, Moment
from tests.vm.machines import root
from tests.vm.rollout_project import Rollout
from tests.vm.variant import make

STARTUP = 3.0  # seconds that doit and the first question take before it acts
TRIES = 6
LIMIT = 900  # seconds for one roll-out
KINDS = ("another release", "the same release, another vmlinux", "the same vmlinux")


def first_words(node: str, kind: str, moment: Moment, state: str) -> dict[str, Any]:
    """What is told of a cut before anybody looked."""
    return {"node": node, "kind": kind, "moment": moment.name, "marked": moment.marked, "state": state,
            "after": moment.after}  # fmt: skip


def after_the_cut(machine: Machine, before: Old, entry: str) -> dict[str, Any]:
    """Switched on again: does it boot, which kernel, is the old one whole?"""
    told: dict[str, Any] = {
        "boots": False, "seconds": None, "runs": "", "changed": [], "files": 0, "loads": False, "default": "",
        "default_holds": True,
    }  # fmt: skip
    since = machine.length()
    try:
        told["seconds"] = machine.on()
    except KbuildError as error:
        machine.off()
        machine.keep(f"lost-{machine.node}-{int(time.time())}")
        return told | {"runs": "".join(machine.said(since).splitlines(keepends=True)[-20:]), "why": error.message}
    now = look(machine.lab, machine.node, before.release, before.kept, list(before.boot))
    return told | {
        "boots": True, "runs": "the trial" if now.selected == entry else "the old kernel",
        "changed": changed(before, now, entry), "files": len(before.modules) + len(before.boot),
        "loads": len(now.loads) == 2, "default": now.default, "default_holds": default_holds(before, now, entry),
    }  # fmt: skip


class Chain:
    def __init__(
        self, project: Rollout, machine: Machine, choice: random.Random, tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.project, self.machine, self.choice, self.tell = project, machine, choice, tell
        self.lab, self.node = machine.lab, machine.node
        self.run: subprocess.Popen[str] | None = None
        self.lengths: dict[str, float] = {}
        self.number = 0
        self.pkgrel = 1
        self.word = ""
        self.length = 0  # of the console when the present moment was waited for first

    # -- the first roll-out, without a cut: how long each state takes here ------------------------------------------

    def begin(self) -> None:
        """The node as new, and rolled out onto once."""
        self._give_up()
        self.machine.fresh()
        self.project.doit(f"sync:{self.node}")
        for name in ("", "-seen", "-baseline"):
            (self.project.root / f"build/rollout/{self.node}{name}.json{'l' if not name else ''}").unlink(
                missing_ok=True
            )
        self._build(0)
        self._measure()

    def _measure(self) -> None:
        run = self.project.start("rollout", f"only={self.node}")
        began, lengths, state = time.monotonic(), {}, ""
        while run.poll() is None:
            if (now := self.state()) != state and now in ORDER:
                lengths[state] = round(time.monotonic() - began, 1)
                began, state = time.monotonic(), now
            time.sleep(0.05)
        said = run.communicate()[0]
        assert run.returncode == 0, said
        lengths[""] = max(0.5, round(lengths.get("", 1.0) - STARTUP, 1))
        self.lengths = {name: lengths.get(name, 0.5) for name in ORDER[:-1]}
        self.tidy()

    # -- a chain ------------------------------------------------------------------------------------------------------

    def follow(self, moments: Sequence[Moment]) -> dict[str, Any]:
        before = old(self.lab, self.node)
        build, kind = self.build()
        cuts = 0
        for moment in moments:
            if self._until(moment):
                cuts += 1
                if not self._cut(moment, before, f"kbuild-{build}", kind):
                    self.begin()
                    return {"node": self.node, "build": build, "kind": kind, "cuts": cuts, "good": False, "why": "lost"}
            elif self.state() == "COMMITTED" or self.state() == "UNCORDONED":
                break
        why = self._finish(build)
        if not why:
            self.tidy()
        return {"node": self.node, "build": build, "kind": kind, "cuts": cuts, "good": not why, "why": why}

    def build(self) -> tuple[str, str]:
        """The next one: its name, and what kind it is."""
        self.number += 1
        return self._build(self.number), KINDS[self.number % len(KINDS)]

    def _build(self, number: int) -> str:
        """The next one to roll out; they differ in what makes a roll-out easy or hard."""
        kind = KINDS[number % len(KINDS)]
        self.word = f"{self.node} {number} {time.time()}"
        if kind == KINDS[0]:
            self.pkgrel = self.pkgrel % 8 + 1
            return make(self.project.root, self.word, pkgrel=self.pkgrel, build_id=secrets.token_hex(20))
        return make(self.project.root, self.word, build_id=secrets.token_hex(20) if kind == KINDS[1] else "")

    def state(self) -> str:
        """The journal's last one, of the present build."""
        passed = self.project.passed(self.node)
        return passed[-1] if passed else ""

    def _place(self) -> int:
        state = self.state()
        return ORDER.index(state) if state in ORDER else len(ORDER) if state == "UNCORDONED" else 0

    def _until(self, moment: Moment) -> bool:
        """Roll out until the moment is there; False: it went by, or did not come."""
        for _ in range(TRIES):
            began, fresh = time.monotonic(), self.run is None
            self.length = self.machine.length()
            if self.run is None:
                self.run = self.project.start("rollout", f"only={self.node}")
            base = began + STARTUP if fresh and self._place() == moment.place else None
            while self.run.poll() is None:
                place, now = self._place(), time.monotonic()
                if place > moment.place:
                    return False
                if place == moment.place and base is None:
                    base = now
                if moment.pattern and base is not None and moment.seen(self.machine.said(self.length)):
                    time.sleep(moment.after)
                    return self.run.poll() is None
                if not moment.pattern and base is not None and now >= base + moment.after:
                    return True
                assert now < began + LIMIT, f"{self.node} never came to {moment}"
                time.sleep(0.02)
            if self._ended():
                return False
        raise AssertionError(f"{self.node}: doit rollout does not come to {moment}")

    def _ended(self) -> bool:
        """Whether the roll-out came to its end; if the build failed here, the word is given to try it again."""
        assert self.run is not None
        said = self.run.communicate()[0]
        status, self.run = self.run.returncode, None
        self.last = said
        if status == 0:
            return True
        if "not tried again" in said or "doit allow" in said:
            self.project.doit(f"allow:{self.node}")
        return False

    def _cut(self, moment: Moment, before: Old, entry: str, kind: str) -> bool:
        """The power goes; whether the node is there again."""
        state, probability = self.state(), self.choice.choice((0.0, 0.5, 1.0))
        both = self.choice.random() < 0.75
        lost, unsafe = self.machine.cut(probability, self.choice.randrange(1 << 30))
        told = first_words(self.node, kind, moment, state) | {
            "killed": True, "doit_killed": both, "probability": probability, "lost": lost, "unsafe": unsafe
        }  # fmt: skip
        if both:
            self._give_up()
        told |= after_the_cut(self.machine, before, entry)
        if not told["boots"]:
            self._give_up()
        self.tell(told)
        if not told["boots"]:
            return False
        if self.run is not None and state != "REBOOTING":
            self._wait_for_end()
        return True

    def _wait_for_end(self) -> None:
        """A doit that lost its node says so in the end."""
        assert self.run is not None
        try:
            self.run.wait(120)
        except subprocess.TimeoutExpired:
            self._give_up()
        else:
            self._ended()

    def _give_up(self) -> None:
        """kill -9 of doit; one that ended meanwhile, or had not taken its lock yet, is waited for."""
        if self.run is not None and self.run.poll() is None:
            try:
                self.project.kill(self.run)
            except CommandFailed:
                self.run.communicate(timeout=LIMIT)
        self.run = None

    def _finish(self, build: str) -> str:
        """To the end; what is wrong then."""
        for _ in range(TRIES):
            if self.run is None:
                self.run = self.project.start("rollout", f"only={self.node}")
            self.run.wait(LIMIT)
            if self._ended():
                break
        else:
            return f"does not come to its end: {self.last[-2000:]}"
        return self.wrong(build)

    def wrong(self, build: str) -> str:
        """After the end: what is not as it should be; "" where all is."""
        seen = json.loads(root(self.lab, self.node, f"printf 'observe\\n\\n' | {HELPER}"))
        release, good = seen["release"], seen["known_good"] or {}
        entry = f"kbuild-{build}"
        if (seen["loader"]["default"], seen["loader"]["selected"], good.get("build")) != (entry, entry, build):
            runs, default = seen["loader"]["selected"], seen["loader"]["default"]
            return f"ended, and runs {runs}, by default {default}, known-good {good}"
        script = f"cd / && sha256sum -c --quiet /var/lib/kbuild-tasks/rollout/installed/{build} 2>&1 || :"
        if wrong := root(self.lab, self.node, script).splitlines():
            return f"ended, and files are not the package's: {wrong[:5]}"
        there = root(self.lab, self.node, f"sha256sum < /usr/lib/modules/{release}/variant").split()[0]
        if there != hashlib.sha256(f"{self.word}\n".encode()).hexdigest():
            return "ended, and the kernel sees another build's modules"
        return ""

    def tidy(self) -> None:
        """Builds that are neither known-good nor the one before make room on the boot partition."""
        seen = json.loads(root(self.lab, self.node, f"printf 'observe\\n\\n' | {HELPER}"))
        needed = {(seen[name] or {}).get("build") for name in ("known_good", "previous", "trial")}
        for build in root(self.lab, self.node, "ls /boot/kbuild").split():
            if build not in needed and not build.startswith("keep-"):
                asked = f"forget\nbuild={build}\nfence={seen['fence']}\n\n"
                self.lab.exec(self.node, [HELPER], user="root", stdin=asked, timeout=120)
