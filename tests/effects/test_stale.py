"""Which products are removed because kbuild makes them no more, told by a real make over a few rules."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.stale import drop_stale
from kbuild_tasks.effects.tree import Trees

PLACE = "linux/src/linux-6.1"
MAKEFILE = """\
include .config
made-y := scripts/always
made-$(CONFIG_TOOL) += scripts/tool include/generated/tool.h
modules_prepare: $(made-y) scripts/script.sh
	@$(MAKE) -f sub.mk
$(made-y):
	@mkdir -p $(@D) && echo made > $@ && echo cmd > $(@D)/.$(@F).cmd
"""
SUB = "here := $(CURDIR)/tools/objtool\nall: $(here)/objtool\n%/objtool:\n\t@mkdir -p $(@D) && echo made > $@\n"


@dataclass
class Small:
    paths: Paths

    @property
    def top(self) -> Path:
        return self.paths.builddir / PLACE

    def build(self, config: str, makefile: str = MAKEFILE, sub: str = SUB) -> list[str]:
        """Sources and .config, then make, as stage compile does; what was removed after it."""
        source = self.paths.root / "source"
        (source / "scripts").mkdir(parents=True, exist_ok=True)
        for name, text in {"Makefile": makefile, "sub.mk": sub, "scripts/script.sh": "x\n"}.items():
            (source / name).write_text(text)
        trees = Trees(self.paths.repository)
        tree = trees.import_directory(source)
        trees.move(self.top, tree)
        (self.top / ".config").write_text(config)
        if "broken" not in makefile:
            subprocess.run(["make", "-s", "modules_prepare"], cwd=self.top, check=True)
        return drop_stale(self.paths, PLACE, tree, "x86_64")

    def there(self) -> set[str]:
        names = ("scripts", "tools", "include")
        return {str(p.relative_to(self.top)) for n in names for p in (self.top / n).rglob("*") if p.is_file()}


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(Paths(tmp_path / "project", tmp_path / "work", tmp_path / "work.state"))


ALWAYS = {"scripts/always", "scripts/.always.cmd", "scripts/script.sh", "tools/objtool/objtool"}
TOOL = {"scripts/tool", "scripts/.tool.cmd", "include/generated/tool.h", "include/generated/.tool.h.cmd"}


def test_an_option_that_is_off_again(small: Small) -> None:
    assert small.build("CONFIG_TOOL=y\n") == []
    assert small.there() == ALWAYS | TOOL
    assert small.build("") == ["include/generated/tool.h", "scripts/tool"]
    assert small.there() == ALWAYS
    assert small.build("CONFIG_TOOL=y\n") == []
    assert small.there() == ALWAYS | TOOL


def test_a_rule_that_is_gone_from_a_makefile_also_one_with_whole_paths(small: Small) -> None:
    small.build("CONFIG_TOOL=y\n")
    assert small.build("CONFIG_TOOL=y\n", MAKEFILE.replace("\t@$(MAKE) -f sub.mk\n", "")) == ["tools/objtool/objtool"]


def test_what_was_never_a_target_stays(small: Small) -> None:
    small.build("CONFIG_TOOL=y\n")
    (small.top / "scripts/somebody").write_text("")
    (small.top / "include/generated/utsversion.h").write_text("")
    small.build("")
    assert small.there() - ALWAYS == {"scripts/somebody", "include/generated/utsversion.h"}


def test_a_make_that_cannot_tell_removes_nothing(small: Small) -> None:
    small.build("CONFIG_TOOL=y\n")
    assert small.build("", "broken") == []
    assert small.there() == ALWAYS | TOOL
    assert small.build("") == ["include/generated/tool.h", "scripts/tool"], "and the next one still knows"


def test_it_is_asked_again_only_if_makefiles_or_config_changed(small: Small) -> None:
    small.build("CONFIG_TOOL=y\n")
    record = small.paths.state / "prepared.json"
    before = record.stat().st_ino
    assert small.build("CONFIG_TOOL=y\n") == []
    assert record.stat().st_ino == before


@pytest.mark.parametrize("text", ["", "[]", '{"place": "linux/src/linux-6.1", "made": [3, "Makefile", "../x"]}'])
def test_a_damaged_record_removes_nothing(small: Small, text: str) -> None:
    small.build("CONFIG_TOOL=y\n")
    (small.paths.state / "prepared.json").write_text(text)
    assert small.build("") == []
    assert (small.top / "Makefile").exists()
