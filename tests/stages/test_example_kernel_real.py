"""The example kernel against the real things: Debian's source, its Kconfig, git apply and makepkg."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATCHES = ROOT / "patches"
KERNEL = ROOT / "kernel"
TARBALL = Path("/usr/src/linux-source-6.1.tar.xz")
TOP = "linux-source-6.1"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not TARBALL.exists(), reason=f"{TARBALL} is missing: apt-get install linux-source-6.1"),
]


def run(*argv: str | Path, cwd: Path, check: bool = True) -> str:
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/nonexistent"}
    done = subprocess.run(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout


def series() -> list[Path]:
    lines = (PATCHES / "series").read_text().splitlines()
    return [PATCHES / line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Kconfig reads, and what the series touches; unpacked in one pass over the tarball (about 7 s)."""
    directory = tmp_path_factory.mktemp("source")
    touched = {name for p in series() for name in re.findall(r"^diff --git a/(\S+)", p.read_text(), re.M)}
    added = {n for p in series() for n in re.findall(r"^diff --git a/(\S+) \S+\nnew file mode", p.read_text(), re.M)}
    wanted = ["Makefile", "*Kconfig*", "scripts/*", "arch/x86/*", *sorted(touched - added)]
    # tar's status says nothing here: a name that an earlier pattern has taken counts as not found
    argv = ["tar", "-xf", str(TARBALL), "--wildcards", *(f"{TOP}/{name}" for name in wanted)]
    subprocess.run(argv, cwd=directory, capture_output=True)
    assert [name for name in (*touched - added, "init/Kconfig") if not (directory / TOP / name).exists()] == []
    return directory / TOP


def test_the_series_applies_in_order(tree: Path, tmp_path: Path) -> None:
    files = {name for p in series() for name in re.findall(r"^diff --git a/(\S+)", p.read_text(), re.M)}
    for name in files:
        if (tree / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / name, tmp_path / name)
    for patch in series():
        run("git", "apply", "--whitespace=error-all", patch, cwd=tmp_path)
    assert (tmp_path / "drivers/misc/cluster_label.c").exists()
    assert not (tmp_path / "drivers/misc/dummy-irq.c").exists()
    assert not (tmp_path / "drivers/char/hw_random/virtio-rng.c").exists()
    assert "virtio_rng.o" in (tmp_path / "drivers/char/hw_random/Makefile").read_text()
    assert os.access(tmp_path / "scripts/spdxcheck-test.sh", os.X_OK)
    # and each object of the Makefile that it edits has its source
    assert "cluster_label.o" in (tmp_path / "drivers/misc/Makefile").read_text()
    assert "dummy" not in (tmp_path / "drivers/misc/Makefile").read_text()


def options(path: Path) -> dict[str, str]:
    found = {}
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"(?:CONFIG_(\w+)=(.+)|# CONFIG_(\w+) is not set)", line):
            found[match[1] or match[3]] = match[2] or "n"
    return found


def test_kconfig_has_nothing_to_add_to_the_base(tree: Path) -> None:
    shutil.copy(KERNEL / "config", tree / ".config")
    assert [line for line in run("make", "-s", "listnewconfig", cwd=tree).splitlines() if "CONFIG_" in line] == []
    run("make", "-s", "olddefconfig", cwd=tree)
    result = options(tree / ".config")
    assert {k: v for k, v in options(KERNEL / "config").items() if result.get(k, "n") != v} == {}


def test_every_option_of_k3s_takes(tree: Path) -> None:
    fragment = KERNEL / "config.d/10-k3s.config"
    (tree / ".config").write_text((KERNEL / "config").read_text() + fragment.read_text())
    run("make", "-s", "olddefconfig", cwd=tree)
    result = options(tree / ".config")
    assert {k: (v, result.get(k, "n")) for k, v in options(fragment).items() if result.get(k, "n") != v} == {}


# --- makepkg checks the checksum that dpkg recorded ------------------------------------------------------


@pytest.fixture
def startdir() -> Iterator[Path]:
    """A directory that an ordinary user can work in: makepkg refuses root, and /tmp/pytest-of-root is closed."""
    directory = Path(tempfile.mkdtemp(prefix="example-kernel-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def makepkg(startdir: Path, *options: str) -> tuple[int, str]:
    argv: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        for path in [startdir, *startdir.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid)
        argv = ["runuser", "-u", "nobody", "--"]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(startdir)}
    argv += ["makepkg", "--nocolor", "--nodeps", *options]
    done = subprocess.run(argv, cwd=startdir, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


@pytest.mark.skipif(not shutil.which("makepkg"), reason="makepkg is missing: apt-get install makepkg libarchive-tools")
@pytest.mark.parametrize("recorded", [True, False], ids=["as recorded", "another file"])
def test_makepkg_checks_the_sum(startdir: Path, recorded: bool) -> None:
    content = b"what lies in /usr/src"
    sum_ = hashlib.md5(content if recorded else b"what dpkg unpacked").hexdigest()
    text = (KERNEL / "PKGBUILD").read_text()
    for path in ("/usr/src/linux-source-6.1.tar.xz", "/var/lib/dpkg/info/linux-source-6.1.md5sums"):
        text = text.replace(path, f"{startdir}/place/{Path(path).name}")
    text = text.replace("01742999b525570335fffc0e0f7f340e", sum_)
    (startdir / "PKGBUILD").write_text(text)
    (startdir / "place").mkdir()
    (startdir / "place" / TARBALL.name).write_bytes(content)
    (startdir / "place/linux-source-6.1.md5sums").write_text(f"{sum_}  usr/src/{TARBALL.name}\n")
    startdir.chmod(0o755)
    code, output = makepkg(startdir, "--verifysource")
    assert ("Passed" if recorded else "FAILED") in output, output
    assert (code == 0) is recorded, output


@pytest.mark.skipif(not shutil.which("makepkg"), reason="makepkg is missing: apt-get install makepkg libarchive-tools")
def test_makepkg_accepts_the_real_source(startdir: Path) -> None:
    shutil.copy(KERNEL / "PKGBUILD", startdir)
    startdir.chmod(0o755)
    code, output = makepkg(startdir, "--verifysource")
    assert code == 0 and "Passed" in output, output
    code, srcinfo = makepkg(startdir, "--printsrcinfo")
    assert code == 0 and "pkgname = linux-cluster-headers" in srcinfo, srcinfo
