"""How often a lie is caught where a share is checked: as 1-(1-p)^m says of m lies. Two halves: what the front draws, by
the kernel's random numbers; and, with draws from a seed, that what is drawn is caught, by a real distccd that lies.

The figures are left in build/test/trust.json.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kbuild_tasks.core.trust import DRAWS, draws
from kbuild_tasks.effects.compiler import make_front
from tests.stages.compile_world import Daemon

pytestmark = pytest.mark.real
FIGURES = Path(__file__).parent.parent.parent / "build" / "test" / "trust.json"
GCC = """\
#!/bin/sh
/usr/bin/gcc "$@" || exit
while [ "$1" != -o ]; do shift; done
printf x >>"$2"
"""
DISTCC = '#!/bin/sh\necho "${DISTCC_SAVE_TEMPS:-0}" >>"$SAID"\n'


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Daemon]:
    """Each of its objects is a lie."""
    for path in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        path.chmod(0o755)
    top = tmp_path / "liar"
    top.mkdir()
    (top / "gcc").write_text(GCC)
    (top / "gcc").chmod(0o755)
    top.chmod(0o777)
    worker = Daemon("127.0.0.6", top, f"{top}:/usr/bin:/bin")
    yield worker
    worker.stop()


def environment(top: Path, path: str, share: float) -> dict[str, str]:
    for name in ("tmp", "distcc", "o"):
        (top / name).mkdir(exist_ok=True)
    return {
        "PATH": path,
        "TMPDIR": str(top / "tmp"),
        "KBUILD_TASKS_RECORD": str(top / "record"),
        "KBUILD_TASKS_WORKERS": "n2",
        "KBUILD_TASKS_CHECK": str(draws(share)),
        "KBUILD_TASKS_CHECKS": "2",
        "DISTCC_DIR": str(top / "distcc"),
        "DISTCC_NO_REWRITE_CROSS": "1",
        "DISTCC_FALLBACK": "0",
    }


def compile_all(top: Path, env: dict[str, str], names: list[str]) -> dict[str, int]:
    """Name -> status."""

    def one(name: str) -> int:
        argv = [f"{top}/front/gcc", "-D__KERNEL__", "-c", "-o", f"o/{name}.o", f"o/{name}.c"]
        return subprocess.run(argv, env=env, cwd=top, stderr=subprocess.DEVNULL).returncode

    for name in names:
        (top / "o" / f"{name}.c").write_text(f"int of_{name};\n")
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_front_draws_a_share_and_nobody_knows_which(tmp_path: Path, share: float) -> None:
    count = 400
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"distcc": DISTCC, "gcc": DISTCC}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    front = make_front(tmp_path / "front", str(tools))
    env = environment(tmp_path, f"{front}:{tools}:/usr/bin:/bin", share)
    drawn = []
    for number in range(2):
        said = tmp_path / f"said-{number}"
        for at in range(count // 2):
            argv = [f"{front}/gcc", "-D__KERNEL__", "-c", "-o", f"o/{at}.o", f"o/{at}.c"]
            assert subprocess.run(argv, env={**env, "SAID": str(said)}, cwd=tmp_path).returncode == 0
        drawn.append(said.read_text().split())
    assert [len(one) for one in drawn] == [count // 2, count // 2]
    chosen = sum(one.count("1") for one in drawn)
    if share in (0.0, 1.0):
        assert chosen == share * count
        return
    # A binomial number is further than 6.5 standard deviations from its mean once in ten thousand million times.
    assert abs(chosen - share * count) < 6.5 * (count * share * (1 - share)) ** 0.5
    assert drawn[0] != drawn[1], "the same objects once more: others are drawn"


def test_what_is_drawn_is_caught_as_theory_says(tmp_path: Path, liar: Daemon) -> None:
    count, share = 160, 0.2
    make_front(tmp_path / "front", "/usr/bin:/bin")
    gcc = tmp_path / "front" / "gcc"
    text = gcc.read_text()
    assert text.count("/proc/sys/kernel/random/uuid") == 1
    gcc.write_text(text.replace("</proc/sys/kernel/random/uuid", '<"$DRAWN/${object##*/}"'))
    seed = int(os.environ.get("KBUILD_TEST_SEED", "1"))
    numbers = random.Random(seed)
    names = [f"n{number}" for number in range(count)]
    (tmp_path / "drawn").mkdir()
    below = set()
    for name in names:
        drawn = uuid.UUID(int=numbers.getrandbits(128), version=4)
        (tmp_path / "drawn" / f"{name}.o").write_text(f"{drawn}\n")
        if (drawn.int >> 96) / DRAWS < share:
            below.add(name)
    env = environment(tmp_path, f"{tmp_path}/front:/usr/bin:/bin", share)
    env |= {"DRAWN": str(tmp_path / "drawn"), "DISTCC_HOSTS": f"{liar.address}:{liar.port}/3,lzo"}
    status = compile_all(tmp_path, env, names)
    assert liar.count() == count, "all of it was made by the liar"
    caught = {name for name, code in status.items() if code != 0}
    assert caught == below, "what was drawn, and nothing else"
    lines = [line.split("\t") for line in (tmp_path / "record").read_text().splitlines()]
    assert sorted(name for what, _, name in lines if what == "wrong") == sorted(f"o/{name}.o" for name in caught)
    assert {path.name for path in (tmp_path / "o").glob("*.o")} == {f"{name}.o" for name in names if name not in caught}

    figures = {}
    for lies in (1, 2, 4, 8, 16):  # a node that lies so often: in how many of the groups is it caught?
        groups = [names[at : at + lies] for at in range(0, count, lies)]
        measured = sum(bool(caught & set(group)) for group in groups) / len(groups)
        theory = 1 - (1 - share) ** lies
        figures[lies] = {"measured": round(measured, 3), "theory": round(theory, 3), "groups": len(groups)}
        if seed == 1:  # one seed, one outcome: no chance is left in it
            assert abs(measured - theory) <= 3 * (theory * (1 - theory) / len(groups)) ** 0.5
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    told = {"share": share, "lies": count, "caught": len(caught), "seed": seed, "caught_of_m_lies": figures}
    FIGURES.write_text(json.dumps(told, indent=1) + "\n")
