"""Wait for a node that reboots: until it shows another boot id, or the deadline is over and it can be said why not.

A node is only back when its helper tells a boot id that is a UUID and another one than before: an sshd that is being
stopped, an error text or an old connection that hangs are not taken for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbuild_tasks.core import diagnosis
from kbuild_tasks.core.diagnosis import Sight
from kbuild_tasks.core.errors import Interrupted, KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.effects import clock, reach
from kbuild_tasks.effects.rollout import Visit, observe

PAUSE = 0.5  # seconds between two knocks
ASK = 45  # seconds for one answer of a node that is coming up


class NotBack(NodeUnreachable):
    """The deadline is over."""


@dataclass
class Wait:
    """What was seen so far, and when: in seconds since this began, right before the reboot is asked for. Where an
    earlier run has asked, that was so many seconds `before`; the patience of this run counts from its own beginning."""

    visit: Visit
    boot_id: str  # of before
    before: float = 0.0
    again: str = "doit rollout"  # what goes on, should it not come back
    started: float = field(default_factory=lambda: clock.monotonic())
    sights: list[Sight] = field(default_factory=list)

    @property
    def waited(self) -> float:
        return clock.monotonic() - self.started

    @property
    def asked(self) -> float:
        """Seconds since the reboot was asked for."""
        return self.before + self.waited

    @property
    def down(self) -> float | None:
        """When it was first seen down."""
        return next((sight.at for sight in self.sights if sight.what != diagnosis.OLD_BOOT), None)

    def until_back(self) -> Mapping[str, Any]:
        """The node's first answer in its new boot. Raises NotBack, in the words of core/diagnosis.py."""
        visit, limit = self.visit, self.visit.cluster.rollout.reboot_timeout
        while True:
            answer = self._look()
            if answer is not None and answer["boot_id"] != self.boot_id:
                return answer
            if self.waited > limit:
                where = f"{visit.node.address} port {visit.node.port}"
                told, hint = diagnosis.not_back(
                    self.sights, self.waited, where, visit.data.get("from", "its old kernel"), self.again
                )
                evidence = [sight.told for sight in self.sights[-1:] if sight.told]
                raise NotBack(f"{visit.node.name} {told}", hint, evidence=evidence)
            visit.say(self._step())
            clock.sleep(PAUSE)

    def _look(self) -> Mapping[str, Any] | None:
        """The node's answer, or None and a sight more."""
        word = reach.knock(self.visit.node)
        if word:
            self._saw(word)
            return None
        try:
            answer = observe(self.visit.cluster, self.visit.ctx.paths, self.visit.node, timeout=ASK, alone=True)
        except NodeUnreachable as error:
            what = diagnosis.sight_of("\n".join([error.message, *error.evidence]))
            self._saw(what, error.message, error.hint or "")
            return None
        except Interrupted:
            raise
        except NodeRefused as error:
            self._saw(diagnosis.SUDO, error.message)
            return None
        except KbuildError as error:
            self._saw(diagnosis.LOST, error.message)
            return None
        if answer["boot_id"] == self.boot_id:
            self._saw(diagnosis.OLD_BOOT)
        return answer

    def _saw(self, what: str, told: str = "", hint: str = "") -> None:
        if self.sights and self.sights[-1].what == what:
            before = self.sights[-1]
            self.sights[-1] = Sight(what, before.at, told or before.told, hint or before.hint)
        else:
            self.sights.append(Sight(what, self.waited, told, hint))

    def _step(self) -> str:
        down = self.down
        if down is None:
            return f"going down ({self.asked:.0f} s)"
        if self.before and down == self.sights[0].at:
            return f"down, asked {self.asked:.0f} s ago"  # since when, nobody saw
        return f"down for {self.waited - down:.0f} s, asked {self.asked:.0f} s ago"
