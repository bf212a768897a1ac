"""PKGBUILDs as bash reads them: which edit changes which part, what is refused, and what is remembered."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.pkgbuild import PARTS
from kbuild_tasks.effects import pkgbuild as effect
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.pkgbuild import load_pkgbuild

SIMPLE = """\
# Maintainer: nobody
pkgname=linux-simple
pkgver=6.1.1
pkgrel=1
pkgdesc="A kernel"
arch=(x86_64 aarch64)
_flags="-O2"
_unused=1
source=("https://example.invalid/linux-$pkgver.tar.xz" config)
sha256sums=(aaaa SKIP)
prepare() {
  cd linux-$pkgver
  echo "-$pkgrel" > localversion.10-pkgrel
  cp ../config .config
}
_make() { make KCFLAGS="$_flags" "$@"; }
build() {
  cd linux-$pkgver
  _make all . # the dot is an argument, not a command
}
package() {
  cd linux-$pkgver
  make INSTALL_MOD_PATH="$pkgdir/usr" modules_install
}
"""

# The style of Arch's own kernel: split packages made in a loop, sources by architecture, arrays that grow.
SPLIT = """\
pkgbase=linux-split
pkgver=6.1.1
pkgrel=1
pkgdesc="A kernel"
arch=(x86_64 aarch64)
options=('!strip')
makedepends=(bc)
_srcname=linux-${pkgver%.*}
source=("https://example.invalid/$_srcname.tar.xz")
sha256sums=(aaaa)
source_x86_64=("https://example.invalid/x86.patch")
sha256sums_x86_64=(bbbb)
source_aarch64=("https://example.invalid/arm.patch")
sha256sums_aarch64=(cccc)
if [[ $CARCH == x86_64 ]]; then
  makedepends+=(cpio)
fi
export KBUILD_BUILD_HOST=example
prepare() {
  cd $_srcname
  local src
  for src in "${source[@]}" "${source_x86_64[@]}"; do
    src="${src%%::*}"; src="${src##*/}"
    [[ $src = *.patch ]] || continue
    patch -Np1 < "../$src"
  done
}
build() {
  cd $_srcname
  make all
}
_package() {
  pkgdesc="The $pkgdesc itself"
  depends=(kmod)
  cd $_srcname
  make INSTALL_MOD_PATH="$pkgdir/usr" modules_install
}
_package-headers() {
  cd $_srcname
  install -Dt "$pkgdir/usr/lib/modules/build" .config
}
pkgname=("$pkgbase" "$pkgbase-headers")
for _p in "${pkgname[@]}"; do
  eval "package_$_p() {
    $(declare -f "_package${_p#$pkgbase}")
    _package${_p#$pkgbase}
  }"
done
"""

S, P, B, K = PARTS  # source prepare build package
EDITS = [  # (style, old, new, parts that change)
    (SIMPLE, "A kernel", "My kernel", {K}),
    (SIMPLE, "# Maintainer: nobody", "# Maintainer: somebody", {K}),
    (SIMPLE, "# the dot is an argument, not a command", "", {K}),
    (SIMPLE, "  _make all .", "    _make    all .", {K}),
    (SIMPLE, "pkgrel=1", "pkgrel=2", {P, K}),  # prepare() writes it into the tree
    (SIMPLE, "pkgver=6.1.1", "pkgver=6.1.2", {S, P, B, K}),
    (SIMPLE, "_make all .", "_make all modules .", {B, K}),
    (SIMPLE, "make KCFLAGS", "make V=1 KCFLAGS", {B, K}),  # a helper function
    (SIMPLE, '_flags="-O2"', '_flags="-O3"', {B, K}),  # a variable that only the helper mentions
    (SIMPLE, "_unused=1", "_unused=2", {K}),
    (SIMPLE, "_unused=1", "export KCFLAGS=-g", {P, B, K}),  # make sees it without being told
    (SIMPLE, "_unused=1", "options=(!strip)", {K}),
    (SIMPLE, "_unused=1", "options=(!buildflags)", {B, P, K}),
    (SIMPLE, "_unused=1", "shopt -s nullglob", {B, P, K}),
    (SIMPLE, "_unused=1", "unset TZ", {B, P, K}),
    (SIMPLE, "_unused=1", "validpgpkeys=(ABCD)", {S, K}),
    (SIMPLE, "_unused=1", "noextract=(config)", {S, K}),
    (SIMPLE, "sha256sums=(aaaa SKIP)", "sha256sums=(abab SKIP)", {S, K}),
    (SIMPLE, "example.invalid", "mirror.invalid", {S, K}),
    (SIMPLE, "cp ../config .config", "cp ../config .config; touch a", {P, K}),
    (SIMPLE, "modules_install", "modules_install -s", {K}),
    (SIMPLE, "pkgname=linux-simple", "pkgname=linux-other", {S, P, B, K}),  # $srcdir's path
    (SPLIT, "A kernel", "My kernel", {K}),
    (SPLIT, "The $pkgdesc itself", "Another $pkgdesc", {K}),
    (SPLIT, "pkgrel=1", "pkgrel=2", {K}),
    (SPLIT, "pkgver=6.1.1", "pkgver=6.1.2", {K}),  # the series stays 6.1: the same sources, the same tree
    (SPLIT, "make all", "make all modules", {B, K}),
    (SPLIT, "sha256sums_x86_64=(bbbb)", "sha256sums_x86_64=(abab)", {S, K}),
    (SPLIT, "sha256sums_aarch64=(cccc)", "sha256sums_aarch64=(abab)", {K}),  # not this architecture's
    (SPLIT, "x86.patch", "x64.patch", {S, P, K}),  # prepare() loops over the names
    (SPLIT, "KBUILD_BUILD_HOST=example", "KBUILD_BUILD_HOST=other", {P, B, K}),
    (SPLIT, "makedepends+=(cpio)", "makedepends+=(cpio tar)", {K}),
    (SPLIT, "options=('!strip')", "options=()", {K}),
]


def load(tmp_path: Path, text: str, arch: str = "x86_64"):
    path = tmp_path / "kernel" / "PKGBUILD"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load_pkgbuild(path, tmp_path / "cache" / "pkgbuild.json", arch)


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    known: dict[str, dict[str, str]] = {}

    def of(text: str) -> dict[str, str]:
        if text not in known:
            read = load(tmp_path_factory.mktemp("p"), text)
            assert not read.undivided
            known[text] = {part: read.digest(part) for part in PARTS}
        return known[text]

    return of


@pytest.mark.parametrize(("style", "old", "new", "parts"), EDITS, ids=[f"{e[1]} -> {e[2]}" for e in EDITS])
def test_an_edit_changes_the_parts_that_depend_on_it(digests, style, old, new, parts):
    assert old in style
    before, after = digests(style), digests(style.replace(old, new))
    assert {part for part in PARTS if before[part] != after[part]} == parts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('eval "make $pkgdesc"', "build() uses eval"),
        ('local v=pkgdesc; make "${!v}"', "build() uses ${!...}"),
        ("local -n v=pkgdesc; make $v", "build() uses local -n"),
        ('. "$startdir/helpers.sh"', "build() uses ."),
        ("if true; then source ../helpers.sh; fi", "build() uses source"),
        ('md5sum "$startdir/PKGBUILD"', "build() uses the PKGBUILD's own text"),
    ],
)
def test_parts_that_cannot_be_told_apart_change_together_and_say_why(tmp_path, line, reason):
    text = SIMPLE.replace("  _make all .", f"  {line}")
    before = load(tmp_path, text)
    after = load(tmp_path, text.replace("A kernel", "My kernel"))
    assert before.undivided == {"build": reason}
    assert before.digest("build") != after.digest("build")
    assert before.digest("prepare") == after.digest("prepare")


def test_a_command_in_a_variable_is_followed(tmp_path):
    text = SIMPLE.replace("_unused=1", '_run="_make all"').replace("  _make all .", "  $_run")
    changed = text.replace("make KCFLAGS", "make V=1 KCFLAGS")
    assert load(tmp_path, text).digest("build") != load(tmp_path, changed).digest("build")


def test_what_it_says(tmp_path):
    read = load(tmp_path, SPLIT)
    assert (read.pkgbase, read.pkgver) == ("linux-split", "6.1.1")
    assert read.pkgnames == ("linux-split", "linux-split-headers")
    assert read.makedepends == ("bc", "cpio")
    assert [(s.name, s.protocol, dict(s.sums), s.checked) for s in read.sources] == [
        ("linux-6.1.tar.xz", "https", {"sha256": "aaaa"}, True),
        ("x86.patch", "https", {"sha256": "bbbb"}, True),
    ]
    assert [s.name for s in load(tmp_path, SPLIT, "aarch64").sources] == ["linux-6.1.tar.xz", "arm.patch"]


def test_files_beside_it_count_where_they_are_named(tmp_path):
    text = SIMPLE.replace("_unused=1", "install=simple.install; changelog=NEWS")
    read = load(tmp_path, text.replace("_make all .", "_make -f ../extra.mk"))
    beside = ["NEWS", "README", "config", "extra.mk", "simple.install"]
    assert read.local_files("source", beside) == ("config",)
    assert read.local_files("build", beside) == ("extra.mk",)
    assert read.local_files("package", beside) == ("NEWS", "config", "extra.mk", "simple.install")


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("cat $startdir/config", ("config",)),
        ('cat "${startdir}/config"', ("config",)),
        ('cat "$startdir"/config', ("config",)),
        ("cat $startdir/*.mk", ("README", "config", "extra.mk")),
        ('cat "$startdir/$_name"', ("README", "config", "extra.mk")),
        ("cd $startdir; cat *", ("README", "config", "extra.mk")),
        ("cat ../extra.mk $startdir/config", ("config", "extra.mk")),
        ("cat $_there/x", ("README", "config", "extra.mk")),
        ("make all", ()),
    ],
)
def test_files_that_a_function_takes_from_startdir(tmp_path, command, found):
    text = SIMPLE.replace("_unused=1", "_there=$startdir").replace("  _make all .", f"  {command}")
    assert load(tmp_path, text).local_files("build", ["README", "config", "extra.mk"]) == found


REFUSED = [
    ("", "PKGBUILD: pkgname is not set"),
    (SIMPLE.replace("pkgname=linux-simple", ""), "PKGBUILD: pkgname is not set"),
    (SIMPLE.replace("pkgver=6.1.1", ""), "PKGBUILD: pkgver is not set"),
    (SIMPLE.replace("pkgname=linux-simple", "pkgname='a;reboot'"), "PKGBUILD: 'a;reboot' cannot be a package's name"),
    (SIMPLE.replace("pkgname=linux-simple", "pkgname=../../x"), "PKGBUILD: '../../x' cannot be a package's name"),
    (SIMPLE.replace("build()", "bild()"), "PKGBUILD: has no build() function"),
    (SIMPLE.replace("package()", "pack()"), "PKGBUILD: has no package() function"),
    (SPLIT + "\npkgname+=(extra)\n", "PKGBUILD: has no package_extra() function"),
    (SIMPLE.replace("_flags=", "fi\n_flags="), "PKGBUILD:7: syntax error near unexpected token `fi'"),
    (SIMPLE + "\nmain() {\n", "PKGBUILD:27: syntax error: unexpected end of file"),
    (SIMPLE.replace("_unused=1", '_unused="1'), "PKGBUILD:"),
    (SIMPLE + "\nfalse\n", "PKGBUILD: returns 1 when it is read"),
    (SIMPLE + "\nnosuchcommand\n", "PKGBUILD:26: nosuchcommand: command not found"),
    (SIMPLE + "\nexit 0\n", "PKGBUILD: ends the shell that reads it"),
    (SIMPLE.replace("pkgrel=1\n", "pkgrel=1\r\n"), "PKGBUILD:4: ends with CR LF, and makepkg refuses such a file"),
    (
        SIMPLE.replace("x86_64", "riscv64"),
        "PKGBUILD: arch=(riscv64 aarch64) does not name x86_64, which kernel.arch asks for",
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[m[1] or "empty" for m in REFUSED])
def test_refused_in_one_sentence(tmp_path, text, message):
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "PKGBUILD").write_bytes(text.encode())
    with pytest.raises(ConfigError) as raised:
        load_pkgbuild(tmp_path / "kernel" / "PKGBUILD", tmp_path / "cache.json", "x86_64")
    assert raised.value.message.startswith(message)
    assert raised.value.hint
    assert "/tmp" not in raised.value.message


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="PKGBUILD cannot be read: No such file or directory"):
        load_pkgbuild(tmp_path / "PKGBUILD", tmp_path / "c.json", "x86_64")


def test_an_endless_top_level_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(effect, "DEADLINE", 0.5)
    with pytest.raises(ConfigError, match=r"within 0\.5 s"):
        load(tmp_path, "sleep 60\n" + SIMPLE)


def test_a_job_that_the_top_level_left_behind_is_not_waited_for(tmp_path):
    seconds = f"{800 + os.getpid() / 1e7:.7f}"
    started = time.monotonic()
    assert load(tmp_path, f"sleep {seconds} &\n" + SIMPLE).fields["pkgname"] == ("linux-simple",)
    assert time.monotonic() - started < 10
    assert not [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if f"\0{seconds}\0".encode() in _read(f"/proc/{pid}/cmdline")
    ]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("line", ["head -c 300M /dev/zero >&2", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"])
def test_an_output_without_end_is_cut_off(tmp_path, line):
    with pytest.raises(ConfigError, match=r"^PKGBUILD: its top level writes more than 16 MiB of output$"):
        load(tmp_path, f"{line}\n{SIMPLE}")


def test_a_binary_file_is_told_as_one(tmp_path):
    (tmp_path / "PKGBUILD").write_bytes(b"\x7fELF\x02\r\n\0\0\0")
    with pytest.raises(ConfigError, match=r"^PKGBUILD is not a text file$"):
        load_pkgbuild(tmp_path / "PKGBUILD", tmp_path / "c.json", "x86_64")


def test_what_the_top_level_writes_is_not_in_the_project(tmp_path):
    text = SIMPLE.replace("_unused=1", 'echo x > made; echo x > "$startdir/made2"; echo y > config; echo noise')
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "config").write_text("mine")
    load(tmp_path, text)
    assert sorted(os.listdir(tmp_path / "kernel")) == ["PKGBUILD", "config"]
    assert (tmp_path / "kernel" / "config").read_text() == "mine"


def test_values_do_not_hold_the_place_where_bash_ran(tmp_path):
    text = SIMPLE.replace("_unused=1", "_here=$PWD _there=$startdir").replace("_make all .", "_make $_here $_there")
    first, second = load(tmp_path, text), load(tmp_path, text + "\n")
    assert first.variables["_here"] == 'declare -- _here="$startdir"'
    assert first.digest("build") == second.digest("build")


@pytest.fixture
def no_child(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a program was started")

    return lambda: monkeypatch.setattr(shell, "spawn", refuse)


def test_remembered_without_a_child(tmp_path, no_child):
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "config").write_text("one")
    first = load(tmp_path, SPLIT)
    no_child()
    os.utime(tmp_path / "kernel" / "PKGBUILD")
    os.utime(tmp_path / "kernel" / "config")
    again = load(tmp_path, SPLIT)
    assert again == first
    assert [again.digest(p) for p in PARTS] == [first.digest(p) for p in PARTS]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}', None])
def test_a_damaged_memory_does_not_count(tmp_path, damage):
    first = load(tmp_path, SPLIT)
    cache = tmp_path / "cache" / "pkgbuild.json"
    if damage is None:  # the key is right, what follows it is not
        text = cache.read_text()
        cache.write_text(text[: text.index('"pkgbuild"')] + '"pkgbuild": {}}')
    else:
        cache.write_text(damage)
    assert load(tmp_path, SPLIT) == first


def test_what_the_top_level_reads_beside_it_is_noticed_under_an_equal_mtime(tmp_path):
    text = SIMPLE.replace("_unused=1", "_flags=$(<flags)")
    flags = tmp_path / "kernel" / "flags"
    flags.parent.mkdir()
    flags.write_text("-O2")
    os.utime(flags, (1, 1))
    before = load(tmp_path, text)
    flags.write_text("-O3")
    os.utime(flags, (1, 1))
    after = load(tmp_path, text)
    assert {p for p in PARTS if before.digest(p) != after.digest(p)} == {B, K}
