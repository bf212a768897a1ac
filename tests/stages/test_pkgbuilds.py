"""What `doit plan` says of each PKGBUILD in tests/pkgbuilds before anything runs: nothing, a warning, or a refusal,
with the line and the cause. What those that pass then do is in test_pkgbuilds_real.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kbuild_tasks.plugin.plan import as_json
from tests.pkgbuild_world import PKGBUILDS, AnyProject

DODO = """\
from kbuild_tasks import Pipeline
pipeline = Pipeline("cluster.yaml")
DOIT_CONFIG = pipeline.doit_config()
def task_kernel():
    yield from pipeline.tasks()
"""

# name -> what refuses it, and what is warned of ("stage: ..."), each as it begins; () and () is: used as it is
EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "arches": ((), ()),
    "clang": (("PKGBUILD:11: build() compiles with clang (CC=clang)",), ()),
    "documents": (
        (
            "PKGBUILD:8: source=() names missing.patch, which does not lie beside the PKGBUILD",
            "PKGBUILD:13: build() makes htmldocs, and there is no sphinx-build",
        ),
        (),
    ),
    "early": ((), ("patch: PKGBUILD:12: prepare() takes kernelrelease before 'patch -Np1 -i ../late.patch'",)),
    "elsewhere": (
        (
            "PKGBUILD:12: build() runs make mrproper",
            'PKGBUILD:15: build() compiles outside of the tree (O="$srcdir/out',
        ),
        (),
    ),
    "loop": ((), ()),
    "mails": (("PKGBUILD:13: prepare() runs git am, and the kernel's tree is no repository here",), ()),
    "menu": (("PKGBUILD:15: prepare() runs make nconfig, which asks at a terminal",), ()),
    "native": (
        (),
        (
            "patch: PKGBUILD:14: prepare() asks the coordinator's processor (-march=native)",
            "compile: PKGBUILD:6: build() asks the coordinator's processor (-march=native)",
            "compile: PKGBUILD:19: build() runs make -j16",
        ),
    ),
    "options": (
        (),
        (
            "patch: PKGBUILD:18: prepare() makes a .config (>> .config); it is not used",
            "patch: PKGBUILD:19: prepare() makes a .config (scripts/config)",
            "patch: PKGBUILD:20: prepare() makes a .config (merge_config.sh)",
            "compile: PKGBUILD:30: build() may change the .config (scripts/config)",
        ),
    ),
    "repository": ((), ()),
    "scripts": ((), ()),
    "signed": ((), ()),
    "single": ((), ()),
    "split": ((), ()),
    "startdir": (("PKGBUILD:12: prepare() reads mine/ beside the PKGBUILD",), ()),
}
# (name, what is changed in it, what is said then)
CHANGED = [
    ("menu", "_makenconfig=y", "_makenconfig=", "patch: PKGBUILD:18: prepare() asks a question (read -rp)"),
    ("menu", "_makenconfig=y", ": ${_makenconfig:=}", "patch: PKGBUILD:18: prepare() asks a question (read -rp)"),
    ("menu", "make olddefconfig", "read _makenconfig <x", "patch: PKGBUILD:15: prepare() runs make nconfig"),
    ("menu", "make olddefconfig", "[[ $_makenconfig ]] && make xconfig", "PKGBUILD:12: prepare() runs make xconfig"),
    ("menu", "make olddefconfig", "yes '' | make oldconfig", "PKGBUILD:15: prepare() runs make nconfig"),
    ("native", "-j16", "-j$(nproc --all)", "compile: PKGBUILD:19: build() runs make -j$(nproc --all)"),
    ("native", "-j16", "-j$_jobs", "compile: PKGBUILD:19: build() runs make -j$_jobs"),
    ("native", "-j16", "-j", "compile: PKGBUILD:19: build() runs make -j"),
    ("options", "_localmodcfg=", "_localmodcfg=y", "patch: PKGBUILD:24: prepare() makes a .config (make LSMOD="),
    ("options", "_running=", "_running=y", "patch: PKGBUILD:14: prepare() makes a .config (/proc/config.gz)"),
    ("clang", "yes}", "no}", ""),
    ("clang", '"${BUILD_FLAGS[@]}" all', "LLVM=1", "PKGBUILD:22: build() compiles with clang (LLVM=1)"),
    ("clang", '"${BUILD_FLAGS[@]}" all', "LLVM=0", ""),
    ("clang", '"${BUILD_FLAGS[@]}" all', 'LLVM="$_llvm"', ""),
    ("clang", '"${BUILD_FLAGS[@]}" all', 'CC="/usr/bin/clang" all', "PKGBUILD:22: build() compiles with clang (CC="),
    ("clang", '"${BUILD_FLAGS[@]}" all', "all; patch -Np1 -i x", "compile: PKGBUILD:22: build() changes the source"),
    ("early", "  patch -Np1 -i ../late.patch", "  patch -Np1 -i ../late.patch; make -s kernelrelease >version", ""),
    ("elsewhere", "  make mrproper\n", "", "PKGBUILD:14: build() compiles outside of the tree"),
    ("elsewhere", ' O="$srcdir/out"', "", "PKGBUILD:12: build() runs make mrproper"),
    ("startdir", '"$startdir"/mine/*.patch', "../*.patch", 'patch: PKGBUILD:15: prepare() writes "$startdir/config'),
    ("startdir", '"$startdir"/mine/*.patch', "../*.patch", 'compile: PKGBUILD:21: build() writes "${startdir}"/config'),
    ("mails", "git -c user.name=any -c user.email=any@localhost am -3", "git apply", "compile: PKGBUILD:19: build() "),
    ("mails", "am -3", "apply -3", "PKGBUILD:13: prepare() runs git apply -3"),
    ("mails", " 0001-mail.patch)", ' "git+https://x.invalid/other.git")', "patch: PKGBUILD:13: prepare() runs git am"),
    ("early", "-Np1", "-Np1 --dry-run", "patch: PKGBUILD:12: prepare() takes kernelrelease before 'patch"),
    ("early", "  make -s kernelrelease > version\n", "", ""),
    ("split", "eval", "_nothing=1\n  eval", ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project, of which each test makes what it needs: the compiler is asked once."""
    home = tmp_path_factory.mktemp("pkgbuilds")
    (home / "project").mkdir()
    return home


def said(project: AnyProject) -> tuple[list[str], list[str]]:
    """(why the plan is broken, warnings as "stage: text")"""
    steps = project.plan()
    broken = [line for line in steps["extract"].why if not line.startswith("hint: ")]
    return (
        broken if steps["extract"].state == "broken" else [],
        [f"{step.task}: {warning}" for step in steps.values() for warning in step.warnings],
    )


def test_every_pkgbuild_here_has_an_expectation() -> None:
    assert sorted(EXPECTED) == sorted(path.name for path in PKGBUILDS.iterdir())


@pytest.mark.parametrize("name", EXPECTED)
def test_what_the_plan_says(home: Path, name: str) -> None:
    refused, warned = said(AnyProject(home).use(name, nodes=2))
    assert [line[: len(start)] for line, start in zip(refused, EXPECTED[name][0], strict=True)] == [*EXPECTED[name][0]]
    # programs that this machine has not are another test's
    warned = [line for line in warned if "this machine has no program" not in line]
    assert [line[: len(start)] for line, start in zip(warned, EXPECTED[name][1], strict=True)] == [*EXPECTED[name][1]]


@pytest.mark.parametrize(("name", "old", "new", "start"), CHANGED, ids=[f"{c[0]}-{c[2]}" for c in CHANGED])
def test_what_it_says_after_an_edit(home: Path, name: str, old: str, new: str, start: str) -> None:
    project = AnyProject(home).use(name, nodes=2)
    text = project.pkgbuild.read_text()
    assert old in text
    project.pkgbuild.write_text(text.replace(old, new))
    refused, warned = said(project)
    told = [line for line in (*refused, *warned) if "this machine has no program" not in line]
    if start:
        assert [line for line in told if line.startswith(start)], told
    else:
        assert told == []
    if name == "menu" and "nconfig" not in start:  # the switch is off, and nothing is said of it
        assert not [line for line in told if "nconfig" in line and "xconfig" not in start]


def test_one_node_may_be_compiled_for_itself(home: Path) -> None:
    _, warned = said(AnyProject(home).use("native", nodes=1))
    assert [line[:45] for line in warned] == ["compile: PKGBUILD:19: build() runs make -j16: it"[:45]]


def test_another_architecture_has_other_sources(home: Path) -> None:
    project = AnyProject(home).use("arches", arch="aarch64")
    assert [source.name for source in project.pipeline().project.pkgbuild.sources] == [
        "linux-source-6.1.tar.xz",
        "arm.patch",
    ]
    assert project.pipeline().project.pkgbuild.makedepends == ("bc",)


def test_programs_that_are_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bc is looked for where makepkg will look, not in the caller's PATH."""
    project = AnyProject(home).use("documents")
    text = project.pkgbuild.read_text().replace(" missing.patch", "").replace("make htmldocs", "true")
    project.pkgbuild.write_text(text)
    assert project.pipeline().project.pkgbuild.findings  # bash is asked with the true PATH, and not again
    empty = home / "empty"
    empty.mkdir()
    monkeypatch.setattr("kbuild_tasks.effects.makepkg.SYSTEM_PATH", str(empty))
    for name in ("bc", "rustc"):
        (empty / name).write_text("#!/bin/sh\n")
        (empty / name).chmod(0o755)
    read = project.pipeline().project
    assert read.pkgbuild.pkgbase == "linux-documents"
    assert [line.partition("; ")[0] for line in read.remarks("compile")] == [
        f"PKGBUILD:7: makedepends names {package}, and this machine has no program {program}"
        for package, program in [("pahole", "pahole"), ("python-sphinx", "sphinx-build"), ("rust-bindgen", "bindgen")]
    ]


def test_the_command_tells_it_and_ends_so(home: Path) -> None:
    project = AnyProject(home).use("menu")
    (home / "project/dodo.py").write_text(DODO)

    def doit() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "doit", "plan"], cwd=home / "project", env=os.environ, text=True, capture_output=True
        )
        return done.returncode, done.stdout

    code, out = doit()
    assert code == 1
    assert "  broken extract      PKGBUILD:15: prepare() runs make nconfig, which asks at a terminal" in out
    project.pkgbuild.write_text(project.pkgbuild.read_text().replace("_makenconfig=y", "_makenconfig="))
    code, out = doit()
    assert code == 0
    assert "         warning: PKGBUILD:18: prepare() asks a question (read -rp), and nobody answers it; set the" in out
    assert not (home / "work").exists()


def test_json_has_it_too(home: Path) -> None:
    steps = AnyProject(home).use("early").plan()
    tasks = {task["task"]: task for task in as_json(list(steps.values()), [])["tasks"]}
    assert tasks["patch"]["warnings"][0].startswith("PKGBUILD:12: prepare() takes kernelrelease")
    assert tasks["compile"]["warnings"] == ()
