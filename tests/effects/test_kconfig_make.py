"""Files around kconfig: what is read, what is replaced, what other architectures have."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed, ConfigError, KbuildError
from kbuild_tasks.effects.kconfig import Kbuild, foreign, read_text, replace
from kbuild_tasks.effects.kconfig_explain import _FRONT_ENDS, Explainer


def kbuild(tree: Path) -> Kbuild:
    return Kbuild(tree, tree.parent / "scratch", "armv7h", tree.parent / "log")


def test_replace_leaves_equal_content_alone(tmp_path: Path) -> None:
    path = tmp_path / ".config"
    assert replace(path, "CONFIG_A=y\n")
    before = path.stat()
    assert not replace(path, "CONFIG_A=y\n")
    assert path.stat() == before
    assert replace(path, "CONFIG_A=n\n")
    assert path.read_text() == "CONFIG_A=n\n"


def test_replace_does_not_write_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs")
    (tmp_path / ".config").symlink_to(other)
    assert replace(tmp_path / ".config", "ours")
    assert (other.read_text(), (tmp_path / ".config").is_symlink()) == ("theirs", False)


def test_read_text_tells_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'# a\n# b\nCONFIG_A="\xe4"\n')
    (tmp_path / "dir").mkdir()
    for name, says in [
        ("latin", r"latin:3: is not UTF-8 text"),
        ("none", r"kernel.config: there is no file none"),
        ("latin/x", r"kernel.config: there is no file latin/x"),
        ("dir", r"kernel.config: dir is a directory"),
    ]:
        with pytest.raises(ConfigError, match=says):
            read_text(tmp_path, name, "kernel.config")


def test_a_defconfig_that_is_not_there(tmp_path: Path) -> None:
    configs = tmp_path / "linux" / "arch" / "arm" / "configs"
    configs.mkdir(parents=True)
    for name in ("bcm2709_defconfig", "bcm2835_defconfig", "multi_v7_defconfig"):
        (configs / name).touch()
    (tmp_path / "linux" / "Makefile").write_text("%config:\n\t@echo >&2 no such target; exit 2\n")
    with pytest.raises(ConfigError, match="this tree has no bcm2710_defconfig for arm") as caught:
        kbuild(tmp_path / "linux").preset("bcm2710_defconfig")
    assert caught.value.hint == "did you mean bcm2709_defconfig?"
    with pytest.raises(CommandFailed):
        kbuild(tmp_path / "linux").preset("bcm2835_defconfig")


def test_no_source_tree(tmp_path: Path) -> None:
    with pytest.raises(KbuildError, match="is no kernel source tree"):
        kbuild(tmp_path / "linux").prepare()


def test_foreign_looks_at_other_architectures_only(tmp_path: Path) -> None:
    for name, text in {
        "arch/Kconfig": "config KPROBES\n",
        "arch/x86/Kconfig": "config SMP\n",
        "arch/arm/mm/Kconfig": "# memory\nconfig ARM_LPAE\n\tbool\nmenuconfig SMP\n",
        "arch/arm64/Kconfig.platforms": "config ARCH_BCM\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = foreign(tmp_path, ["KPROBES", "SMP", "ARM_LPAE", "ARCH_BCM", "NONE"], "x86")
    assert found == {
        "SMP": "arch/arm/mm/Kconfig:4",
        "ARM_LPAE": "arch/arm/mm/Kconfig:2",
        "ARCH_BCM": "arch/arm64/Kconfig.platforms:1",
    }
    assert foreign(tmp_path, ["SMP"], "arm") == {"SMP": "arch/x86/Kconfig:1"}


@pytest.mark.parametrize(
    ("names", "is_front_end"),
    [
        ("conf.o mconf.o nconf.o nconf.gui.o gconf.o qconf.o qconf-moc.o images.o mnconf-common.o", True),
        ("confdata.o expr.o lexer.lex.o menu.o parser.tab.o preprocess.o symbol.o util.o zconf.tab.o", False),
    ],
)
def test_objects_that_have_a_main_are_not_linked(names: str, is_front_end: bool) -> None:
    assert {bool(_FRONT_ENDS.fullmatch(name)) for name in names.split()} == {is_front_end}


def test_macros_of_a_definition(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Kconfig").write_text(
        "config A\n\tbool\n\tdepends on $(cc-option,-ma)\n\nconfig B\n\tdef_bool $(success,\\\n\t\ttrue)\n"
        "\tdepends on A\n\tdepends on  $(as-instr,nop)\n\thelp\n\t  Costs $(much).\nconfig C\n"
    )
    explainer = Explainer(kbuild(tree))
    assert explainer.macros("Kconfig:1") == ["depends on $(cc-option,-ma)"]
    assert explainer.macros("Kconfig:5") == ["def_bool $(success,\\", "depends on $(as-instr,nop)"]
    assert explainer.macros("Kconfig:12") == []
    assert explainer.macros("gone:1") == ()
    assert explainer.macros("Kconfig") == ()


MAKEFILE = """\
syncconfig:
\t@echo sync >>said
\t@mkdir -p include/config include/generated; cp .config include/config/auto.conf
\t@touch include/generated/autoconf.h
kernelrelease:
\t@cat include/config/auto.conf
"""


@pytest.fixture
def fake(tmp_path: Path) -> Kbuild:
    """A tree whose release is its .config."""
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux" / "Makefile").write_text(MAKEFILE)
    return kbuild(tmp_path / "linux")


def test_make_syncs_where_one_of_its_two_files_is_missing(fake: Kbuild) -> None:
    said = fake.tree / "said"
    assert fake.install("6.1.0") == "6.1.0"
    assert fake.install("6.1.0") == "6.1.0"
    assert said.read_text() == "sync\n"
    (fake.tree / "include/generated/autoconf.h").unlink()
    assert fake.install("6.1.0") == "6.1.0"
    assert said.read_text() == "sync\nsync\n"


@pytest.mark.parametrize("bad", ["6.1.0-" + "x" * 300, "none"])
def test_a_release_that_is_refused_is_not_installed(fake: Kbuild, bad: str) -> None:
    with pytest.raises(KbuildError):
        fake.install(bad)
    assert not fake.config.exists()
    fake.install("6.1.0")
    with pytest.raises(KbuildError) as caught:
        fake.install(bad)
    assert fake.config.read_text() == "6.1.0"
    assert len(caught.value.message) < 170
    assert fake.release() == "6.1.0"


def test_the_length_of_a_release_that_is_refused_is_told(fake: Kbuild) -> None:
    with pytest.raises(ConfigError, match=r"^the kernel release 6\.1x{97}\.\.\. has 303 characters, 64 is the most$"):
        fake.install("6.1" + "x" * 300)
