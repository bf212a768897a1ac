"""script/bench: runs the measurements named (default: all), prints their ratios, writes build/bench.json."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.files import read_json, write_json
from kbuild_tasks.lab.lab import Lab
from tests.bench.place import Place

ROOT = Path(__file__).resolve().parents[2]


def noop(size: str) -> dict[str, Any]:
    """In the project's own lab, which script/demo leaves built."""
    lab = Lab(ROOT)
    lab.up()
    python = str(ROOT / ".venv/bin/python")
    done = lab.exec("kubenode1", [python, "-m", "tests.bench.noop", str(ROOT)], timeout=600)
    result: dict[str, Any] = json.loads(done.out)
    return result


def fanout(size: str) -> dict[str, Any]:
    from tests.bench.fanout import measure

    return measure(ROOT)


def edit(size: str) -> dict[str, Any]:
    from tests.bench import edit

    with _place(size) as place:
        return edit.measure(place)


def simulate(size: str) -> dict[str, Any]:
    from tests.bench.simulate import measure

    return measure(ROOT)


def simulate_local(size: str) -> dict[str, Any]:
    from tests.bench.simulate_local import measure

    return measure(ROOT)


def cold(size: str) -> dict[str, Any]:
    from tests.bench import cold

    with _place(size) as place:
        return cold.measure(place)


def _place(size: str) -> AbstractContextManager[Place]:
    if size == "small":
        from tests.bench.small import small
        from tests.conftest import unpacked

        return small(unpacked())
    from tests.bench.example import example

    return example(ROOT, size)


ALL = {"noop": noop, "fanout": fanout, "edit": edit, "cold": cold, "simulate": simulate}
MEASUREMENTS = {**ALL, "simulate-local": simulate_local}
SIZED = ("edit", "cold")
SIZES = ("small", "middle", "real")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="script/bench")
    parser.add_argument("--size", choices=SIZES, default="real")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    asked = parser.parse_args(words)
    if unknown := [name for name in asked.names if name not in MEASUREMENTS]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(MEASUREMENTS)}")
    file = ROOT / "build" / "bench.json"
    known = read_json(file) or {}
    for name in asked.names or list(ALL):
        key = f"{name} {asked.size}" if name in SIZED else name
        try:
            result = MEASUREMENTS[name](asked.size)
        except KbuildError as error:
            print(error.render(), file=sys.stderr)
            return 1
        known[key] = {**result, "machine": {"kernel": platform.release(), "python": platform.python_version()}}
        write_json(file, known)
        for what, ratio in result["ratios"].items():
            goal = result.get("goals", {}).get(what)
            print(f"  {key:<11} {what:<52} {ratio:8.2f}" + (f"   goal {goal}" if goal else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
