from __future__ import annotations

from hashlib import sha256

import pytest

from kbuild_tasks.core.manifest import Package, build_manifest, packages_sha256, superseded

A = Package("a.pkg.tar.zst", "a", "1" * 64, 10)
B = Package("b.pkg.tar.zst", "b", "2" * 64, 20, "b.pkg.tar.zst.sig")


def test_packages_sha256_is_what_sha256sum_would_print_hashed():
    text = f"{'1' * 64}  a.pkg.tar.zst\n{'2' * 64}  b.pkg.tar.zst\n"
    assert packages_sha256([B, A]) == packages_sha256([A, B]) == sha256(text.encode()).hexdigest()


def test_manifest():
    receipts = {
        "configure": {"inputs": {"values": {"compiler": "old"}}},
        "compile": {"inputs": {"values": {"compiler": "gcc 12"}}, "results": {"build_id": "c0ffee"}},
        "package": {"inputs": {"values": {"stale": 1}}},
    }
    made = build_manifest([B, A], "6.1", receipts, package_inputs={"x": 1}, nodes={"n1": 7}, commit="abc")
    assert made == {
        "version": 1,
        "build_id": "c0ffee",
        "packages_sha256": packages_sha256([A, B]),
        "kernelrelease": "6.1",
        "packages": [
            {"file": "a.pkg.tar.zst", "pkgname": "a", "sha256": "1" * 64, "size": 10},
            {
                "file": "b.pkg.tar.zst",
                "pkgname": "b",
                "sha256": "2" * 64,
                "size": 20,
                "signature": "b.pkg.tar.zst.sig",
            },
        ],
        "inputs": {
            "configure": {"values": {"compiler": "old"}},
            "compile": {"values": {"compiler": "gcc 12"}},
            "package": {"x": 1},
        },
        "compiler": "gcc 12",
        "nodes": {"n1": 7},
        "commit": "abc",
        "reproduce": "git checkout abc && doit package",
    }


@pytest.mark.parametrize(
    ("old", "gone"),
    [
        (None, []),
        ([], []),
        ({}, []),
        ({"packages": [{"file": "a.pkg.tar.zst"}]}, []),
        ({"packages": [{"file": "0.pkg.tar.zst", "signature": "0.pkg.tar.zst.sig"}, {"file": "b.pkg.tar.zst"}]},
         ["0.pkg.tar.zst", "0.pkg.tar.zst.sig"]),
        ({"packages": [{"file": "../../etc/passwd"}, {"file": ".."}, {"file": "/etc/passwd"}]}, []),
    ],
)  # fmt: skip
def test_superseded(old, gone):
    assert superseded(old, [A, B]) == gone
