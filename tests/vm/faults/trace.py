"""Where a run of doit spends its time on a node: every question to a node's helper, and every deliberate pause, as
lines of JSON. Put around the program from outside, by a sitecustomize.py that python reads before it.

    {"at": seconds, "node": name, "verb": verb or "pause", "seconds": n, "thread": id}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.vm.rollout_project import Rollout

HOOK = """\
import json, os, threading, time
from kbuild_tasks.effects import clock, node, shell

out = open(os.environ["KBUILD_TRACE"], "a", buffering=1)

def timed(what, act, *args, **named):
    began = time.monotonic()
    try:
        return act(*args, **named)
    finally:
        told = what | {"at": round(began, 3), "seconds": round(time.monotonic() - began, 3)}
        print(json.dumps(told | {"thread": threading.get_ident()}), file=out)

converse, sleep, run = node.converse, clock.sleep, shell.run

def asked(cluster, to, argv, data, word, timeout):
    verb = data.split(b"\\n", 1)[0].decode("ascii", "replace")
    return timed({"node": to.name, "verb": verb if len(verb) < 20 else "script"},
                 converse, cluster, to, argv, data, word, timeout)

node.converse = asked
clock.sleep = lambda seconds: timed({"node": "", "verb": "pause"}, sleep, seconds)
"""


def around(project: Rollout) -> tuple[str, Path]:
    """What goes into doit's environment, and the file that it then writes."""
    place = project.root / "build/trace"
    project.lab.exec("kubenode1", ["mkdir", "-p", str(place)], user="builder")
    (place / "sitecustomize.py").write_text(HOOK)
    file = place / "trace.jsonl"
    file.unlink(missing_ok=True)
    return f"PYTHONPATH={place} KBUILD_TRACE={file}", file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
