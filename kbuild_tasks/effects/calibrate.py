"""Timing one preprocessed file on every node, as a build would have it compiled there.

On the coordinator with its own compiler, on workers through the distccd that prepare has started, by the request that
distcc makes of the command that kbuild recorded. Of the coordinator CPU seconds are read (times(2), of children that
ended): what else runs there does not count; of a worker the time that passes is all that one can see.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.core import hosts
from kbuild_tasks.core.errors import CommandFailed, KbuildError, NodeRefused
from kbuild_tasks.core.kbuild import object_of
from kbuild_tasks.core.unit import Unit, parse, spread
from kbuild_tasks.effects import distccd, shell, speed
from kbuild_tasks.effects.files import sha256_text

SAMPLE = 24  # objects of which the coordinator learns what a typical one costs
ALONE = 3  # times one job is timed alone
ROUNDS = 3  # jobs of each slot, all slots at once, before the first slot has no more
BULK = 8 << 20  # bytes by which the link is timed
NOTHING = b"not C;\n"  # gcc stops at it: what is left of a job is its round trip
DEADLINE = 120.0  # seconds for a job: a slow board with all its slots at work
LONG = 20.0  # seconds of one job from which on it is not timed more often than need be


@dataclass(frozen=True)
class Text:
    """A unit, and the request that distcc sends for it, packed. cpp, compile: CPU seconds of the coordinator to
    preprocess and send it, and to compile it here."""

    unit: Unit
    request: bytes
    cpp: float
    compile: float


def units(tree: Path) -> list[str]:
    """Records of objects in a tree, relative to it, by the size of the object: "kernel/.fork.o.cmd". Evenly taken from
    such a list, few of them tell the mean: large objects take long."""
    found: list[tuple[int, str]] = []
    for directory, names, files in os.walk(tree):
        names[:] = [name for name in names if name not in ("tools", "scripts", "Documentation")]
        where = os.path.relpath(directory, tree)
        for name in files:
            made = object_of(name)
            if made and made in files:
                size = os.path.getsize(os.path.join(directory, made))
                found.append((size, os.path.normpath(os.path.join(where, name))))
    return [name for _, name in sorted(found)]


def unit(tree: Path, record: str) -> Unit | None:
    try:
        return parse((tree / record).read_text("utf-8", "replace"))
    except OSError:
        return None


class Here:
    """The coordinator's compiler, in one tree."""

    def __init__(self, tree: Path, compiler: str, env: Mapping[str, str], scratch: Path) -> None:
        self.tree, self.compiler, self.env, self.scratch = tree, compiler, dict(env), scratch
        self._number = 0
        self._guard = threading.Lock()

    def text(self, wanted: Unit) -> Text | None:
        """Send it and compile it once; None where distcc would not send it. Raises CommandFailed."""
        before = speed.cpu_seconds()
        request = self.request(wanted)
        cpp = speed.cpu_seconds() - before
        if request is None:
            return None
        self.job(wanted)
        return Text(wanted, request, cpp, speed.cpu_seconds() - before - cpp)

    def request(self, wanted: Unit, packed: bool = True, name: str = "") -> bytes | None:
        """What distcc's client sends; name: of the compiler, where workers are asked for another."""
        argv = ["distcc", *wanted.compile(name or self.compiler, str(self._output(".o")))]
        env = {**self.env, **hosts.ENVIRONMENT, "DISTCC_FALLBACK": "0", "DISTCC_DIR": str(self.scratch)}

        def run(host: str) -> None:
            only = {"DISTCC_HOSTS": f"{host}/1{',lzo' if packed else ''}"}
            shell.run(argv, cwd=self.tree, env=env | only, timeout=DEADLINE, check=False)

        return distccd.capture(run)

    def job(self, wanted: Unit) -> float:
        """Compile it; seconds that passed."""
        return shell.run(self._compile(wanted), cwd=self.tree, env=self.env, timeout=DEADLINE).seconds

    def _compile(self, wanted: Unit) -> list[str]:
        return wanted.compile(self.compiler, str(self._output(".o")))

    def _output(self, suffix: str) -> Path:
        with self._guard:
            self._number += 1
            return self.scratch / f"{self._number}{suffix}"


def sample(here: Here, tree: Path, records: Sequence[str]) -> list[Text]:
    """Typical objects, each preprocessed and compiled once, the most typical one first; a source that does not compile
    at this moment (a patch was applied since) is passed over. Raises KbuildError where none is left."""
    found: list[Text] = []
    last: KbuildError | None = None
    for record in spread(list(records), SAMPLE):
        wanted = unit(tree, record)
        if wanted is None:
            continue
        try:
            if not found:
                here.job(wanted)  # the compiler is read from the disk once
            text = here.text(wanted)
            found += [text] if text else []
        except CommandFailed as error:
            last = error
    if not found:
        raise KbuildError(
            f"no object in {tree} can be compiled by the command that made it",
            "doit compile, and doit calibrate again",
            evidence=last.evidence if last else (),
        )
    mean = statistics.mean(text.compile for text in found)
    return sorted(found, key=lambda text: (abs(text.compile - mean), text.unit.object))


def coordinator(here: Here, texts: Sequence[Text], cores: int) -> dict[str, Any]:
    """The coordinator's part of a record: it compiles the first of `texts` in as many jobs as it has cores."""
    first = texts[0]
    alone = statistics.median([here.job(first.unit) for _ in range(ALONE)])
    rate = throughput(lambda: here.job(first.unit), cores)
    return {
        "unit": told(first),
        "jobs": cores,
        "alone": round(alone, 4),
        "rate": round(rate, 4),
        "cpp": round(first.cpp, 4),
        "compile": round(first.compile, 4),
        "sample": [
            {
                "object": text.unit.object,
                "cpp": round(text.cpp, 4),
                "compile": round(text.compile, 4),
                "bytes": len(text.request),
            }
            for text in texts
        ],
    }


def told(text: Text) -> dict[str, Any]:
    body = text.request.partition(b"DOTI")[2]  # before it are names of files that are new each time
    return {"object": text.unit.object, "sha256": sha256_text(body), "bytes": len(text.request)}


@dataclass(frozen=True)
class There:
    """A worker's distccd."""

    node: str
    address: str
    port: int
    compiler: str

    def link(self) -> dict[str, float]:
        """Round trip in seconds, and bytes a second: what a job of no size takes, and one that is all comment."""
        filler = b"/*" + os.urandom(BULK // 2).hex().encode() + b"*/\n"
        argv = [self.compiler, "-Wfatal-errors", "-c", "-o", "nothing.o", "nothing.c"]

        def least(data: bytes, times: int) -> float:
            job = distccd.request(argv, data)
            answers = [distccd.ask(self.node, self.address, self.port, job, DEADLINE) for _ in range(times)]
            return min(answer.seconds for answer in answers)

        trip = least(NOTHING, ALONE)
        bulk = least(NOTHING + filler, 2)
        return {"trip": round(trip, 5), "bandwidth": round(len(filler) / max(bulk - trip, 1e-4))}

    def job(self, text: Text) -> float:
        """Compile it there; seconds from the connection to the object. Raises NodeRefused."""
        answer = distccd.ask(self.node, self.address, self.port, text.request, DEADLINE)
        if answer.status:
            raise NodeRefused(
                f"{self.node} cannot compile {text.unit.object}, which compiles here",
                "see its compiler (docs/nodes.md)",
                evidence=answer.errors.splitlines()[-4:],
            )
        return answer.seconds

    def compiling(self, text: Text, jobs: int) -> dict[str, Any]:
        first = self.job(text)
        more = [self.job(text) for _ in range(ALONE - 1 if first < LONG else 0)]
        return {
            "jobs": jobs,
            "alone": round(statistics.median([first, *more]), 4),
            "rate": round(throughput(lambda: self.job(text), jobs), 4),
        }


def throughput(job: Callable[[], float], jobs: int) -> float:
    """Jobs a second with `jobs` of them always at work: by Little's law those at work over the seconds of one, of jobs
    that ended while all were. What `job` raises is raised."""
    left, guard = [jobs * ROUNDS], threading.Lock()
    ended: list[tuple[float, float]] = []

    def work() -> None:
        while True:
            with guard:
                if not left[0]:
                    last.append(time.perf_counter())
                    return
                left[0] -= 1
            took = job()
            with guard:
                ended.append((time.perf_counter(), took))

    last: list[float] = []
    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work) for _ in range(jobs)]:
            done.result()
    until = min(last)
    full = [took for at, took in ended if at <= until]
    return jobs / statistics.mean(full or [took for _, took in ended])


def each(work: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """node -> what its work returned, or its NodeRefused; all at once."""

    def one(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except NodeRefused as error:
            return error

    if not work:
        return {}
    with ThreadPoolExecutor(len(work)) as pool:
        return dict(zip(work, pool.map(one, work.values()), strict=True))


@contextlib.contextmanager
def scratch(directory: Path) -> Any:
    """A directory for objects that are thrown away."""
    import tempfile

    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix="calibrate-") as name:
        yield Path(name)
