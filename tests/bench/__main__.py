"""script/bench: runs the measurements named (default: all), prints their ratios, writes build/bench.json."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.files import read_json, write_json
from kbuild_tasks.lab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]


def noop() -> dict[str, Any]:
    """In the project's own lab, which script/demo leaves built."""
    lab = Lab(ROOT)
    lab.up()
    python = str(ROOT / ".venv/bin/python")
    done = lab.exec("kubenode1", [python, "-m", "tests.bench.noop", str(ROOT)], timeout=600)
    result: dict[str, Any] = json.loads(done.out)
    return result


def fanout() -> dict[str, Any]:
    from tests.bench.fanout import measure

    return measure(ROOT)


def simulate() -> dict[str, Any]:
    from tests.bench.simulate import measure

    return measure(ROOT)


def simulate_local() -> dict[str, Any]:
    from tests.bench.simulate_local import measure

    return measure(ROOT)


ALL = {"noop": noop, "fanout": fanout, "simulate": simulate}
MEASUREMENTS = {**ALL, "simulate-local": simulate_local}


def main(names: list[str]) -> int:
    file = ROOT / "build" / "bench.json"
    known = read_json(file) or {}
    known["machine"] = {"kernel": platform.release(), "python": platform.python_version()}
    for name in names or list(ALL):
        if name not in MEASUREMENTS:
            print(f"script/bench: there is no {name}; there are {', '.join(MEASUREMENTS)}", file=sys.stderr)
            return 2
        try:
            known[name] = MEASUREMENTS[name]()
        except KbuildError as error:
            print(error.render(), file=sys.stderr)
            return 1
        write_json(file, known)
        for what, ratio in known[name]["ratios"].items():
            goal = known[name].get("goals", {}).get(what)
            print(f"  {name:<8} {what:<44} {ratio:8.2f}" + (f"   goal {goal}" if goal else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
