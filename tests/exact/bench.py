"""A project with the small kernel, built by the real doit, beside a tree that a hand edits and plain make builds.

The hand's side shares nothing with the product: its sources are made by patch(1) and by bash running prepare(), only
files that differ are written, its .config is base and fragments through olddefconfig, and no front is in its PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from kbuild_tasks.effects import makepkg
from tests.exact import small_kernel
from tests.makepkg_world import NOBODY

ROOT = Path(__file__).parent.parent.parent
BASE = "CONFIG_RAMDISK=y\nCONFIG_PAIR=m\n"
CLUSTER = """\
version: 1
kernel: {{pkgbuild: kernel/PKGBUILD, arch: x86_64, config: kernel/config, patches: patches, fragments: [{fragments}]}}
build: {{coordinator: n1, workdir: {{path: {workdir}}}{build}}}
nodes: {{n1: {{address: 127.0.0.1, connection: local, slots: 2}}}}
"""
DODO = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.exact import local_nodes
local_nodes.install()
from kbuild_tasks import Pipeline
pipeline = Pipeline("cluster.yaml")
DOIT_CONFIG = pipeline.doit_config()
def task_kernel():
    yield from pipeline.tasks()
"""
PKGBUILD = """\
pkgbase=linux-small
pkgname=(linux-small linux-small-headers)
pkgver=6.1.@VERSION@
pkgrel=1
pkgdesc="A small kernel"
arch=(x86_64)
source=("file://@TARBALL@")
sha256sums=('@SUM@')
prepare() {
  cd @TOP@
  echo "-$pkgrel" > localversion.10-pkgrel
}
build() {
  cd @TOP@
  make bzImage modules
}
package_linux-small() {
  cd @TOP@
  local modules=$pkgdir/usr/lib/modules/$(make -s kernelrelease)
  make INSTALL_MOD_PATH="$pkgdir/usr" DEPMOD=/doesnt/exist modules_install
  rm -f "$modules"/{build,source}
  install -Dm644 arch/x86/boot/bzImage "$modules/vmlinuz"
  install -Dm644 -t "$modules" .config System.map
}
package_linux-small-headers() {
  cd @TOP@
  local build=$pkgdir/usr/lib/modules/$(make -s kernelrelease)/build
  install -Dm644 -t "$build" .config Makefile Module.symvers System.map localversion.*
  mkdir -p "$build/arch/x86"
  cp -t "$build" -a scripts include
  cp -t "$build/arch/x86" -a arch/x86/include
  find "$build" -name '*.o' -delete
}
"""


@dataclass(frozen=True)
class State:
    """What a user can edit."""

    patches: tuple[tuple[str, str], ...] = ()  # name, text; in the order of the series
    fragments: tuple[tuple[str, str], ...] = ()
    pkgbuild: str = PKGBUILD
    version: int = 1

    @property
    def key(self) -> str:
        return sha256(repr(self).encode()).hexdigest()

    def patched(self, name: str, text: str | None, at: int | None = None) -> State:
        """With a patch replaced where it stands, added (at the end, or at a position), or dropped."""
        names = [n for n, _ in self.patches]
        kept = [(n, t) for n, t in self.patches if n != name]
        if text is not None:
            kept.insert(names.index(name) if name in names else len(kept) if at is None else at, (name, text))
        return replace(self, patches=tuple(kept))

    def with_fragment(self, name: str, text: str | None) -> State:
        kept = {n: t for n, t in self.fragments if n != name} | ({name: text} if text is not None else {})
        return replace(self, fragments=tuple(sorted(kept.items())))

    def with_pkgbuild(self, old: str, new: str) -> State:
        assert old in self.pkgbuild
        return replace(self, pkgbuild=self.pkgbuild.replace(old, new))


@dataclass(frozen=True)
class Made:
    """What a build left. files: kernel, modules, symbols -> sha256; packages: name -> sha256."""

    files: dict[str, str]
    packages: dict[str, str]


@dataclass(frozen=True)
class Step:
    """One run of doit and of plain make after the same edit."""

    ours: frozenset[str]  # objects and modules with a new time
    hand: frozenset[str]
    recorded: frozenset[str]  # objects of kernel C, by our record
    said: frozenset[str]  # the same, by the CC lines of plain make
    made: Made
    made_by_hand: dict[str, str]
    run: dict[str, Any] = field(repr=False)


class Bench:
    """A project at `home`/project and a hand's tree at `home`/hand."""

    def __init__(self, home: Path, linux: Path, tops: tuple[str, ...] = ("linux-6.1", "linux-6.1")):
        self.home, self.tops = home, tops
        self.build = ""  # more lines of cluster.yaml, under build
        self.base = BASE
        self.project, self.work = home / "project", home / "work"
        self.hand = home / "hand" / "tree"
        for name in ("project/kernel", "project/patches", "project/fragments", "hand"):
            (home / name).mkdir(parents=True)
        (self.project / "dodo.py").write_text(DODO)
        self._clean: dict[str, Made] = {}
        self.last_made: Made | None = None
        self.prepare_sources(linux)
        (self.project / "kernel/config").write_text(self.base)
        self.own(home)

    def prepare_sources(self, linux: Path) -> None:
        """Archives, and their sums, of each version."""
        sources = [_source(linux, 1), _source(linux, 2)]
        self.archives = [self.home / f"v{number}-{top}.tar" for number, top in enumerate(self.tops, 1)]
        self.sums = [small_kernel.pack(*each) for each in zip(self.archives, self.tops, sources, strict=True)]

    # --- the project -------------------------------------------------------------------------------------

    def write(self, state: State) -> None:
        """The user's edit: files that are the same already stay untouched."""
        wanted = {f"patches/{name}": text for name, text in state.patches}
        wanted["patches/series"] = "".join(f"{name}\n" for name, _ in state.patches)
        wanted |= {f"fragments/{name}": text for name, text in state.fragments}
        wanted["kernel/PKGBUILD"] = self._pkgbuild(state)
        fragments = ", ".join(f"fragments/{name}" for name, _ in state.fragments)
        wanted["cluster.yaml"] = CLUSTER.format(fragments=fragments, workdir=self.work, build=self.build)
        for name in ("patches", "fragments"):
            for path in (self.project / name).iterdir():
                if f"{name}/{path.name}" not in wanted:
                    path.unlink()
        for name, text in wanted.items():
            path = self.project / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                self.own(path)

    def _pkgbuild(self, state: State) -> str:
        at = state.version - 1
        text = state.pkgbuild.replace("@TOP@", self.tops[at]).replace("@VERSION@", str(state.version))
        return text.replace("@TARBALL@", str(self.archives[at])).replace("@SUM@", self.sums[at])

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "doit", *arguments]

    def identity(self) -> dict[str, Any]:
        """Who builds, for subprocess: not root."""
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        env = {**os.environ, "HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}
        return {"cwd": self.project, "env": env, "text": True, **who}

    def make_identity(self) -> dict[str, Any]:
        return self.identity()

    def doit(self, *arguments: str, status: int | None = 0) -> str:
        done = subprocess.run(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3000, **self.identity()
        )
        assert status is None or done.returncode == status, done.stdout
        return done.stdout

    def last_run(self) -> dict[str, Any]:
        run: dict[str, Any] = json.loads((self.project / "build/last-run.json").read_text())
        return run

    def states(self) -> dict[str, str]:
        return {name: task["state"] for name, task in self.last_run()["tasks"].items() if ":" not in name}

    @property
    def tree(self) -> Path:
        receipt = json.loads((self.project / "build/receipts/patch.json").read_text())
        return self.work / "makepkg" / receipt["results"]["place"]

    def made(self) -> Made:
        manifest = json.loads((self.project / "artifacts/manifest.json").read_text())
        packages = {p["file"]: _sum(self.project / "artifacts" / p["file"]) for p in manifest["packages"]}
        return Made(kernel_files(self.tree), packages)

    # --- comparing ---------------------------------------------------------------------------------------

    def step(self, state: State) -> Step:
        """Edit, run doit, and do the same by hand."""
        self.write(state)
        before = objects(self.tree) if (self.project / "build/receipts/patch.json").exists() else {}
        self.doit()
        after = objects(self.tree)
        hand_before = objects(self.hand)
        said = self.by_hand(state)
        run = self.last_run()
        compiled = run["tasks"].get("compile", {})
        self.last_made = self.made()
        return Step(
            ours=remade(before, after),
            hand=remade(hand_before, objects(self.hand)),
            recorded=frozenset(compiled.get("objects", ())),
            said=frozenset(said),
            made=self.last_made,
            made_by_hand=kernel_files(self.hand),
            run=run,
        )

    def clean(self, state: State) -> Made:
        """What the product makes of the same inputs where nothing was built before, at the same place."""
        if state.key not in self._clean:
            state_of = self.work.with_name("work.state")  # what was unpacked from the archives may stay
            parts = ("prepare", "kept", "prepared.json", "repo.git/worktrees-of-kbuild")
            kept = [self.work, self.project / "build", self.project / "artifacts", *(state_of / part for part in parts)]
            there = [path for path in kept if path.exists()]
            for path in there:
                path.rename(path.with_name(path.name + ".aside"))
            try:
                self.write(state)
                self.doit()
                self._clean[state.key] = self.made()
                listing = {p.name: contents(p) for p in (self.project / "artifacts").glob("*.zst")}
                (self.home / f"{state.key}.json").write_text(json.dumps(listing))
            finally:
                for path in kept:
                    shutil.rmtree(path, ignore_errors=True)
                (state_of / "prepared.json").unlink(missing_ok=True)
                for path in there:
                    path.with_name(path.name + ".aside").rename(path)
        return self._clean[state.key]

    def differences(self, state: State) -> list[str]:
        """What the packages in artifacts/ hold otherwise than the clean ones of `state`."""
        clean = json.loads((self.home / f"{state.key}.json").read_text())
        told = []
        for name, there in clean.items():
            path = self.project / "artifacts" / name
            here = contents(path) if path.exists() else {}
            told += [
                f"{name}: {here.get(f)} for {there.get(f)}" for f in {*here, *there} if here.get(f) != there.get(f)
            ]
        return sorted(told)

    def exact(self, state: State) -> None:
        """Run doit and the hand on `state`, and compare both with a clean build."""
        step = self.step(state)
        assert sorted(step.ours) == sorted(step.hand)
        assert sorted(step.recorded) == sorted(step.said)
        assert step.made.files == step.made_by_hand
        clean = self.clean(state)
        assert step.made.files == clean.files
        assert step.made.packages == clean.packages, "\n".join(self.differences(state))

    # --- the hand ----------------------------------------------------------------------------------------

    def by_hand(self, state: State) -> list[str]:
        """Bring the hand's tree to the same sources and .config and run make; names of CC lines."""
        wanted = self.sources_by_hand(state)
        self.hand.mkdir(exist_ok=True)
        told = self.hand.with_name("sources.json")
        for name in set(json.loads(told.read_text()) if told.exists() else []) - wanted.keys():
            (self.hand / name).unlink(missing_ok=True)
        for name, (mode, content) in wanted.items():
            path = self.hand / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
            if path.stat().st_mode & 0o777 != mode:
                path.chmod(mode)
        told.write_text(json.dumps(sorted(wanted)))
        config = self.base + "".join(text for _, text in state.fragments)
        (self.hand / ".config").write_text(config)
        self.own(self.hand)
        words = re.findall(r"^ +make (.*)$", state.pkgbuild.partition("build() {")[2].partition("}")[0], re.M)
        out = self._make("-s", "olddefconfig") + "".join(self._make(*line.split()) for line in words)
        return re.findall(r"^  CC(?: \[M\])?\s+(\S+\.o)$", out, re.M)

    def _make(self, *words: str) -> str:
        identity = {**self.make_identity(), "cwd": self.hand, "env": makepkg.environment({"MAKEFLAGS": "-j2"})}
        done = subprocess.run(["make", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **identity)
        assert done.returncode == 0, done.stdout
        return str(done.stdout)

    def sources_by_hand(self, state: State) -> dict[str, tuple[int, bytes]]:
        """Path -> (mode, content) of every source."""
        scratch = Path(tempfile.mkdtemp(dir=self.home / "hand"))
        with tarfile.open(self.archives[state.version - 1]) as archive:
            archive.extractall(scratch)
        return self.apply_by_hand(state, scratch)

    def apply_by_hand(self, state: State, scratch: Path) -> dict[str, tuple[int, bytes]]:
        """The series and prepare() on the pristine files below `scratch`, which goes afterwards."""
        top = scratch / self.tops[state.version - 1]
        for name, text in state.patches:
            argv = ["patch", "-p1", "-s", "--no-backup-if-mismatch", "-E"]
            done = subprocess.run(argv, input=text, cwd=top, text=True, capture_output=True)
            assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"
        script = scratch / "PKGBUILD"
        script.write_text(self._pkgbuild(state))
        subprocess.run(["bash", "-ec", f"source {script}; cd {scratch}; srcdir={scratch} prepare"], check=True)
        found = {}
        for path in sorted(top.rglob("*")):
            if path.is_file():
                found[str(path.relative_to(top))] = (0o755 if path.stat().st_mode & 0o100 else 0o644, path.read_bytes())
        shutil.rmtree(scratch)
        return found

    def own(self, path: Path) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chown", "-Rh", f"{NOBODY}:{NOBODY}", path], check=True)


B = TypeVar("B", bound=Bench)


def _source(linux: Path, version: int) -> dict[str, tuple[int, bytes]]:
    """Version 2 differs in a source, a header, a file more and a file less, as point releases do."""
    files = small_kernel.source(linux)
    mode, text = files["Makefile"]
    files["Makefile"] = (mode, re.sub(rb"^SUBLEVEL = .*$", b"SUBLEVEL = %d" % version, text, count=1, flags=re.M))
    if version == 2:
        files["include/linux/kernel.h"] = (0o644, files["include/linux/kernel.h"][1].replace(b"KERNEL 1", b"KERNEL 2"))
        files["lib/extra.c"] = (0o644, b"int extra;\n")
        files["lib/Makefile"] = (0o644, files["lib/Makefile"][1] + b"lib-y += extra.o\n")
        del files["Documentation/one.txt"]
    return files


def objects(tree: Path) -> dict[str, int]:
    """Objects and modules in a tree -> time, in ns."""
    found = {}
    for directory, _, names in os.walk(tree):
        for name in names:
            if name.endswith((".o", ".ko")) and not name.startswith(".tmp"):
                path = os.path.join(directory, name)
                found[os.path.relpath(path, tree)] = os.lstat(path).st_mtime_ns
    return found


def remade(before: dict[str, int], after: dict[str, int]) -> frozenset[str]:
    return frozenset(name for name, time in after.items() if before.get(name) != time)


def kernel_files(tree: Path) -> dict[str, str]:
    """Kernel, image, modules that are installed, symbols -> sha256."""
    modules = (tree / "modules.order").read_text().split()
    names = ["vmlinux", "arch/x86/boot/bzImage", "System.map", "Module.symvers", ".config", *sorted(modules)]
    return {name: _sum(tree / name) for name in names}


def contents(package: Path) -> dict[str, str]:
    """Name in a package -> mode, kind and sha256: to say in what two packages differ."""
    listing = subprocess.run(["bsdtar", "-xOf", package, ".MTREE"], check=True, capture_output=True).stdout
    plain = subprocess.run(["gzip", "-dc"], input=listing, check=True, capture_output=True).stdout.decode()
    return {line.split(" ")[0]: line for line in plain.splitlines() if line.startswith("./")}


def _sum(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def diff(files: Sequence[tuple[str, str, str]], name: str = "") -> str:
    """A patch in git's format of (path, old text, new text); "" for a file that is not there."""
    import difflib

    text = f"Subject: {name}\n\n"
    for path, old, new in files:
        text += f"diff --git a/{path} b/{path}\n"
        text += "new file mode 100644\n" if not old else "deleted file mode 100644\n" if not new else ""
        text += "".join(
            difflib.unified_diff(
                old.splitlines(True),
                new.splitlines(True),
                f"a/{path}" if old else "/dev/null",
                f"b/{path}" if new else "/dev/null",
            )
        )
    return text


def new_bench(linux: Path, kind: type[B] = Bench, **how: Any) -> Iterator[B]:  # type: ignore[assignment]
    home = Path(tempfile.mkdtemp(prefix="kbuild-exact."))
    home.chmod(0o755)
    try:
        yield kind(home, linux, **how)
    finally:
        for directory, _, _ in os.walk(home):
            os.chmod(directory, stat.S_IRWXU | 0o055)
        shutil.rmtree(home)
