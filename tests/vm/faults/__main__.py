"""script/faults: runs the fault runs named (default: all), prints the table, writes build/faults.json."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.files import read_json, write_json
from kbuild_tasks.lab.lab import Lab
from tests.vm.faults import Row
from tests.vm.machines import VMS
from tests.vm.rollout_project import Rollout

ROOT = Path(__file__).resolve().parents[3]
RUNS = {  # module here: what it shows
    "matrix": "kernels that are bad in every way, on the canary: nodes lost, nodes touched after it",
    "initramfs": "the same of a kernel with an initramfs",
    "kills": "the coordinator killed at each state (T1), two operators (T3)",
    "own": "time beyond the nodes' own reboots and the settling, and where it goes",
    "again": "a second roll-out changes nothing and says so",
    "cuts": "power cuts at marked and drawn moments of deploy..COMMITTED; hashes of the old kernel",
    "plain": "the same cuts in a plain pacman -U of a same-named package, to compare",
    "lies": "failing hooks and scriptlets, missing modules, a full /boot; plain pacman's exit status beside it",
}


def main(arguments: list[str]) -> int:
    chosen = dict(argument.partition("=")[::2] for argument in arguments) or dict.fromkeys(RUNS, "")
    for name, count in chosen.items():
        if name not in RUNS or (count and not count.isdigit()):
            print(f"script/faults does not know {name}{'=' if count else ''}{count}; there are:", file=sys.stderr)
            for known, shows in RUNS.items():
                print(f"  {known:<10} {shows}", file=sys.stderr)
            return 2
    lab = Lab(ROOT)
    before = {node.name for node in lab.status()}
    bad = 0
    try:
        lab.up(3, vms=len(VMS))
        for name, count in chosen.items():
            bad += _run(name, lab, int(count) if count else None)
    except KbuildError as error:
        print(error.render(), file=sys.stderr)
        return 1
    finally:
        if not before:
            lab.down()
    return 1 if bad else 0


def _run(name: str, lab: Lab, count: int | None) -> int:
    """The number of rows that did not hold."""
    module = importlib.import_module(f"tests.vm.faults.{name}")
    run: Callable[..., Iterable[Row]] = module.run
    make = getattr(module, "PROJECT", Rollout.built)
    print(f"{name}: {RUNS[name]}", flush=True)
    rows: list[Row] = []
    began = time.monotonic()
    lab.up(3, vms=len(VMS))  # whatever the run before left switched off, frozen or cut off
    for row in run(lab, make(lab, f"faults-{name}"), count):
        rows.append(row)
        _print(row)
        _write(name, rows, round(time.monotonic() - began, 1))
    return sum(row.good is False for row in rows)


def _print(row: Row) -> None:
    mark = {True: "ok  ", False: "FAIL", None: "    "}[row.good]
    print(f"  {mark} {row.what:<44} {row.seen}" + (f"   (goal: {row.goal})" if row.goal else ""), flush=True)


def _write(name: str, rows: Iterable[Row], seconds: float) -> None:
    """After each row, and beside what other runs wrote."""
    file = ROOT / "build" / "faults.json"
    known: dict[str, Any] = read_json(file) or {}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    known[name] = {"at": at, "seconds": seconds, "rows": [asdict(row) for row in rows]}
    write_json(file, known)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
