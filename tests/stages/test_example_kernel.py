"""The PKGBUILD of the example kernel, run by bash: what it says of itself, and what its functions do to a tree.

The trees are small true things: a Makefile that answers the targets the PKGBUILD asks for. The real source, makepkg
and the patches are in test_example_kernel_real.py.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "kernel"
KNOWN_SUM = "01742999b525570335fffc0e0f7f340e"  # md5 of the tarball in linux-source-6.1 6.1.192-2
TARBALL = "usr/src/linux-source-6.1.tar.xz"
RECORD = "var/lib/dpkg/info/linux-source-6.1.md5sums"
CHANGELOG = "usr/share/doc/linux-source-6.1/changelog.Debian.gz"


def bash(
    script: str, cwd: Path, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a script the way makepkg runs a PKGBUILD's function: errexit, nothing of our own environment."""
    base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "CARCH": "x86_64"}
    argv = ["bash", "--noprofile", "--norc", "-euc", script]
    done = subprocess.run(argv, cwd=cwd, env={**base, **(env or {})}, capture_output=True, text=True, timeout=60)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@dataclass(frozen=True)
class Machine:
    """A PKGBUILD whose paths of Debian's files lie below `root`, and a dpkg-query of our own."""

    root: Path

    def place(self, sum_: str = "", changelog: str = "", dpkg: str = "") -> Machine:
        text = (KERNEL / "PKGBUILD").read_text()
        for path in (TARBALL, RECORD, CHANGELOG):
            assert f"/{path}" in text
            text = text.replace(f"/{path}", str(self.root / path))
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / "PKGBUILD").write_text(text)
        if sum_:
            (self.root / TARBALL).write_bytes(b"not read while the PKGBUILD is sourced")
            other = "1b5f75a93a8b6abe0f9b728531a8ccf5  usr/share/doc/linux-source-6.1/changelog.Debian.gz\n"
            (self.root / RECORD).write_text(f"{other}{sum_}  {TARBALL}\n")
        if changelog:
            (self.root / CHANGELOG).write_bytes(gzip.compress(changelog.encode()))
        query = self.root / "bin/dpkg-query"
        query.parent.mkdir()
        answer = f"printf %s {shlex.quote(dpkg)}" if dpkg else "echo no packages found >&2; exit 1"
        query.write_text(f"#!/bin/sh\n{answer}\n")
        query.chmod(0o755)
        return self

    def says(self, *names: str) -> dict[str, list[str]]:
        """Arrays (or plain variables) of the sourced PKGBUILD."""
        asked = "".join(f"printf '%s\\n' {n}= \"${{{n}[@]}}\"\n" for n in names)
        env = {"PATH": f"{self.root}/bin:/usr/bin:/bin"}
        out = bash(f"set +u; source ./PKGBUILD\n{asked}", self.root, env).stdout
        found: dict[str, list[str]] = {}
        for line in out.splitlines():
            if line[:-1] in names and line.endswith("="):
                found[line[:-1]] = current = []
            elif line:
                current.append(line)
        return found


# --- What the PKGBUILD says of itself --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("carch", "karch", "image", "dtbs"),
    [("x86_64", "x86", "bzImage", ""), ("aarch64", "arm64", "Image", "dtbs"), ("armv7h", "arm", "zImage", "dtbs")],
)
def test_image_by_architecture(carch: str, karch: str, image: str, dtbs: str) -> None:
    script = 'source ./PKGBUILD; echo "$_karch $_image $_dtbs"'
    assert bash(script, KERNEL, {"CARCH": carch}).stdout.strip() == f"{karch} {image} {dtbs}".strip()


def test_sourcing_changes_nothing_and_says_nothing(tmp_path: Path) -> None:
    shutil.copy(KERNEL / "PKGBUILD", tmp_path)
    done = bash('exported=$(export -p); source ./PKGBUILD; [[ $(export -p) = "$exported" ]]', tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert os.listdir(tmp_path) == ["PKGBUILD"]


def test_split_packages_have_their_functions() -> None:
    out = bash('source ./PKGBUILD; echo "$pkgbase"; printf "%s\\n" "${pkgname[@]}"; declare -F', KERNEL).stdout
    assert out.splitlines()[:3] == ["linux-cluster", "linux-cluster", "linux-cluster-headers"]
    for name in ("prepare", "build", "package_linux-cluster", "package_linux-cluster-headers"):
        assert f"declare -f {name}\n" in out


KERNEL_ORG = [
    "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.1.188.tar.xz",
    "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.1.188.tar.sign",
]


@pytest.mark.parametrize(
    ("placed", "pkgver", "local_name"),
    [
        pytest.param({"sum_": KNOWN_SUM}, "6.1.192", "linux-source-6.1.192-2.tar.xz", id="known release"),
        pytest.param(
            {"sum_": "0" * 32, "dpkg": "6.1.201-1"}, "6.1.201", "linux-source-6.1.201-1.tar.xz", id="dpkg knows it"
        ),
        pytest.param(
            {"sum_": "0" * 32, "changelog": "linux (6.1.201-1~deb11u1) bullseye; urgency=high\n\n  * New\n"},
            "6.1.201",
            "linux-source-6.1.201-1~deb11u1.tar.xz",
            id="the changelog knows it",
        ),
    ],
)
def test_debian_source(tmp_path: Path, placed: dict[str, str], pkgver: str, local_name: str) -> None:
    said = Machine(tmp_path).place(**placed).says("pkgver", "source", "md5sums", "sha256sums", "_srcname")
    assert said == {
        "pkgver": [pkgver],
        "source": [f"{local_name}::file://{tmp_path / TARBALL}"],
        "md5sums": [placed["sum_"]],
        "sha256sums": [],
        "_srcname": ["linux-source-6.1"],
    }


@pytest.mark.parametrize(
    "placed",
    [
        pytest.param({}, id="no tarball"),
        pytest.param({"sum_": "0" * 32}, id="a tarball whose version nobody knows"),
        pytest.param({"sum_": "0" * 32, "dpkg": "6.12.3-1"}, id="another series"),
        pytest.param({"changelog": "linux (6.1.192-2) bookworm; urgency=high\n"}, id="a changelog alone"),
    ],
)
def test_kernel_org_source(tmp_path: Path, placed: dict[str, str]) -> None:
    said = Machine(tmp_path).place(**placed).says("pkgver", "source", "md5sums", "sha256sums", "validpgpkeys")
    assert said["pkgver"] == ["6.1.188"]
    assert said["source"] == KERNEL_ORG
    assert said["md5sums"] == []
    assert re.fullmatch("[0-9a-f]{64}", said["sha256sums"][0]) and said["sha256sums"][1:] == ["SKIP"]
    assert all(re.fullmatch("[0-9A-F]{40}", key) for key in said["validpgpkeys"]) and said["validpgpkeys"]


# --- What its functions do to a tree ---------------------------------------------------------------------

MAKEFILE = """\
ARCH = x86
release = 6.1.192$(shell cat localversion.* | tr -d '\\n')
kernelversion: ; @echo 6.1.192
kernelrelease: ; @echo $(release)
olddefconfig: ; @echo "# checked" >>.config
bzImage modules: ; @echo "$@ $$KBUILD_BUILD_VERSION" >>made
modules_install:
\t@mkdir -p "$(INSTALL_MOD_PATH)/lib/modules/$(release)/kernel"
\t@echo "strip=$(INSTALL_MOD_STRIP) depmod=$(DEPMOD)" >"$(INSTALL_MOD_PATH)/lib/modules/$(release)/kernel/a.ko"
\t@ln -s "$(CURDIR)" "$(INSTALL_MOD_PATH)/lib/modules/$(release)/build"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A kernel tree of a few files, unpacked where makepkg would have it."""
    shutil.copy(KERNEL / "PKGBUILD", tmp_path)
    srcname = bash('source ./PKGBUILD; echo "$_srcname"', tmp_path).stdout.strip()
    version = bash('source ./PKGBUILD; echo "$pkgver"', tmp_path).stdout.strip()
    tree = tmp_path / "src" / srcname
    files = {
        "Makefile": MAKEFILE.replace("6.1.192", version),
        "arch/x86/Makefile": "# x86\n",
        "arch/x86/boot/bzImage": "image",
        "arch/x86/include/asm/a.h": "",
        "arch/arm/Kconfig": "",
        "arch/x86/Kconfig": "",
        "Kconfig": "",
        "drivers/misc/Kconfig": "",
        "include/linux/a.h": "",
        "include/generated/autoconf.h": "",
        "scripts/basic/fixdep.o": "",
        "kernel/Makefile": "",
        "Module.symvers": "",
        "System.map": "",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "scripts/dangling").symlink_to("../../nowhere")
    return tree


def call(tree: Path, function: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """One function of the PKGBUILD, with the directories that makepkg gives it."""
    start = tree.parent.parent
    given = {"startdir": str(start), "srcdir": str(tree.parent), "pkgdir": str(start / "pkg"), **env}
    return bash(f'source "$startdir/PKGBUILD"; cd "$srcdir"; {function}', start, given, check)


def test_prepare_takes_the_config_beside_it_where_there_is_none(tree: Path) -> None:
    (tree.parent.parent / "config").write_text("CONFIG_A=y\n")
    call(tree, "prepare")
    assert (tree / "localversion.10-pkgrel").read_text() == "-1\n"
    assert (tree / "localversion.20-pkgname").read_text() == "-cluster\n"
    assert (tree / ".config").read_text() == "CONFIG_A=y\n# checked\n"


def test_prepare_leaves_a_config_that_is_there(tree: Path) -> None:
    (tree.parent.parent / "config").write_text("CONFIG_A=y\n")
    (tree / ".config").write_text("CONFIG_B=y\n")
    call(tree, "prepare")
    assert (tree / ".config").read_text() == "CONFIG_B=y\n"


def test_prepare_without_any_config_makes_none(tree: Path) -> None:
    call(tree, "prepare")
    assert not (tree / ".config").exists()


def test_prepare_refuses_a_source_of_another_version(tree: Path) -> None:
    text = (tree / "Makefile").read_text()
    (tree / "Makefile").write_text(re.sub("(?m)^kernelversion.*", "kernelversion: ; @echo 6.1.7", text))
    done = call(tree, "prepare", check=False)
    assert done.returncode != 0
    assert "the unpacked source is Linux 6.1.7, not 6.1." in done.stderr
    assert not (tree / "localversion.10-pkgrel").exists()


@pytest.mark.parametrize(("env", "number"), [({}, "1"), ({"KBUILD_BUILD_VERSION": "7"}, "7")])
def test_build_makes_image_and_modules(tree: Path, env: dict[str, str], number: str) -> None:
    call(tree, "build", **env)
    assert (tree / "made").read_text() == f"bzImage {number}\nmodules {number}\n"


def contents(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_symlink() or not p.is_dir())


def test_kernel_package(tree: Path) -> None:
    (tree / ".config").write_text("CONFIG_B=y\n")
    call(tree, "prepare")
    call(tree, "package_linux-cluster")
    release = f"{call(tree, 'echo $pkgver').stdout.strip()}-1-cluster"
    base = tree.parent.parent / "pkg/usr/lib/modules"
    assert contents(base) == [f"{release}/{name}" for name in ("config", "kernel/a.ko", "pkgbase", "vmlinuz")]
    assert (base / release / "kernel/a.ko").read_text() == "strip=1 depmod=/doesnt/exist\n"
    assert (base / release / "pkgbase").read_text() == "linux-cluster\n"
    assert (base / release / "vmlinuz").read_text() == "image"


@pytest.mark.parametrize("objtool", [False, True])
def test_headers_package(tree: Path, objtool: bool) -> None:
    (tree / ".config").write_text("CONFIG_B=y\n")
    if objtool:
        (tree / "tools/objtool").mkdir(parents=True)
        (tree / "tools/objtool/objtool").write_text("#!/bin/sh\n")
        (tree / "tools/objtool/objtool").chmod(0o755)
    call(tree, "prepare")
    call(tree, "package_linux-cluster-headers")
    release = f"{call(tree, 'echo $pkgver').stdout.strip()}-1-cluster"
    build = tree.parent.parent / f"pkg/usr/lib/modules/{release}/build"
    expected = [
        ".config",
        "Kconfig",
        "Makefile",
        "Module.symvers",
        "System.map",
        "arch/x86/Kconfig",
        "arch/x86/Makefile",
        "arch/x86/include/asm/a.h",
        "drivers/misc/Kconfig",
        "include/generated/autoconf.h",
        "include/linux/a.h",
        "kernel/Makefile",
        "localversion.10-pkgrel",
        "localversion.20-pkgname",
        *(["tools/objtool/objtool"] if objtool else []),
        "version",
    ]
    assert contents(build) == expected
    assert (build / "version").read_text() == f"{release}\n"
    link = tree.parent.parent / "pkg/usr/src/linux-cluster"
    assert link.is_symlink() and link.resolve() == build
