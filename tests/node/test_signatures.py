"""Who may bring a kernel: signatures held against a keyring that the real pacman-key made, by the real gpg.

Packages are signed as makepkg --sign does it. Refused: none, a stranger's, of other bytes, by an expired or a revoked
key, by one that is known and not trusted, and an older build that was well signed once (a replay).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from .test_check import gpg, untouched
from .world import NEW, World

pytestmark = pytest.mark.real
STATE = "var/lib/kbuild-tasks/rollout"


class Keys:
    """Keyrings of whoever signs, and the node's own."""

    def __init__(self, node: World) -> None:
        self.node, self.ring, self.homes = node, node.path("etc/pacman.d/gnupg"), []  # type: ignore[var-annotated]
        self.ring.mkdir(mode=0o700)
        self.pacman_key("--init")

    def pacman_key(self, *words: str) -> None:
        done = subprocess.run(
            ["pacman-key", "--gpgdir", self.ring, "--config", self.node.path("etc/pacman.conf"), *words],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def make(self, name: str, *, at: str = "", expires: str = "never") -> Path:
        """A key of that name; at: made at that time."""
        home: Path = self.node.top / name
        home.mkdir(mode=0o700)
        self.homes.append(home)
        gpg(home, *faked(at), "--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", expires)
        return home

    def trust(self, home: Path, *, locally_signed: bool = True) -> None:
        public = home / "public.asc"
        public.write_text(gpg(home, "--armor", "--export"))
        self.pacman_key("--add", str(public))
        if locally_signed:
            self.pacman_key("--lsign-key", fingerprint(home))

    def close(self) -> None:
        for home in (*self.homes, self.ring):
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


def faked(at: str) -> tuple[str, ...]:
    return ("--faked-system-time", f"{at}!") if at else ()


def fingerprint(home: Path) -> str:
    listed = gpg(home, "--with-colons", "-k").splitlines()
    return next(line.split(":")[9] for line in listed if line.startswith("fpr"))


def sign(home: Path, package: Path, at: str = "") -> Path:
    gpg(home, *faked(at), "--yes", "--detach-sign", "--no-armor", "--output", f"{package}.sig", str(package))
    return package


@pytest.fixture
def keys(node: World) -> Iterator[Keys]:
    made = Keys(node)
    yield made
    made.close()


def test_only_what_a_trusted_key_signed_is_installed(node: World, keys: Keys) -> None:
    builder, stranger, known, revoked = (keys.make(name) for name in ("builder", "stranger", "known", "revoked"))
    keys.trust(builder)
    keys.trust(known, locally_signed=False)
    keys.trust(revoked)
    certificate = next((revoked / "openpgp-revocs.d").glob("*.rev"))
    certificate.write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
    keys.pacman_key("--add", str(certificate))
    package = node.package()
    build = node.stage(package)
    assert "has no signature" in untouched(node, build, "signature", signed=1)
    for home in (stranger, known, revoked):
        sign(home, package)
        node.stage(package)
        for verb in ("check", "install"):
            assert "does not trust" in untouched(node, build, "signature", verb, signed=1), home.name
    other = node.top / "other"
    other.write_bytes(package.read_bytes() + b"x")
    sign(builder, other)
    shutil.copy(f"{other}.sig", f"{package}.sig")
    node.stage(package)
    assert "does not trust" in untouched(node, build, "signature", signed=1)
    sign(builder, package)
    node.stage(package)
    assert node.good("check", build=build, signed=1)["signed"] is True
    node.good("install", build=build, signed=1)
    # the same in the words of the one who has root there, whatever the coordinator asks for
    Path(f"{package}.sig").unlink()
    node.path(f"{STATE}/stage/{build}/{package.name}.sig").unlink()
    node.write("etc/kbuild-tasks/require-signature", "")
    for values in ({}, {"signed": 0}):
        assert "has no signature" in untouched(node, build, "signature", **values)


def test_a_key_that_expired_since_it_signed(node: World, keys: Keys) -> None:
    home = keys.make("builder", expires="1d")
    keys.trust(home)
    build = node.stage(sign(home, node.package()))
    node.good("check", build=build, signed=1)
    there, later = shutil.which("gpg"), (datetime.now(UTC) + timedelta(days=2)).strftime("%Y%m%dT%H%M%S")
    node.stand_in("gpg", f'exec {there} --faked-system-time {later}! "$@"')  # the day after tomorrow
    for verb in ("check", "install"):
        assert "does not trust" in untouched(node, build, "signature", verb, signed=1)
    good = keys.make("another")  # and it is that key's day alone that is over
    keys.trust(good)
    node.good("check", build=node.stage(sign(good, node.package())), signed=1)


def test_off_does_not_look_but_roots_own_file_stands_above_it(node: World, keys: Keys) -> None:
    package = sign(keys.make("stranger"), node.package())
    build = node.stage(package)
    untouched(node, build, "signature")
    assert node.good("check", build=build, signed=0)["signed"] is False
    node.write("etc/kbuild-tasks/require-signature", "")
    untouched(node, build, "signature", signed=0)


def commit(node: World, build: str, release: str, build_id: str) -> None:
    node.good("install", build=build, signed=1)
    node.good("bootfiles", build=build)
    node.good("arm", build=build, panic=5)
    node.boots()
    node.runs(release, build_id)
    node.good("commit", build=build)


def test_an_older_build_is_not_brought_again(node: World, keys: Keys) -> None:
    builder = keys.make("builder", at="20260101T000000")
    keys.trust(builder)
    old = sign(builder, node.package("6.1.1-bad", version="6.1.1-1", content=b"1"), "20260201T000000")
    new = sign(builder, node.package(NEW, content=b"2"), "20260301T000000")
    first = node.stage(old, release="6.1.1-bad", build_id="1" * 40)
    second = node.stage(new, build_id="2" * 40)
    node.good("check", build=first, signed=1)
    node.good("check", build=second, signed=1)
    assert node.good("check", build=first, signed=1), "nothing newer is known-good yet"
    commit(node, second, NEW, "2" * 40)
    for verb in ("check", "install"):
        told = untouched(node, first, "signature", verb, signed=1)
        assert "signed on 2026-02-01 00:00 UTC, before its known-good one (2026-03-01 00:00 UTC)" in told
    node.write("etc/kbuild-tasks/require-signature", "")
    untouched(node, first, "signature")
    node.good("check", build=second)  # the same one again is no replay
    sign(builder, old, "20260401T000000")  # wanted all the same, and signed anew
    node.stage(old, release="6.1.1-bad", build_id="1" * 40)
    commit(node, first, "6.1.1-bad", "1" * 40)
    untouched(node, second, "signature")


def test_a_damaged_record_of_the_newest_is_told(node: World, keys: Keys) -> None:
    builder = keys.make("builder")
    keys.trust(builder)
    build = node.stage(sign(builder, node.package()))
    for bad in ("x\n", "\n", "-1\n", "9" * 40 + "\n"):
        node.write(f"{STATE}/newest-signature", bad)
        untouched(node, build, "state", signed=1)
