"""Power cuts without a kill: one roll-out that comes to its end, of whose disk pictures are taken at the moments (what
a power cut then would leave, byte for byte: disk.py, and the NVRAM); then the VM is booted from each of them.

It costs a boot a cut, where a chain also costs what the next `doit rollout` does again. What it does not show is that
roll-out going on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.vm.faults.chain import Chain, after_the_cut, first_words
from tests.vm.faults.look import old
from tests.vm.faults.moments import ORDER, Moment


def photograph(chain: Chain, moments: Sequence[Moment]) -> dict[str, Any]:
    """In the order of the states; those that went by are left out. Tells of each cut."""
    machine, choice = chain.machine, chain.choice
    before = old(chain.lab, chain.node)
    build, kind = chain.build()
    taken: list[tuple[str, dict[str, Any]]] = []
    run = chain.project.start("rollout", f"only={chain.node}")
    since, base = machine.length(), {"": time.monotonic() + 3.0}
    left = list(moments)
    while run.poll() is None:
        state = chain.state()
        place = ORDER.index(state) if state in ORDER else len(ORDER)
        base.setdefault(state, time.monotonic())
        left = [moment for moment in left if moment.place >= place]
        said = machine.said(since)
        for moment in [moment for moment in left if moment.place == place]:
            there = moment.seen(said) if moment.pattern else time.monotonic() >= base[state] + moment.after
            if there:
                left.remove(moment)
                if moment.pattern:
                    time.sleep(min(moment.after, 1.0))
                name, chance = f"cut-{chain.node}-{len(taken)}", choice.choice((0.0, 0.5, 1.0))
                lost, unsafe = machine.picture(name, chance, choice.randrange(1 << 30))
                first = first_words(chain.node, kind, moment, state)
                taken.append((name, first | {"killed": False, "probability": chance, "lost": lost, "unsafe": unsafe}))
                break  # the state may be another now
        time.sleep(0.02)
    said = run.communicate()[0]
    assert run.returncode == 0, said
    why = chain.wrong(build)
    machine.switch_off()
    end = f"end-{chain.node}"
    machine.keep(end)
    for name, cut in taken:
        machine.load(name)
        cut |= after_the_cut(machine, before, f"kbuild-{build}")
        machine.off()
        machine.forget(name)
        chain.tell(cut)
    machine.load(end)
    machine.forget(end)
    machine.on()
    chain.tidy()
    told = {"node": chain.node, "build": build, "kind": kind, "cuts": len(taken), "album": True}
    return told | {"good": not why, "why": why}
