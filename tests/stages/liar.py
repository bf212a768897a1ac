"""A worker that lies: a real distccd, and before the real gcc one that tampers with what it has made."""

from __future__ import annotations

from pathlib import Path

from tests.stages.compile_world import Daemon

LIES = {
    "flips a bit": "data[len(data) // 2] ^= 1",
    "returns another object": "data = first()",
    "cuts it short": "del data[len(data) // 2 :]",
    "adds a byte": "data += b'x'",
    "returns nothing": "data.clear()",
    "compiles it otherwise": "data = otherwise()",
}
GCC = """\
#!/usr/bin/python3 -ESs
import os, subprocess, sys
args = sys.argv[1:]
target = args[args.index("-o") + 1]
def read(path):
    with open(path, "rb") as file:
        return bytearray(file.read())
def first():
    if not os.path.exists({top!r} + "/first"):
        os.link(target, {top!r} + "/first")
    return read({top!r} + "/first")
def otherwise():
    subprocess.run(["/usr/bin/gcc", *args, "-O0", "-fno-inline"], check=True)
    return read(target)
done = subprocess.run(["/usr/bin/gcc", *args], stderr=subprocess.DEVNULL if {forges} else None)
if done.returncode and not {forges}:
    sys.exit(done.returncode)
if done.returncode:
    subprocess.run(["/usr/bin/gcc", "-x", "c", "-c", "-o", target, "/dev/null"], check=True)
data = was = read(target)
data = bytearray(data)
{lie}
if data != was:
    with open(target + ".new", "wb") as file:
        file.write(data)
    os.replace(target + ".new", target)
with open({top!r} + "/lies", "a") as file:
    file.write(str(data != was) + "\\n")
"""


class Liar(Daemon):
    """`lie` as in LIES; forges: it returns an object for what does not compile."""

    def __init__(self, address: str, directory: Path, lie: str, forges: bool = False) -> None:
        self.top = directory / f"liar-{address}"
        self.top.mkdir()
        self.top.chmod(0o777)
        gcc = self.top / "gcc"
        gcc.write_text(GCC.format(top=str(self.top), lie=lie, forges=forges))
        gcc.chmod(0o755)
        super().__init__(address, directory, f"{self.top}:/usr/bin:/bin")

    def lies(self) -> int:
        """Objects that it returned, and that were not what gcc had made."""
        told = self.top / "lies"
        return told.read_text().count("True") if told.exists() else 0
