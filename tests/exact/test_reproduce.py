"""The same bytes whoever compiles, wherever the project lies, as whatever user, on whatever day, debug information
included: the small kernel under real kbuild and makepkg, each time from nothing. And `doit reproduce`: that it finds
them the same, and that it names what differs, what was tampered with, and what is not to be had any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exact import bench as benches
from tests.exact.bench import Bench, State, new_bench
from tests.exact.edits import edit
from tests.exact.mounted import possible
from tests.makepkg_world import NOBODY
from tests.stages.compile_world import Mute, daemons

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not possible(), reason="needs root, for other users and another day"),
]

DODO = benches.DODO.replace("local_nodes", "shared_nodes")
DEBUG = edit("arch/x86/Makefile", "+= -O1", "+= -g -O1")
START = State().patched("debug", DEBUG)
OTHER_USER = next((entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in ("games", "daemon")), NOBODY)
SHIFT = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *at)
{
	int (*real)(clockid_t, struct timespec *);
	*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	int status = real(clock, at);
	if (!status && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		at->tv_sec += 400L * 86400;
	return status;
}
time_t time(time_t *out)
{
	struct timespec at;
	clock_gettime(CLOCK_REALTIME, &at);
	if (out)
		*out = at.tv_sec;
	return at.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec at;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &at);
	out->tv_sec = at.tv_sec;
	out->tv_usec = at.tv_nsec / 1000;
	return 0;
}
"""
ANOTHER_DAY = """\
mount --make-rprivate / && mount -t tmpfs day "$1" && cp -a /etc/. "$1" && echo "$2" >"$1/ld.so.preload" &&
mount --bind "$1" /etc && shift 2 && exec "$@"
"""


class Varied(Bench):
    """A bench whose builder, workers, project directory and day can be other ones."""

    user = NOBODY
    workers: dict[str, tuple[str, int]] = {}  # noqa: RUF012 - replaced, never changed
    before: tuple[str, ...] = ()  # words before doit

    def write(self, state: State) -> None:
        super().write(state)
        (self.project / "dodo.py").write_text(DODO)
        path = self.project / "cluster.yaml"
        nodes = "".join(f", {name}: {{address: {where[0]}}}" for name, where in self.workers.items())
        path.write_text(path.read_text().replace("slots: 2}}", f"slots: 2}}{nodes}}}"))
        self.own(self.home)

    def command(self, *arguments: str) -> list[str]:
        who = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"]
        return [*self.before, *who, *super().command(*arguments)]

    def identity(self) -> dict[str, Any]:
        known = super().identity()
        env = {**known["env"], "KBUILD_TEST_WORKERS": json.dumps(self.workers)}
        return {"cwd": self.project, "env": env, "text": True}

    def own(self, path: Path) -> None:
        subprocess.run(["chown", "-Rh", f"{self.user}:{self.user}", path], check=True)

    @property
    def artifacts(self) -> Path:
        return self.project / "artifacts"

    def packages(self) -> dict[str, str]:
        manifest = json.loads((self.artifacts / "manifest.json").read_text())
        return {entry["file"]: benches._sum(self.artifacts / entry["file"]) for entry in manifest["packages"]}

    @contextlib.contextmanager
    def otherwise(self, **how: Any) -> Iterator[None]:
        """From nothing, with attributes of ours set; what was there before is there again afterwards."""
        places = [self.work, self.home / "work.state", self.project / "build", self.project / "artifacts"]
        there = [path for path in places if path.exists()]
        old = {name: getattr(self, name) for name in how}
        for path in there:
            path.rename(path.with_name(path.name + ".aside"))
        try:
            for name, value in how.items():
                setattr(self, name, value)
            self.write(START)
            yield
        finally:
            for name, value in old.items():
                setattr(self, name, value)
            for path in places:
                shutil.rmtree(path, ignore_errors=True)
            for path in there:
                path.with_name(path.name + ".aside").rename(path)
            self.write(START)


@pytest.fixture(scope="module")
def bench(linux_source: Path) -> Iterator[Varied]:
    """Built once, on one node."""
    for made in new_bench(linux_source, Varied):
        made.write(START)
        made.doit()
        made.first = made.packages()  # type: ignore[attr-defined]
        yield made


def built(bench: Varied) -> dict[str, Any]:
    """Build; what compile tells. The packages are those of the first build."""
    bench.doit()
    listing = {path.name: benches.contents(path) for path in bench.artifacts.glob("*.zst")}
    assert bench.packages() == bench.first, listing  # type: ignore[attr-defined]
    told: dict[str, Any] = bench.last_run()["tasks"]["compile"]
    return told


def test_objects_have_debug_information(bench: Varied) -> None:
    for name in ("fs/inode.o", "drivers/net/veth.ko"):
        sections = subprocess.run(["readelf", "-SW", bench.tree / name], capture_output=True, text=True).stdout
        assert ".debug_line" in sections


def test_three_nodes(bench: Varied) -> None:
    place = bench.home / "daemons"
    place.mkdir()
    place.chmod(0o777)
    with daemons(place, "127.0.0.12", "127.0.0.13") as (two, three):
        with bench.otherwise(workers={"n2": two.where, "n3": three.where}):
            told = built(bench)
        assert two.count() > 0 and three.count() > 0
        assert two.count() + three.count() == told["per_node"]["n2"] + told["per_node"]["n3"]
        assert not told["fallbacks"]


def test_forced_fallbacks(bench: Varied) -> None:
    """Of two objects at a time one is made here from the start, the others only after the worker has hung up."""
    mute = Mute("127.0.0.14", closes=True)
    try:
        with bench.otherwise(workers={"n2": mute.where}, build=", fail_local_share: 100%"):
            told = built(bench)
    finally:
        mute.stop()
    assert told["fallbacks"] and not told["per_node"].get("n2")


def test_another_directory_and_another_user(bench: Varied) -> None:
    assert OTHER_USER != NOBODY
    elsewhere = bench.home / "another place" / "of the project"
    elsewhere.parent.mkdir()
    shutil.copytree(bench.project, elsewhere, ignore=shutil.ignore_patterns("build", "artifacts"))
    with bench.otherwise(project=elsewhere, user=OTHER_USER):
        built(bench)
        assert (bench.artifacts / "manifest.json").stat().st_uid == OTHER_USER
    shutil.rmtree(elsewhere.parent)


def test_another_day(bench: Varied, tmp_path: Path) -> None:
    (tmp_path / "shift.c").write_text(SHIFT)
    library = bench.home / "shift.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "shift.c"], check=True)
    place = bench.home / "etc"
    place.mkdir()
    before = ("unshare", "--mount", "sh", "-c", ANOTHER_DAY, "sh", str(place), str(library))
    today, then = (int(subprocess.run([*words, "date", "+%s"], stdout=-1, check=True).stdout) for words in ((), before))
    assert then - today > 399 * 86400
    with bench.otherwise(before=before):
        built(bench)
        at = json.loads((bench.project / "build/published/now.json").read_text())["at"]
    assert at > subprocess.run(["date", "-u", "+%Y-%m-%dT%H:%M:%S"], capture_output=True, text=True).stdout


def test_reproduce_finds_the_same_bytes(bench: Varied) -> None:
    before = {path: path.stat().st_mtime_ns for path in (bench.tree / "vmlinux", bench.artifacts / "manifest.json")}
    out = bench.doit("reproduce")
    for name, total in bench.first.items():  # type: ignore[attr-defined]
        assert f"  same   {name}  sha256 {total}\n" in out
    assert "not to be had" not in out and "warning" not in out
    assert not (bench.project / "build/reproduce").exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_reproduce_tells_of_a_package_that_was_tampered_with(bench: Varied, tmp_path: Path) -> None:
    name = next(name for name in bench.first if "headers" not in name)  # type: ignore[attr-defined]
    package = bench.artifacts / name
    whole = package.read_bytes()
    module = "usr/lib/modules/6.1.1-1/kernel/drivers/net/veth.ko"
    subprocess.run(["bsdtar", "-xpf", package, "-C", tmp_path], check=True)
    data = bytearray((tmp_path / module).read_bytes())
    at = data.index(b"license=GPL")
    data[at + 8 : at + 11] = b"BSD"
    (tmp_path / module).write_bytes(data)
    os.utime(tmp_path / module, (1704067200, 1704067200))
    names = subprocess.run(["bsdtar", "-tf", package], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["bsdtar", "-cnf", "made.tar", "-C", tmp_path, *names], cwd=tmp_path, check=True)
    subprocess.run(["zstd", "-qf", "-3", "-o", package, tmp_path / "made.tar"], check=True)
    try:
        out = bench.doit("reproduce", status=1)
    finally:
        package.write_bytes(whole)
    assert f"artifacts/{name} is not the one that the manifest names" in out.splitlines()[0]
    assert f"made once more it is the manifest's, so artifacts/{name} was changed since:" in out
    assert f"         {module}: section .modinfo differs from its byte " in out
    assert out.count("section ") == 1


@contextlib.contextmanager
def manifest(bench: Varied) -> Iterator[dict[str, Any]]:
    """The manifest, to be changed; as it was afterwards."""
    path = bench.artifacts / "manifest.json"
    text = path.read_text()
    value = json.loads(text)
    try:
        yield value
    finally:
        path.write_text(text)


def save(bench: Varied, value: dict[str, Any]) -> None:
    (bench.artifacts / "manifest.json").write_text(json.dumps(value))


def test_reproduce_names_the_compiler_first(bench: Varied) -> None:
    with manifest(bench) as value:
        for stage in ("configure", "compile"):
            value["inputs"][stage]["values"]["compiler"] = {**value["compiler"], "version": "13.1.0"}
        value["tools"]["zstd"] = "1.4.0"
        save(bench, value)
        out = bench.doit("reproduce", status=2)
        anyway = bench.doit("reproduce", "--anyway")
    assert "  note: what packs is not what it was: zstd: 1.4.0 -> 1." in out
    assert "compiler: " in out and "not tried" in out and "done   extract" not in out
    assert "compiler: " in anyway and anyway.count("  same   ") == 2  # it was only said to be another one


def test_reproduce_names_files_that_are_gone(bench: Varied) -> None:
    """An edited patch is taken from build/inputs; where that has not got it either, it is named."""
    patch = bench.project / "patches" / "debug"
    patch.write_text(DEBUG.replace("-g -O1", "-g -O2"))
    kept = bench.project / "build" / "inputs"
    kept.rename(kept.with_name("aside"))
    try:
        out = bench.doit("reproduce", status=2)
    finally:
        kept.with_name("aside").rename(kept)
    assert "patches/debug: is not the one that went in, nor in build/inputs (sha256 " in out
    try:
        assert "  same   " in bench.doit("reproduce")
    finally:
        bench.write(START)


def test_reproduce_names_a_source_that_is_gone(bench: Varied) -> None:
    archive = bench.archives[0]
    cached = bench.home / "work.state" / "sources" / archive.name
    moved = [(path, path.with_name(path.name + ".aside")) for path in (archive, cached) if path.exists()]
    assert moved
    for path, aside in moved:
        path.rename(aside)
    try:
        out = bench.doit("reproduce", status=2)
    finally:
        for path, aside in moved:
            aside.rename(path)
    assert f"source {archive.name} is not to be had: neither {archive} nor {cached} is there" in out
    assert "not tried" in out and "done   extract" not in out


def test_reproduce_names_options_that_are_never_the_same(bench: Varied) -> None:
    with manifest(bench) as value:
        value["unreproducible"] = ["MODULE_SIG_KEY"]
        save(bench, value)
        out = bench.doit("reproduce", status=2)
    assert "MODULE_SIG_KEY: with it no two builds are the same bytes" in out


def test_reproduce_names_what_differs(bench: Varied) -> None:
    """Of a package whose sum in the manifest is the one of other bytes: as if another machine had made them."""
    name = next(name for name in bench.first if "headers" in name)  # type: ignore[attr-defined]
    package = bench.artifacts / name
    whole, scratch = package.read_bytes(), bench.home / "other"
    scratch.mkdir()
    subprocess.run(["bsdtar", "-xpf", package, "-C", scratch], check=True)
    info = (scratch / ".BUILDINFO").read_text().replace("buildtoolver = ", "buildtoolver = 7-")
    (scratch / ".BUILDINFO").write_text(info)
    os.utime(scratch / ".BUILDINFO", (1704067200, 1704067200))
    names = subprocess.run(["bsdtar", "-tf", package], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["bsdtar", "-cnf", scratch / "made.tar", "-C", scratch, *names], check=True)
    subprocess.run(["zstd", "-qf", "-3", "-o", package, scratch / "made.tar"], check=True)
    with manifest(bench) as value:
        for entry in value["packages"]:
            if entry["file"] == name:
                entry["sha256"] = benches._sum(package)
        save(bench, value)
        try:
            out = bench.doit("reproduce", status=1)
        finally:
            package.write_bytes(whole)
            shutil.rmtree(scratch)
    assert f"  other  {name}\n         .BUILDINFO: buildtoolver: 7-" in out
    assert out.count("  same   ") == 1
    assert (bench.project / "build/reproduce/project/artifacts" / name).is_file()


def test_reproduce_without_a_manifest(bench: Varied) -> None:
    path = bench.artifacts / "manifest.json"
    with manifest(bench) as value:
        del value["workdir"]
        save(bench, value)
        assert "does not tell all that is needed" in bench.doit("reproduce", status=2)
        path.unlink()
        assert "artifacts/manifest.json is not there" in bench.doit("reproduce", status=2)
    bench.own(path)
