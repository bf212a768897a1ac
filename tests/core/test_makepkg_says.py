"""makepkg's words of a source that it cannot fetch, verify or unpack."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.makepkg_says import explain

SAID = [
    (
        [
            "==> Verifying source file signatures with gpg...",
            "    linux.tar ... FAILED (unknown public key 38DBBDC86092693E)",
        ],
        "the signature of linux.tar is by a key that is not in your keyring: 38DBBDC86092693E",
    ),
    (
        ["    linux.tar ... FAILED (invalid public key 647F2865)"],
        "the signature of linux.tar is by key 647F2865, which validpgpkeys does not name",
    ),
    (
        ["    linux.tar ... FAILED (bad signature from public key 38DBBDC86092693E)"],
        "the signature of linux.tar is wrong: the file was changed after it was signed",
    ),
    (
        ["    linux.tar ... FAILED (the public key 38DBBDC86092693E is not trusted)"],
        "the signature of linux.tar is by a key that you do not trust: 38DBBDC86092693E",
    ),
    (["    linux.tar ... SIGNATURE NOT FOUND"], "linux.tar: signature not found"),
    (
        [
            "curl: (6) Could not resolve host: x.invalid",
            "==> ERROR: Failure while downloading https://x.invalid/linux.tar.xz",
        ],
        "https://x.invalid/linux.tar.xz could not be downloaded: curl: (6) Could not resolve host: x.invalid",
    ),
    (
        ["bsdtar: Error opening archive: Unrecognized archive format", "==> ERROR: Failed to extract linux.tar.xz"],
        "linux.tar.xz could not be unpacked: bsdtar: Error opening archive: Unrecognized archive format",
    ),
]


@pytest.mark.parametrize(("lines", "message"), SAID, ids=[s[1][:40] for s in SAID])
def test_explained(lines, message):
    told = explain(["==> Making package: x", "    config ... Passed", *lines, "    Aborting..."])
    assert told and told[0] == message


def test_nothing_to_explain():
    assert explain(["==> Making package: x", "    config ... Passed"]) is None
