"""package with the real makepkg: the packages, their bytes, their manifest, their signatures, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from hashlib import sha256

import pytest

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.effects import makepkg, pacman, published
from kbuild_tasks.effects.files import sha256_text
from kbuild_tasks.effects.pkgbuild import load_pkgbuild
from kbuild_tasks.stages import extract, package
from tests.makepkg_world import PKGBUILD, new_world

pytestmark = pytest.mark.real
RELEASE = "6.1.1-1"
VMLINUX = sha256_text("kernel")
KERNEL = "linux-small-6.1.1-1-x86_64.pkg.tar.zst"
HEADERS = "linux-small-headers-6.1.1-1-x86_64.pkg.tar.zst"


def _built(world):
    """What the stages before package leave, by the real makepkg: sources, prepare(), build()."""
    extracted = extract.run(world.context("extract")).results
    for function in ("prepare", "build"):
        makepkg.run_function(
            world.paths,
            function,
            pkgbuild=world.pkgbuild,
            arch="x86_64",
            env=makepkg.environment(),
            jobs=2,
            log=world.paths.log(function),
        )
    return extracted


@pytest.fixture(scope="module")
def built():
    for world in new_world():
        world.extracted = world.run(_built, world)
        yield world


@pytest.fixture
def world(built):
    built.build.clear()
    built.write()
    built.run(shutil.rmtree, built.paths.artifacts, True)
    return built


def _vmlinux(world, place):
    (world.paths.builddir / place / "vmlinux").write_text("kernel")


def run(world, release=RELEASE, kernel=VMLINUX):
    place = f"{world.extracted['pkgbase']}/src/{world.extracted['srctree']}"
    compiled = {
        "results": {"kernelrelease": release, "build_id": "c0ffee", "tree": place, "vmlinux_sha256": kernel},
        "inputs": {"values": {"compiler": {"version": "12"}}},
    }
    context = world.context("package", extract=world.extracted)
    context.receipts["compile"] = compiled
    world.run(_vmlinux, world, place)
    return world.run(package.run, context)


def refusal(world, kind=CommandFailed, **options):
    with pytest.raises(kind) as raised:
        run(world, **options)
    assert not world.paths.artifacts.exists()
    return raised.value


def content(world, name):
    listed = subprocess.run(["bsdtar", "-tf", world.paths.artifacts / name], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.split() if not line.endswith("/")]


def test_packages_and_manifest(world):
    outcome = run(world)
    artifacts = world.paths.artifacts
    assert outcome.message == f"{KERNEL} and 1 more"
    assert sorted(os.listdir(artifacts)) == [KERNEL, HEADERS, "manifest.json"]
    assert [name for name in content(world, KERNEL) if name.startswith("usr")] == [
        "usr/lib/modules/6.1.1-1/mod.ko",
        "usr/lib/modules/6.1.1-1/vmlinuz",
    ]
    manifest = json.loads((artifacts / "manifest.json").read_text())
    for entry in manifest["packages"]:
        data = (artifacts / entry["file"]).read_bytes()
        assert (entry["sha256"], entry["size"]) == (sha256(data).hexdigest(), len(data))
        assert outcome.results["packages"][entry["file"]] == entry["sha256"]
    assert [e["pkgname"] for e in manifest["packages"]] == ["linux-small", "linux-small-headers"]
    assert manifest["kernelrelease"] == RELEASE
    assert manifest["compiler"] == {"version": "12"}
    assert manifest["build_id"] == outcome.results["build_id"] == "c0ffee"
    assert manifest["packages_sha256"] == outcome.results["packages_sha256"]
    assert set(manifest["inputs"]) == {"extract", "compile", "package"}
    assert manifest["reproduce"] == "doit package"
    assert list(package.lost(world.paths, outcome.results)) == []
    (artifacts / HEADERS).unlink()
    assert list(package.lost(world.paths, outcome.results)) == [f"artifacts/{HEADERS} is not there"]


def test_equal_inputs_are_equal_bytes(world):
    first = run(world).results
    world.run(shutil.rmtree, world.paths.artifacts)
    world.run(os.utime, world.pkgbuild, (1, 1))
    assert run(world).results == first


def test_the_set_before_is_removed_and_nothing_else(world):
    run(world)
    (world.paths.artifacts / "mine.txt").write_text("kept")
    world.write(PKGBUILD.replace("pkgname=(linux-small linux-small-headers)", "pkgname=(linux-small)"))
    run(world)
    assert sorted(os.listdir(world.paths.artifacts)) == [KERNEL, "manifest.json", "mine.txt"]


def test_pkgdesc_is_in_the_package(world):
    world.write(PKGBUILD.replace("A small kernel", "Another"))
    run(world)
    said = subprocess.run(
        ["bsdtar", "-xOf", world.paths.artifacts / KERNEL, ".PKGINFO"], capture_output=True, text=True, check=True
    )
    assert "pkgdesc = Another\n" in said.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("modules_install\n", "nosuchtarget\n", "package_linux-small() of the PKGBUILD failed"),
        ("pkgrel=1", "pkgrel=1\ninstall=nosuch.install", "makepkg: install file (nosuch.install) does not exist"),
    ],
)
def test_refused_by_makepkg(world, old, new, message):
    world.write(PKGBUILD.replace(old, new))
    error = refusal(world)
    assert error.message.startswith(message)
    assert error.log
    if "PKGBUILD" in message:
        assert error.hint == "read the log, correct package_linux-small() of the PKGBUILD, then doit"
        assert not [line for line in error.evidence if line.startswith("==> Starting")]


def test_modules_of_another_kernel(world):
    error = refusal(world, KbuildError, release="6.1.1-2")
    assert error.message == f"{KERNEL} holds modules of 6.1.1-1, and compile made 6.1.1-2"


def test_no_modules_at_all(world):
    world.write(
        PKGBUILD.replace('make INSTALL_MOD_PATH="$pkgdir/usr" modules_install', ":").replace(
            "install -Dm644", ": install"
        )
    )
    assert refusal(world, KbuildError).message.startswith("none of the packages holds usr/lib/modules/6.1.1-1")


def test_unmet_dependencies_without_a_repository_are_said(world):
    if not shutil.which("pacman-conf") or subprocess.run(["pacman-conf", "--repo-list"], capture_output=True).stdout:
        pytest.skip("pacman has repositories here")
    world.write(PKGBUILD.replace("pkgrel=1", "pkgrel=1\nmakedepends=(nosuch-tool 'bc>=1')"))
    warnings = run(world).warnings
    assert len(warnings) == 1
    assert "knows nothing of nosuch-tool, bc>=1: not checked" in warnings[0]


def test_signed(world):
    gnupg = world.home / ".gnupg"
    world.run(gnupg.mkdir, 0o700, True, True)
    try:
        world.run(
            subprocess.check_call,
            ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "test@localhost", "ed25519", "sign"],
        )
        listed = world.run(subprocess.check_output, ["gpg", "--list-secret-keys", "--with-colons"]).decode()
        key = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        world.build["sign_key"] = key
        run(world)
        for name in (KERNEL, HEADERS):
            world.run(subprocess.check_call, ["gpg", "--quiet", "--verify", world.paths.artifacts / f"{name}.sig"])
        entries = json.loads((world.paths.artifacts / "manifest.json").read_text())["packages"]
        assert [e["signature"] for e in entries] == [f"{KERNEL}.sig", f"{HEADERS}.sig"]
        world.build.clear()
        run(world)
        assert sorted(os.listdir(world.paths.artifacts)) == [KERNEL, HEADERS, "manifest.json"]
        world.build["sign_key"] = "0" * 40
        with pytest.raises(CommandFailed, match=f"the secret key {'0' * 40} is not in this user's keyring"):
            run(world)
    finally:
        world.run(subprocess.check_call, ["gpgconf", "--kill", "all"])


def test_explained_dependencies():
    lines = [
        "==> Checking buildtime dependencies...",
        "==> Installing missing dependencies...",
        "error: target not found: nosuch-tool",
        "==> ERROR: 'pacman' failed to install missing dependencies.",
        "==> Missing dependencies:",
        "  -> nosuch-tool",
        "  -> bc",
        "==> ERROR: Could not resolve all dependencies.",
    ]
    assert package.explain(lines) == (
        "the PKGBUILD needs nosuch-tool bc, and pacman could not install it",
        "sudo pacman -Sy --asdeps nosuch-tool bc",
    )
    asked = package.explain([*lines, "sudo: a password is required"])
    assert asked and asked[0] == "the PKGBUILD needs nosuch-tool bc, and sudo asks for a password"


def test_without_pacman_dependencies_are_not_checked(tmp_path, monkeypatch):
    path = tmp_path / "PKGBUILD"
    path.write_text(PKGBUILD.replace("pkgrel=1", "pkgrel=1\ndepends=(kmod)"))
    pkgbuild = load_pkgbuild(path, tmp_path / "c.json", "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pacman.dependency_options(pkgbuild) == (
        ("--nodeps",),
        ("pacman is not installed: kmod were not checked",),
    )


def test_root_is_refused(world):
    if os.geteuid() != 0:
        pytest.skip("not root")
    with pytest.raises(KbuildError, match="packages are never built as root"):
        package.run(world.context("package"))


def test_a_kernel_that_compile_did_not_make_is_not_packaged(world):
    """Another project has built in the same tree since, say."""
    error = refusal(world, KbuildError, kernel=sha256_text("another"))
    assert error.message.endswith("vmlinux is not the one that compile made")
    assert error.hint == "run: doit forget compile, and doit again"


def test_the_last_two_sets_are_kept_to_be_compared(world):
    world.run(shutil.rmtree, world.paths.build / "published", True)
    first = run(world).results
    now, before = published.now(world.paths), published.before(world.paths)
    assert not before.exists()
    told = json.loads(now.read_text())
    assert told["manifest"]["packages_sha256"] == first["packages_sha256"]
    assert sorted(told["files"]["linux-small"]) == [
        "usr/lib/modules/6.1.1-1/mod.ko",
        "usr/lib/modules/6.1.1-1/vmlinuz",
    ]
    size, digest = told["files"]["linux-small"]["usr/lib/modules/6.1.1-1/vmlinuz"]
    assert size > 0 and len(digest) == 16
    assert run(world).results == first
    assert not before.exists(), "the same bytes once more are no other set"
    world.write(PKGBUILD.replace("pkgname=(linux-small linux-small-headers)", "pkgname=(linux-small)"))
    run(world)
    assert json.loads(before.read_text()) == told
    assert list(json.loads(now.read_text())["files"]) == ["linux-small"]
    now.unlink()
    world.run(now.mkdir)  # what stands in the way costs the comparison, not the packages
    outcome = run(world)
    assert [text for text in outcome.warnings if "cannot be compared" in text]
    world.run(now.rmdir)
