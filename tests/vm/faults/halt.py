"""Stops a run of doit at a point, so that a fault strikes just there: `with Halt(project, "kubenode7 ARMED") ...`.

The points are "NODE STATE" (the journal has that record, on the disk; what it announces is not begun) and "NODE verb"
(before the node's helper is asked). Put around the program from outside, by a sitecustomize.py that python reads before
it: the program itself has no such thing.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.vm.rollout_project import LIMIT, Rollout

HOOK = """\
import os, time
from kbuild_tasks.effects import journal, node
from kbuild_tasks.stages import reboot

point, mark = os.environ["KBUILD_HALT"], os.environ["KBUILD_HALT_MARK"]
reboot.UNSEEN = int(os.environ.get("KBUILD_UNSEEN", reboot.UNSEEN))

def reached(here):
    if here == point and not os.path.exists(mark + ".been"):
        open(mark + ".been", "w").close()
        open(mark, "w").close()
        while os.path.exists(mark):
            time.sleep(0.02)

append, converse = journal.Journal.append, node.converse

def noted(self, build, state, *more):
    record = append(self, build, state, *more)
    reached(self.path.name.removesuffix(".jsonl") + " " + state)
    return record

def asked(cluster, to, argv, data, *more):
    reached(to.name + " " + data.split(b"\\n", 1)[0].decode("ascii", "replace")[:40])
    return converse(cluster, to, argv, data, *more)

journal.Journal.append, node.converse = noted, asked
"""


class Halt:
    """One run that stops at `point`, once.

    unseen  seconds more than it may take to verify a trial, after which the node goes back by itself (the program's own
            are 900: a test does not wait so long)
    """

    def __init__(self, project: Rollout, point: str, *words: str, unseen: int | None = None) -> None:
        self.project = project
        place = project.root / "build/halt"
        project.lab.exec("kubenode1", ["mkdir", "-p", str(place)], user="builder")
        (place / "sitecustomize.py").write_text(HOOK)
        self.mark = place / "here"
        for path in (self.mark, Path(f"{self.mark}.been")):
            path.unlink(missing_ok=True)
        env = f"PYTHONPATH={place} KBUILD_HALT_MARK={self.mark} 'KBUILD_HALT={point}'"
        env += f" KBUILD_UNSEEN={unseen}" if unseen is not None else ""
        self.run: subprocess.Popen[str] = project.start(*(words or ("rollout",)), env=env)

    def wait(self) -> bool:
        """Until it has stopped there; False: it ended without coming by."""
        deadline = time.monotonic() + LIMIT
        while not self.mark.exists():
            if self.run.poll() is not None:
                return False
            assert time.monotonic() < deadline, "the run neither came to the point nor ended"
            time.sleep(0.05)
        return True

    def go_on(self) -> None:
        self.mark.unlink()

    def end(self) -> str:
        """Let it go on; what it said until its end."""
        self.mark.unlink(missing_ok=True)
        return self.project.end(self.run)

    def kill(self) -> None:
        """kill -9 of the program, where it stands."""
        self.project.kill(self.run)
