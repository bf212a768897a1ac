"""Parts of the fault runs that need no VM: the disk that loses its cache, a kernel under another name, the moments."""

from __future__ import annotations

import gzip
import random
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest

from tests.vm.faults.disk import PIECE, Disk
from tests.vm.faults.look import Look, Old, changed, default_holds
from tests.vm.faults.moments import MARKS, ORDER, deal, drawn, marked
from tests.vm.image import renamed

ROOT = Path(__file__).parent.parent.parent


def disk(folder: Path) -> tuple[Disk, Path]:
    path = folder / "disk"
    path.write_bytes(bytes(1 << 20))
    return Disk(str(path)), path


def test_what_was_flushed_stays_and_the_rest_goes(tmp_path: Path) -> None:
    plates, path = disk(tmp_path)
    plates.write(PIECE - 512, b"1" * 1024)
    plates.flush()
    plates.write(PIECE, b"2" * 512)
    plates.write(PIECE, b"3" * 8192)
    assert plates.read(PIECE - 512, 1024) == b"1" * 512 + b"3" * 512
    assert plates.cut(1.0, 1) == (3, 3)
    assert path.read_bytes()[PIECE - 512 : PIECE + 1024] == b"1" * 1024 + bytes(512)
    assert plates.cut(1.0, 1) == (0, 0)


def test_a_cut_that_takes_nothing_and_one_that_tears(tmp_path: Path) -> None:
    plates, path = disk(tmp_path)
    plates.write(0, b"1" * (64 * PIECE))
    assert plates.cut(0.0, 1) == (0, 64)
    assert path.read_bytes()[: 64 * PIECE] == b"1" * (64 * PIECE)
    plates.write(0, b"2" * (64 * PIECE))
    lost, total = plates.cut(0.5, 1)
    seen = Counter(path.read_bytes()[at] for at in range(0, 64 * PIECE, PIECE))
    assert (seen[ord("1")], sum(seen.values()), total) == (lost, 64, 64)
    assert 16 < lost < 48


@pytest.mark.skipif(not shutil.which("qemu-io"), reason="QEMU is not installed (script/setup)")
def test_qemu_finds_its_disk(tmp_path: Path) -> None:
    """The protocol, with the client that it is for."""
    _, path = disk(tmp_path)
    socket = tmp_path / "disk.sock"
    argv = [sys.executable, "-m", "tests.vm.faults.disk", str(path), str(socket)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        deadline = time.monotonic() + 20
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        image = f'json:{{"driver": "nbd", "server.type": "unix", "server.path": "{socket}"}}'
        assert server.stdin and server.stdout

        def io(*words: str) -> str:
            commands = [part for word in words for part in ("-c", word)]
            return subprocess.run(["qemu-io", *commands, image], check=True, capture_output=True, text=True).stdout

        io("write -P 1 0 64k", "flush", "write -P 2 32k 64k", "read -P 2 64k 32k")
        # qemu-io flushed when it ended; what it does not flush is lost:
        with subprocess.Popen(
            ["qemu-io", "-t", "writeback", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as killed:
            assert killed.stdin and killed.stdout
            killed.stdin.write("write -P 3 0 8k\n")
            killed.stdin.flush()
            while path.read_bytes()[0] != 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            killed.kill()
        server.stdin.write("1 7\n")
        server.stdin.flush()
        assert server.stdout.readline() == "2 2\n"
        assert "Pattern verification failed" not in io("read -P 1 0 32k", "read -P 2 32k 64k")
        server.stdin.close()
        assert server.wait(20) == 0


def image(kernel: bytes) -> bytes:
    """The parts of a bzImage that count: its header, and the packed kernel at its place."""
    packed = gzip.compress(kernel, 9) + bytes(64)
    head = bytearray(1024)
    head[0x1F1], head[0x1FE:0x200] = 1, b"\x55\xaa"
    struct.pack_into("<II", head, 0x248, 16, len(packed))
    return bytes(head) + bytes(16) + packed + b"END"


def test_a_kernel_under_another_name() -> None:
    kernel = b"Linux version 6.1-1-x " * 9 + bytes(range(20)) + random.Random(1).randbytes(5000)
    made = renamed(image(kernel), {b"6.1-1-x": b"6.1-2-x", bytes(range(20)): b"\x11" * 20})
    assert len(made) == len(image(kernel)) and made.endswith(b"END")
    inside = zlib.decompressobj(31).decompress(made[1040:])
    assert inside == kernel.replace(b"6.1-1-x", b"6.1-2-x").replace(bytes(range(20)), b"\x11" * 20)
    for names in ({b"7": b"8"}, {b"6.1": b"6"}):
        with pytest.raises(ValueError, match="cannot become"):
            renamed(image(b"Linux 6.1"), names)
    with pytest.raises(ValueError, match="not packed with gzip"):
        renamed(image(kernel).replace(b"\x1f\x8b", b"PK"), {})


def test_moments() -> None:
    choice = random.Random(1)
    lengths = {"": 2.0, "STAGED": 10.0, "INSTALLED": 5.0, "ARMED": 1.0, "REBOOTING": 40.0, "VERIFIED2": 2.0}
    found = drawn(choice, lengths, 900)
    assert all(0 <= moment.after <= lengths[moment.state] for moment in found)
    count = Counter(moment.state for moment in found)
    assert sum(count[state] for state in ("", "STAGED", "INSTALLED")) == 600
    assert 300 < count["STAGED"] < 400 and count["REBOOTING"] > 230
    everything = marked(choice) + found[:20]
    chains = deal(choice, everything, 8)
    assert Counter(moment for chain in chains for moment in chain) == Counter(everything)
    assert max(map(len, chains)) <= 8
    assert all([m.place for m in chain] == sorted(m.place for m in chain) for chain in chains)
    assert {state for _, state, _, _ in MARKS} <= set(ORDER)


def test_what_counts_as_changed() -> None:
    before = Old("6.1", "a" * 40, "kbuild-old", {"./a.ko": "1", "./b.ko": "2"}, {"/boot/k": "3"})
    observe = {"loader": {"default": "kbuild-old", "selected": "kbuild-old"}, "known_good": {"entry": "kbuild-old"}}
    now = Look(observe, {"./a.ko": "1", "./b.ko": "2", "./new": "9"}, {}, {"/boot/k": "3"})
    assert changed(before, now, "kbuild-new") == [] and default_holds(before, now, "kbuild-new")
    worse = Look(observe, {"./a.ko": "1", "./b.ko": "0"}, {"./a.ko": "1", "./b.ko": "2"}, {})
    assert changed(before, worse, "kbuild-new") == ["module ./b.ko", "boot file /boot/k"]
    tried = {"loader": {"default": "kbuild-new", "selected": "kbuild-new"}, "known_good": {"entry": "kbuild-old"}}
    other = Look(tried, {"./a.ko": "5"}, {"./a.ko": "1", "./b.ko": "2"}, {"/boot/k": "3"})
    assert changed(before, other, "kbuild-new") == [] and not default_holds(before, other, "kbuild-new")
