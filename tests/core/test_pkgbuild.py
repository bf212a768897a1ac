"""Parts of a PKGBUILD, from what bash said of it: values in, digests out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbuild_tasks.core.pkgbuild import UNSET, Pkgbuild, Source

BUILD = "build () \n{ \n    cd $_tree;\n    make all\n}"
BASE = Pkgbuild(
    name="PKGBUILD",
    sha256="0" * 64,
    arch="x86_64",
    fields={"pkgname": ("linux",), "pkgver": ("1",), "pkgrel": ("1",), "arch": ("x86_64",)},
    variables={"_tree": 'declare -- _tree="linux"', "pkgdesc": 'declare -- pkgdesc="A"'},
    functions={"build": BUILD, "package": "package () \n{ \n    make install\n}"},
)


def build(text: str) -> Pkgbuild:
    return replace(BASE, functions={**BASE.functions, "build": text})


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("make -C . all", ""),
        ("cp x .", ""),
        ("ln -s build source", ""),
        ("find . -name x", ""),
        ("echo PKGBUILDS evaluate", ""),
        ("local -a list=(1 2)", ""),
        ("declare -r x=1", ""),
        (". ./helpers", "build() uses ."),
        ("true && . ./helpers", "build() uses ."),
        ("V=1 source ./helpers", "build() uses source"),
        ('x="$(source ./helpers)"', "build() uses source"),
        ("command source ./helpers", "build() uses source"),
        ('eval "$x"', "build() uses eval"),
        ('make "${!x}"', "build() uses ${!...}"),
        ("local -n x=pkgdesc", "build() uses local -n"),
        ("declare -p", "build() uses declare -p"),
        ("sha256sum $startdir/PKGBUILD", "build() uses the PKGBUILD's own text"),
        ("grep x ${BASH_SOURCE[0]}", "build() uses the PKGBUILD's own text"),
    ],
)
def test_what_a_function_may_reach_without_naming_it(command, reason):
    made = build(f"build () \n{{ \n    {command}\n}}")
    assert made.undivided.get("build", "") == reason
    changed = replace(made, variables={**made.variables, "pkgdesc": 'declare -- pkgdesc="B"'})
    assert (made.digest("build") != changed.digest("build")) == bool(reason)


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("_tree", 'declare -- _tree="other"', True),
        ("pkgdesc", 'declare -- pkgdesc="B"', False),
        ("KCFLAGS", 'declare -x KCFLAGS="-g"', True),
        ("TZ", UNSET, True),
        ("CFLAGS", 'declare -- CFLAGS="-O3"', True),
        ("MAKEFLAGS", 'declare -x MAKEFLAGS="-j9"', False),  # speed
        ("BUILDDIR", 'declare -x BUILDDIR="/x"', False),  # ours
        ("_other", 'declare -- _other="1"', False),
    ],
)
def test_variables_that_count_for_build(name, text, counts):
    changed = replace(BASE, variables={**BASE.variables, name: text})
    assert (BASE.digest("build") != changed.digest("build")) == counts


def test_whether_the_content_of_a_source_is_pinned():
    assert Source("a::https://x/b.tar", "a", "https").url == "https://x/b.tar"
    table = {
        "https://x/b.tar": {"sha256": "SKIP"},
        "git+https://x/linux.git": {"sha256": "SKIP"},
        "git+https://x/linux.git#branch=main": {"sha256": "SKIP"},
    }
    assert not any(Source(entry, "n", "p", sums).checked for entry, sums in table.items())
    assert Source("git+https://x/linux.git#commit=abc", "linux", "git", {"sha256": "SKIP"}).checked
    assert Source("git+https://x/linux.git#tag=v6.1", "linux", "git").checked
    assert Source("https://x/b.tar", "b.tar", "https", {"md5": "SKIP", "sha256": "aa"}).checked
