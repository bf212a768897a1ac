"""configure on the real Linux 6.1: its own kconfig decides, and each way in which a request can fail is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.core.kconfig_syntax import parse_config
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Outcome, Ssh, Waiver, Workdir
from kbuild_tasks.effects import kconfig_explain
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import sha256_file
from kbuild_tasks.stages.configure import configure

pytestmark = pytest.mark.real
TODAY = date(2027, 1, 31)
BASE = """\
CONFIG_64BIT=y
CONFIG_EXPERT=y
CONFIG_MODULES=y
CONFIG_NET=y
CONFIG_INET=y
CONFIG_BLOCK=y
CONFIG_PCI=y
CONFIG_KERNEL_GZIP=y
CONFIG_LOCALVERSION="-base"
# CONFIG_LOCALVERSION_AUTO is not set
"""


@pytest.fixture(scope="session")
def kconfig_tree(linux_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What kconfig needs of the tree, writable: 1,700 Kconfig files, the makefiles of the top, scripts/."""
    tree = tmp_path_factory.mktemp("kconfig") / "linux"
    for directory, names, files in os.walk(linux_source):
        here = Path(directory).relative_to(linux_source)
        if here == Path("."):
            names.remove("scripts")
        wanted = [f for f in files if f.startswith(("Kconfig", "Makefile")) or here.name == "configs"]
        if wanted:
            (tree / here).mkdir(parents=True, exist_ok=True)
            for name in wanted:
                shutil.copy2(Path(directory, name), tree / here / name)
    shutil.copytree(linux_source / "scripts", tree / "scripts", symlinks=True)
    return tree


class Lab:
    """A project of one node whose build tree is `tree`; the tree starts without any configuration."""

    reproducible = False

    def __init__(self, root: Path, tree: Path) -> None:
        self.root, self.tree = root / "project", tree
        self.workdir = root / "work"
        shutil.rmtree(tree / "include" / "config", ignore_errors=True)
        (tree / ".config").unlink(missing_ok=True)
        source = self.workdir / "makepkg" / "linux-test" / "src"
        source.mkdir(parents=True)
        (source / "linux").symlink_to(tree)
        self.write("config", BASE)

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def run(self, today: date = TODAY, **kernel: object) -> Outcome:
        values: dict[str, object] = {"pkgbuild": "PKGBUILD", "arch": "x86_64", "config": "config", **kernel}
        node = Node("kubenode1", "127.0.0.1", connection="local")
        cluster = Cluster(
            self.root,
            "cluster.yaml",
            Kernel(**values),  # type: ignore[arg-type]
            Build("kubenode1", Workdir(str(self.workdir)), reproducible=self.reproducible),
            Ssh(),
            {"kubenode1": node},
        )
        self.ctx = Context(
            cluster,
            Paths.of(cluster),
            "configure",
            receipts={"extract": {"results": {"pkgbase": "linux-test", "srctree": "linux"}}},
        )
        return configure(self.ctx, today)

    def refused(self, fragment: str, **kernel: object) -> Mapping[str, str]:
        """Run with one fragment that must be refused; symbol -> what is said of it."""
        self.write("f.config", fragment)
        with pytest.raises(ConfigError) as caught:
            self.run(fragments=("f.config",), **kernel)
        self.error = caught.value
        return {line.split(":")[0].removeprefix("CONFIG_"): line for line in caught.value.evidence}

    def final(self) -> dict[str, str]:
        return parse_config((self.tree / ".config").read_text())


@pytest.fixture
def lab(tmp_path: Path, kconfig_tree: Path) -> Lab:
    return Lab(tmp_path, kconfig_tree)


IMPOSSIBLE = {
    # line -> what is said, in part
    "CONFIG_BRIDGE_NETFILTER=m": "depends on BRIDGE (is n), NETFILTER (is n), NETFILTER_ADVANCED (is n)",
    "CONFIG_NO_SUCH_THING=y": "this tree has no such option",
    "CONFIG_OVERLAY_FSS=y": "did you mean OVERLAY_FS?",
    "CONFIG_ARM_LPAE=y": "no option of this architecture; arch/arm/mm/Kconfig:",
    "CONFIG_NR_CPUS=100000": "out of range [2 512]",
    "CONFIG_KERNEL_LZ4=y": "and KERNEL_XZ won, asked for by f.config:",
    "# CONFIG_CRC32 is not set": "wanted n, got y (f.config:7): selected by",
    "CONFIG_SYSVIPC=m": "SYSVIPC is of type bool",
    "CONFIG_ZLIB_INFLATE=m": "has no prompt, cannot be asked for",
    "CONFIG_CFI_CLANG=y": "tool of this machine lacks what it asks for: depends on $(cc-option,-fsanitize=kcfi)",
    "CONFIG_RUST=y": "needs a newer or another compiler or tool",
    'CONFIG_PANIC_TIMEOUT="10"': "is of type integer",
    "CONFIG_LOG_BUF_SHIFT=0x10": "is of type integer",
    "CONFIG_LOCALVERSION=y": "is of type string",
    "CONFIG_JBD2=m": "wanted m, got y (f.config:15): selected by EXT4_FS",
    "CONFIG_EXPERT=n": "overridden by f.config:19, which asks for y",
    "CONFIG_VXLAN=y": "depends on NETDEVICES (is n), NET_CORE (is n); nobody asks for NETDEVICES",
    'CONFIG_CMDLINE="quiet"': "depends on CMDLINE_BOOL (is n)",
}
POSSIBLE = """\
CONFIG_EXPERT=y
CONFIG_SMP=y
CONFIG_KERNEL_XZ=y
CONFIG_EXT4_FS=y
CONFIG_IPV6=m
CONFIG_PHYSICAL_START=0x200000
# CONFIG_TYPO_THAT_IS_OFF_ANYWAY is not set
"""


def test_each_impossible_request_is_told_with_its_reason(lab: Lab) -> None:
    asked = list(IMPOSSIBLE)
    lab.refused("\n".join(asked) + "\n" + POSSIBLE)
    told = lab.ctx.log.read_text().partition("requests that the final .config does not fulfil:\n")[2].splitlines()
    failing = {line: says for line, says in IMPOSSIBLE.items() if says}
    assert lab.error.message.startswith(f"{len(failing)} of {len(asked) + 7} requested options are not as requested")
    assert len(told) == len(failing)
    for (line, says), found in zip(failing.items(), told, strict=True):
        symbol = line.removeprefix("# ").replace("=", " ").split()[0]
        assert found.startswith(f"  {symbol}: wanted "), found
        assert f"(f.config:{asked.index(line) + 1})" in found
        assert says in found
    assert not (lab.tree / ".config").exists()
    assert not (lab.tree / "include" / "config").exists()
    assert not (lab.workdir / "configure").exists()
    assert not (lab.root / "build" / "config").exists()


def test_installs_what_is_proven_and_then_touches_nothing(lab: Lab) -> None:
    lab.write("f.config", POSSIBLE + 'CONFIG_LOCALVERSION="-c1"\n')
    first = lab.run(fragments=("f.config",), require=("OVERLAY_FS", "IPV6"))
    final = lab.final()
    assert final["OVERLAY_FS"] == "y"
    assert final["IPV6"] == "m"
    assert final["KERNEL_XZ"] == "y"
    assert first.results["options"] == 10
    assert first.results["kernelrelease"].endswith("-c1")
    assert first.results["config_sha256"] == sha256_file(lab.tree / ".config") == sha256_file(lab.root / "build/config")
    assert any(line.startswith("KERNEL_XZ: ") for line in first.warnings)
    before = {p: p.stat().st_mtime_ns for p in lab.tree.rglob("*") if p.is_file()}
    second = lab.run(fragments=("f.config",), require=("OVERLAY_FS", "IPV6"))
    assert {p: p.stat().st_mtime_ns for p in lab.tree.rglob("*") if p.is_file()} == before
    assert second.results == first.results
    assert second.message.endswith(".config as before")
    lab.write("f.config", POSSIBLE + 'CONFIG_LOCALVERSION="-c2"\n')
    third = lab.run(fragments=("f.config",), require=("OVERLAY_FS", "IPV6"))
    assert third.results["kernelrelease"].endswith("-c2")
    assert third.message.endswith('changed: LOCALVERSION "-c1" -> "-c2"')


def test_a_refusal_leaves_the_installed_config(lab: Lab) -> None:
    lab.run()
    before = {p: p.stat().st_mtime_ns for p in lab.tree.rglob("*") if p.is_file()}
    lab.refused("CONFIG_SYSVIPC=m\n")
    assert {p: p.stat().st_mtime_ns for p in lab.tree.rglob("*") if p.is_file()} == before


def test_waivers(lab: Lab) -> None:
    waivers = (Waiver("SYSVIPC", "2027-02-28", "an old fragment", 8), Waiver("IPV6", "2027-02-28", "was needed", 9))
    lab.write("f.config", "CONFIG_SYSVIPC=m\n")
    done = lab.run(fragments=("f.config",), waivers=waivers)
    assert "SYSVIPC: wanted m, got n; waived until 2027-02-28: an old fragment" in done.warnings
    assert "the waiver of IPV6 is not needed any more: remove it" in done.warnings
    with pytest.raises(ConfigError) as caught:
        lab.run(date(2027, 3, 1), fragments=("f.config",), waivers=waivers)
    assert caught.value.evidence[0].endswith("; its waiver ended on 2027-02-28 (an old fragment)")


def test_without_the_helper_the_failure_is_told_all_the_same(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = lab.root / "no-such-helper.c"
    monkeypatch.setattr(kconfig_explain, "__file__", str(missing))
    told = lab.refused("CONFIG_SYSVIPC=m\nCONFIG_PROC_FS=n\nCONFIG_PROC_FS=y\n")
    assert told["SYSVIPC"] == "CONFIG_SYSVIPC: wanted m, got n (f.config:1)"
    assert told["PROC_FS"].endswith(": overridden by f.config:3, which asks for y")
    assert "kconfig cannot be asked for reasons" in lab.ctx.log.read_text()


def test_the_lab_configuration_is_its_own_proof(lab: Lab) -> None:
    """A whole configuration given as a fragment: each of its options holds."""
    example = Path(__file__).parents[2] / "kernel" / "config"
    if not example.is_file():
        pytest.skip("there is no example kernel")
    text = example.read_text()
    lab.write("config", text)
    done = lab.run(fragments=("config",))
    assert done.results["options"] > 100


def test_a_full_config_of_another_compiler_is_counted_not_refused(lab: Lab) -> None:
    lab.run()
    final = (lab.tree / ".config").read_text()
    other = final.replace("CONFIG_GCC_VERSION=", "CONFIG_GCC_VERSION=9").replace(
        "# CONFIG_SYSVIPC is not set", "CONFIG_SYSVIPC=m"
    )
    assert other != final
    lab.write("config", other)
    done = lab.run()
    assert done.warnings[0].startswith("config: 1 of ")
    assert "  CONFIG_SYSVIPC: wanted m, got n (config:" in lab.ctx.log.read_text()
    assert (lab.tree / ".config").read_text() == final


def test_defconfig_by_name(lab: Lab) -> None:
    done = lab.run(config="x86_64_defconfig", require=("EXT4_FS", "OVERLAY_FS"))
    assert lab.final()["EXT4_FS"] == "y"
    assert done.results["options"] == 2
    assert not any("came out otherwise" in line for line in done.warnings)
    with pytest.raises(ConfigError, match="this tree has no x86_65_defconfig for x86") as caught:
        lab.run(config="x86_65_defconfig")
    assert caught.value.hint == "did you mean x86_64_defconfig?"


def test_tinyconfig_is_refused(lab: Lab) -> None:
    """Its makefile merges into the tree's .config whatever KCONFIG_CONFIG says (6.1, scripts/kconfig/Makefile)."""
    with pytest.raises(ConfigError, match="there is no file tinyconfig"):
        lab.run(config="tinyconfig")


HOSTILE = [
    'CONFIG_SYSTEM_TRUSTED_KEYS="$(shell touch {})"',
    'CONFIG_LOCALVERSION="$(touch {})"',
    'CONFIG_LOCALVERSION="`touch {}`"',
    'CONFIG_LOCALVERSION="\\"; touch {}; \\""',
    "CONFIG_LOCALVERSION=$(touch {})",
    "$(shell touch {})",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_nothing_of_a_hostile_value_is_executed(lab: Lab, tmp_path: Path, line: str) -> None:
    proof = tmp_path / "executed"
    lab.write("f.config", line.format(proof) + "\n")
    for kernel in ({"fragments": ("f.config",)}, {"config": "f.config"}):
        with pytest.raises(ConfigError, match="no valid configuration"):
            lab.run(**kernel)
    assert not proof.exists()
    assert not (lab.tree / ".config").exists()


def test_missing_files_and_trees(lab: Lab) -> None:
    with pytest.raises(ConfigError, match=r"kernel\.config: there is no file gone"):
        lab.run(config="gone")
    with pytest.raises(ConfigError, match=r"kernel\.fragments: there is no file gone"):
        lab.run(fragments=("gone",))
    (lab.workdir / "makepkg" / "linux-test" / "src" / "linux").unlink()
    with pytest.raises(KbuildError, match="is no kernel source tree"):
        lab.run()


def test_a_release_that_is_too_long(lab: Lab) -> None:
    lab.write("f.config", f'CONFIG_LOCALVERSION="-{"x" * 60}"\n')
    lab.run()
    before = lab.final()
    with pytest.raises(KbuildError, match="64"):
        lab.run(fragments=("f.config",))
    assert lab.final() == before
    assert lab.run().results["kernelrelease"].endswith("-base")


def test_a_key_that_each_build_makes_is_named_and_refused_where_the_cluster_wants_the_same_bytes(lab: Lab) -> None:
    lab.write("f.config", "CONFIG_MODULE_SIG=y\n")
    outcome = lab.run(fragments=("f.config",))
    (warning,) = [line for line in outcome.warnings if line.startswith("no two builds are the same bytes with ")]
    assert "MODULE_SIG_KEY: " in warning and "name a key of yours" in warning
    assert outcome.results["unreproducible"] == ["MODULE_SIG_KEY"]
    before = (lab.tree / ".config").read_bytes()

    lab.reproducible = True
    assert "MODULE_SIG_KEY" in lab.refused("CONFIG_MODULE_SIG=y\n")
    assert "build.reproducible is true" in lab.error.message
    assert (lab.tree / ".config").read_bytes() == before

    lab.write("f.config", 'CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_KEY="/home/builder/keys/modules.pem"\n')
    outcome = lab.run(fragments=("f.config",))
    assert "unreproducible" not in outcome.results
