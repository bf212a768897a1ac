"""The PKGBUILDs of tests/pkgbuilds through the stages, with the real makepkg: on a part of the real Linux (what Kconfig
and prepare() read), and two of them on all of it, compiled and packaged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.files import read_json
from tests.conftest import TARBALL
from tests.makepkg_world import NOBODY, TREE
from tests.pkgbuild_world import PKGBUILDS, TOP, AnyProject, part_of_linux

pytestmark = pytest.mark.real


@pytest.fixture(scope="session")
def part(linux_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("part")
    part_of_linux(linux_source, place)
    yield place
    shutil.rmtree(place)


def new_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="kbuild-any."))
    home.chmod(0o755)
    for name in ("project", "usr"):
        (home / name).mkdir()
    return home


@pytest.fixture
def bare() -> Iterator[AnyProject]:
    """A project in a place of its own; what lies in /usr/src is for the test to put there."""
    home = new_home()
    yield AnyProject(home)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def shared(part: Path) -> Iterator[AnyProject]:
    """A project beside a part of Linux. One for all tests: what one has unpacked and compiled of kconfig stays."""
    home = new_home()
    archive = f"{TOP}.tar.xz"
    os.link(part / archive, home / "usr" / archive)
    (home / "usr" / archive).chmod(0o644)
    yield AnyProject(home)
    shutil.rmtree(home)


def git(directory: Path, *argv: str) -> None:
    who = ["-c", "user.name=any", "-c", "user.email=any@localhost", "-c", "safe.directory=*"]
    subprocess.run(["git", *who, *argv], cwd=directory, check=True, capture_output=True)


def tree_of(project: AnyProject) -> Path:
    return project.srcdir_of(project.pipeline().project.pkgbuild.pkgbase) / TOP


def test_a_loop_applies_plain_packed_renamed_and_conditional_patches(shared: AnyProject) -> None:
    project = shared.use("loop")
    shutil.copy(PKGBUILDS / "loop/linux-source-6.1.readme.patch", project.home / "usr")
    outcome, _ = project.run("extract", "patch")
    assert outcome.message == "no patches: the source as it is; prepare() changed 5 files"
    tree = tree_of(project)
    text = {name: (tree / name).read_text() for name in ("Makefile", "CREDITS", "MAINTAINERS", "COPYING", "README")}
    assert "# any kernel PKGBUILD\n" in text["Makefile"]
    for name, word in [("CREDITS", "gz"), ("MAINTAINERS", "xz"), ("COPYING", "zst"), ("README", "renamed")]:
        assert f"any: {word}\n" in text[name]
    before = {name: (tree / name).stat().st_mtime_ns for name in text}

    # no function names this file, no checksum pins it, and yet its edit counts
    patch = project.kernel / "0001-version.patch"
    patch.write_text(patch.read_text().replace("any kernel PKGBUILD", "another kernel PKGBUILD"))
    project.own()
    assert project.why("extract") == ["0001-version.patch changed (line 5)"]
    outcome, _ = project.run("extract", "patch")
    assert outcome.message == "no patches: the source as it is; prepare() changed 5 files"
    assert "# another kernel PKGBUILD\n" in (tree / "Makefile").read_text()
    after = {name: (tree / name).stat().st_mtime_ns for name in text}
    assert {name for name in text if before[name] != after[name]} == {"Makefile"}


def test_sources_of_one_architecture_and_their_checksums(shared: AnyProject) -> None:
    total = sha256((PKGBUILDS / "arches/x86.patch").read_bytes()).hexdigest()
    project = shared.use("arches", SUM=total)
    _, results = project.run("extract")
    assert results["sources"] == {f"{TOP}.tar.xz": "SKIP", "x86.patch": f"sha256:{total}"}
    project.run("patch")
    assert "any: x86\n" in (tree_of(project) / "COPYING").read_text()
    refused = shared.use("arches", SUM="0" * 64).refusal("extract")
    assert refused.message == "x86.patch does not have the sha256 sum that the PKGBUILD names"


def test_a_release_that_was_taken_too_early_is_told_before_anything_is_compiled(shared: AnyProject) -> None:
    project = shared.use("early")
    (project.home / "project/any.config").write_text('CONFIG_64BIT=y\nCONFIG_LOCALVERSION="-mine"\n')
    project.own()
    outcome, results = project.run("extract", "patch", "configure")
    release = results["kernelrelease"]
    assert release == "6.1.192-late-mine" or re.fullmatch(r"6\.1\.\d+-late-mine", release)
    early = (tree_of(project) / "version").read_text().strip()
    told = f"prepare() wrote {early} into version, and this kernel is {release}: what a package function takes from"
    assert early == release.removesuffix("-late-mine")
    assert [line for line in outcome.warnings if line.startswith(told)]


def test_options_that_prepare_sets_are_not_taken_silently(shared: AnyProject) -> None:
    project = shared.use("options")
    outcome, _ = project.run("extract", "patch")
    assert [line[: line.index(" makes")] for line in outcome.warnings if " makes a .config" in line] == [
        f"PKGBUILD:{number}: prepare()" for number in (18, 19, 20)
    ]
    tree = tree_of(project)
    assert not (tree / ".config").exists()
    project.run("configure")
    assert "CONFIG_IKCONFIG" not in (tree / ".config").read_text().replace("# CONFIG_IKCONFIG is not set", "")


def test_what_prepare_makes_beside_the_tree_is_there_for_build(shared: AnyProject) -> None:
    project = shared.use("scripts")
    _, results = project.run("extract", "patch")
    assert results["prepared"] == ["module"]
    module = project.srcdir_of("linux-scripts") / "module"
    assert (module / "any.c").read_text() == "int any;\n"
    assert (module / "Makefile").is_file()
    assert (tree_of(project) / "localversion.90-flavour").read_text() == "-scripts\n"
    # an edit of the file that the PKGBUILD sources runs prepare() again; what build() made there goes with its source
    (module / "any.o").write_text("object")
    functions = project.kernel / "functions.sh"
    functions.write_text(functions.read_text().replace('"-$_flavour"', '"-x$_flavour"'))
    project.own()
    project.run("extract", "patch")
    assert (tree_of(project) / "localversion.90-flavour").read_text() == "-xscripts\n"
    assert (module / "any.o").exists()
    project.pkgbuild.write_text(project.pkgbuild.read_text().replace("int any;", "int other;"))
    project.own()
    project.run("extract", "patch")
    assert (module / "any.c").read_text() == "int other;\n"
    assert not (module / "any.o").exists()
    # and a tmpfs that was lost
    shutil.rmtree(project.home / "work")
    project.run("extract", "patch")
    assert (module / "any.c").read_text() == "int other;\n"


def test_a_repository_at_a_tag_with_a_version_of_its_own(bare: AnyProject) -> None:
    upstream = bare.home / "usr/linux.git"
    upstream.mkdir()
    for name, text in TREE.items():
        (upstream / name).write_text(text)
    git(upstream, "init", "-q")
    git(upstream, "add", "-A")
    git(upstream, "commit", "-qm", "any")
    git(upstream, "tag", "-am", "any", "v6.1-any")
    (upstream / "init.c").write_text("int later;\n")
    git(upstream, "commit", "-qam", "later")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", upstream], check=True)
    project = bare.use("repository")
    _, extracted = project.run("extract")
    assert extracted["srctree"] == "linux"
    assert extracted["pkgver"] == "6.1.r0"
    project.run("patch")
    tree = project.srcdir_of("linux-repository") / "linux"
    assert (tree / "init.c").read_text() == TREE["init.c"]
    # kbuild would put the state of a repository into the release
    assert not (tree / ".git").exists()
    assert (tree / "localversion.10-any").read_text() == "-any\n"
    assert "pkgver=6.1.r0\n" in project.pkgbuild.read_text()


def test_a_signature_of_the_archive_before_it_was_compressed(bare: AnyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    rings = bare.home / "keys"
    for name in ("author", "other"):
        (rings / name).mkdir(parents=True, mode=0o700)
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}

    def gpg(ring: str, *argv: str | Path) -> str:
        command = ["gpg", "--homedir", rings / ring, "--batch", "--quiet", "--passphrase", "", *argv]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    try:
        gpg("author", "--quick-generate-key", "Any Kernel <any@localhost>", "ed25519", "sign", "never")
        listed = gpg("author", "--list-keys", "--with-colons")
        key = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
        source = bare.home / "usr" / TOP
        for name, text in TREE.items():
            source.mkdir(exist_ok=True)
            (source / name).write_text(text)
        archive = bare.home / f"usr/{TOP}.tar"
        subprocess.run(["tar", "-cf", archive, "-C", bare.home / "usr", TOP], check=True)
        gpg("author", "--detach-sign", "--output", f"{archive}.sign", archive)
        subprocess.run(["xz", "-0", archive], check=True)
        (rings / "key").write_text(gpg("author", "--armor", "--export", key))
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", rings], check=True)

        monkeypatch.setenv("GNUPGHOME", str(rings / "other"))
        refused = bare.use("signed", KEY=key).refusal("extract")
        assert refused.message == f"the signature of {TOP}.tar is by a key that is not in your keyring: {key[-16:]}"
        assert refused.hint == f"if that is the right author's key (validpgpkeys): gpg --recv-keys {key[-16:]}"

        monkeypatch.setenv("GNUPGHOME", str(rings / "author"))
        refused = bare.use("signed", KEY="0" * 40).refusal("extract")
        assert refused.message.startswith(
            f"the signature of {TOP}.tar is by key {key}, which validpgpkeys does not name"
        )

        outcome, results = bare.use("signed", KEY=key).run("extract")
        assert outcome.message == f"{TOP} verified and unpacked"
        assert results["sources"] == {f"{TOP}.tar.xz": "SKIP", f"{TOP}.tar.sign": "SKIP"}
    finally:
        for name in ("author", "other"):
            subprocess.run(["gpgconf", "--homedir", rings / name, "--kill", "all"], env=env, check=False)


# --- all of Linux, compiled and packaged -------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled() -> Iterator[AnyProject]:
    """The PKGBUILD "split", through every stage on the whole source: one unpacking, one compilation."""
    if not TARBALL.is_file():
        pytest.skip(f"{TARBALL} is not there (apt-get install linux-source-6.1)")
    home = new_home()
    (home / "usr" / TARBALL.name).symlink_to(TARBALL)
    project = AnyProject(home).use("split")
    project.outcome, _ = project.run("extract", "patch", "configure", "compile")  # type: ignore[attr-defined]
    yield project
    shutil.rmtree(home)


def names(package: Path) -> list[str]:
    return subprocess.run(["bsdtar", "-tf", package], check=True, capture_output=True, text=True).stdout.splitlines()


def info(package: Path) -> dict[str, str]:
    text = subprocess.run(["bsdtar", "-xOf", package, ".PKGINFO"], check=True, capture_output=True, text=True).stdout
    return dict(line.partition(" = ")[::2] for line in text.splitlines())


def test_split_packages_whose_functions_eval_made(compiled: AnyProject) -> None:
    outcome = compiled.outcome  # type: ignore[attr-defined]
    assert re.match(r"\d{3,} objects, all on n1", outcome.message)
    assert b"any kernel PKGBUILD: one" in (compiled.srcdir_of("linux-any") / TOP / "vmlinux").read_bytes()
    _, results = compiled.run("package")
    release = results["kernelrelease"]
    assert re.fullmatch(r"6\.1\.\d+-3-any", release)  # of localversion.10 and .20, and of no option
    artifacts = compiled.home / "project/artifacts"
    kernel, headers = (artifacts / f"linux-any{part}-6.1-3-x86_64.pkg.tar.zst" for part in ("", "-headers"))
    assert sorted(results["packages"]) == [kernel.name, headers.name]
    modules = f"usr/lib/modules/{release}"
    assert {".INSTALL", f"{modules}/vmlinuz", f"{modules}/pkgbase", f"{modules}/kernel/lib/crc7.ko"} <= set(
        names(kernel)
    )
    assert f"{modules}/build/version" in names(headers)
    assert ".INSTALL" not in names(headers)
    told = info(kernel)
    assert (told["pkgdesc"], told["provides"]) == ("The a kernel and modules", "KERNEL")
    assert info(headers)["pkgdesc"] == "Headers for the a kernel"
    manifest = read_json(artifacts / "manifest.json")
    assert manifest["kernelrelease"] == release

    # the packages' own files count for package alone; a description too
    (compiled.kernel / "linux-any.install").write_text("post_install() {\n  echo\n}\n")
    text = compiled.pkgbuild.read_text()
    compiled.pkgbuild.write_text(text.replace("pkgdesc='A kernel'", "pkgdesc='Another kernel'"))
    compiled.own()
    assert [stage for stage in ("extract", "patch", "configure", "compile") if compiled.why(stage)] == []
    assert len(compiled.why("package")) == 2
    compiled.run("package")
    assert info(kernel)["pkgdesc"] == "The another kernel and modules"


def test_another_pkgbuild_on_the_same_tree_compiles_what_its_prepare_changes(compiled: AnyProject) -> None:
    compiled.use("split").run("extract", "patch", "configure", "compile", "package")
    project = compiled.use("single")
    outcome, _ = project.run("extract", "patch", "configure", "compile")
    count = int(outcome.message.split()[0])
    assert 0 < count < 60, outcome.message  # it has no pkgrel in its name, and another depmod.sh: no object of the core
    jobs = [line for line in (project.home / "project/build/logs/compile.log").read_text().splitlines() if "-j" in line]
    assert not [line for line in jobs if "error" in line]
    _, results = project.run("package")
    release = results["kernelrelease"]
    assert re.fullmatch(r"6\.1\.\d+-any", release)
    package = project.home / "project/artifacts/linux-any-6.1-3-x86_64.pkg.tar.zst"
    assert sorted(results["packages"]) == [package.name]  # and the headers of the set before are gone
    assert not list(package.parent.glob("*-headers-*"))
    assert {".INSTALL", f"usr/lib/modules/{release}/vmlinuz"} <= set(names(package))
    script = subprocess.run(["bsdtar", "-xOf", package, ".INSTALL"], check=True, capture_output=True, text=True).stdout
    assert script == f"post_install() {{\n  echo '{release}'\n}}\n"
    assert sorted(os.listdir(project.kernel)) == [
        "0001-any.patch",
        "0002-more.patch.gz",
        "PKGBUILD",
        "config",
        "single.install",
    ]


def test_a_build_that_changes_the_config_is_refused_after_it_was_warned_of(compiled: AnyProject) -> None:
    project = compiled.use("single")
    text = project.pkgbuild.read_text()
    project.pkgbuild.write_text(text.replace("  make ${MAKEFLAGS}", "  echo CONFIG_X=y >> .config; :"))
    project.own()
    with pytest.raises(KbuildError, match=r"changed \.config"):
        project.run("extract", "patch", "configure", "compile")
    assert any("build() may change the .config" in line for line in project.plan()["compile"].warnings)
