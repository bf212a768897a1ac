"""Files, accounts and terminals that are not as one expects: told in a sentence, and nobody's files are harmed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import files
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.tree_git import Git
from kbuild_tasks.plugin.clean import clean
from kbuild_tasks.plugin.stream import Guarded

NOBODY = 65534


def as_nobody(root: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """doit as an ordinary user to whom the project belongs."""
    if os.geteuid() != 0:
        pytest.skip("wants root, to be somebody else")
    for directory, names, leaves in os.walk(root):
        for name in ["", *names, *leaves]:
            os.chown(os.path.join(directory, name), NOBODY, NOBODY)
    for parent in root.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    told = {key: value for key, value in {**os.environ, **env}.items() if value != "unset"}
    return subprocess.run(
        [sys.executable, "-m", "doit", *args], cwd=root, env=told, capture_output=True, text=True, user=NOBODY,
        group=NOBODY, extra_groups=[],
    )  # fmt: skip


def test_clean_leaves_the_users_files_in_artifacts(built) -> None:
    artifacts = built.root / "artifacts"
    artifacts.mkdir(exist_ok=True)
    for name in ("linux-1.pkg.tar.zst", "linux-1.pkg.tar.zst.sig", "NOTES.txt", "older.pkg.tar.zst"):
        (artifacts / name).write_text("x")
    kept = ["NOTES.txt", "a directory", "older.pkg.tar.zst"]
    (artifacts / "a directory").mkdir()
    ours = {"file": "linux-1.pkg.tar.zst", "signature": "linux-1.pkg.tar.zst.sig"}
    paths = Paths(built.root, built.root / "work", built.root / "work.state")
    all_of_it = sorted(path.name for path in artifacts.iterdir())
    for bad in ("..", ".", "", "../cluster.yaml", 5, "a/b", ["x"]):
        for entry in ({**ours, "file": bad}, {**ours, "signature": bad}, bad):
            (artifacts / "manifest.json").write_text(json.dumps({"packages": [ours, entry]}))
            clean(paths, "package", dryrun=False)
            assert sorted(path.name for path in artifacts.iterdir()) == all_of_it, entry
            assert (built.root / "cluster.yaml").exists()
    (artifacts / "manifest.json").write_text(json.dumps({"packages": [ours, {"file": "a directory"}]}))
    built.doit("clean", "package")
    assert sorted(path.name for path in artifacts.iterdir()) == kept
    (artifacts / "manifest.json").write_text("{ torn")
    built.doit("clean", "package")
    assert sorted(path.name for path in artifacts.iterdir()) == kept


@pytest.mark.parametrize("command", [("list",), ("plan",), ("status",), ("info", "patch")])
def test_a_patch_that_cannot_be_read(built, command) -> None:
    patch = built.root / "patches/b.patch"
    as_nobody(built.root, "list")
    os.chown(patch, 0, 0)
    patch.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-m", "doit", *command], cwd=built.root, capture_output=True, text=True, user=NOBODY,
        group=NOBODY, extra_groups=[],
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    if command == ("plan",):
        assert "b.patch: Permission denied" in done.stdout and "hint: ls -ld" in done.stdout


def test_nowhere_to_write(built) -> None:
    """build/ is somebody else's: what is only remembered there is asked again."""
    built.edit("kernel/PKGBUILD", "pkgver=6.1", "pkgver=6.2")
    as_nobody(built.root, "list")
    for path in (built.root / "build", *(built.root / "build").rglob("*")):
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
    for command in (("list",), ("plan",), ("forget", "patch")):
        done = subprocess.run(
            [sys.executable, "-m", "doit", *command], cwd=built.root, capture_output=True, text=True, user=NOBODY,
            group=NOBODY, extra_groups=[],
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr, (command, done.stderr)
    assert "Permission denied" in done.stderr and done.returncode == 1


def test_no_account_and_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 4242424)
    with pytest.raises(KbuildError, match="uid 4242424 has no account, and HOME is not set"):
        files.home()
    monkeypatch.setenv("HOME", "/srv/h")
    assert files.home() == "/srv/h"


def test_a_terminal_of_another_encoding() -> None:
    raw = io.BytesIO()
    stream = Guarded(io.TextIOWrapper(raw, encoding="iso-8859-9"))
    stream.write("error: \u2018x\u2019 undeclared \u015f\n")
    stream.flush()
    assert raw.getvalue() == b"error: \\u2018x\\u2019 undeclared \xfe\n"


def test_modes_in_the_tree_are_none_of_the_callers(tmp_path: Path) -> None:
    git = Git(tmp_path / "repo.git")
    (tmp_path / "repo.git").mkdir()
    git.create()
    for mask in (0o077, 0o002):
        before = os.umask(mask)
        try:
            worktree = tmp_path / f"tree{mask}"
            worktree.mkdir()
            blob = git("hash-object", "-w", "--stdin", stdin=b"text\n").out.strip().decode()
            tree = git("mktree", stdin=f"100644 blob {blob}\tfile\n".encode()).out.strip().decode()
            there = Git(tmp_path / "repo.git", tmp_path / f"index{mask}", worktree)
            there("read-tree", tree)
            there("checkout-index", "-a")
        finally:
            os.umask(before)
        assert (worktree / "file").stat().st_mode & 0o777 == 0o644


def test_the_project_is_where_its_cluster_yaml_stands(bench, tmp_path: Path) -> None:
    """Also where that is a link to another project's."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "dodo.py").write_bytes((bench.root / "dodo.py").read_bytes())
    (other / "cluster.yaml").symlink_to(bench.root / "cluster.yaml")
    done = subprocess.run([sys.executable, "-m", "doit", "list"], cwd=other, capture_output=True, text=True)
    assert "there is no file kernel/PKGBUILD" in done.stdout + done.stderr
    assert not (bench.root / "build").exists()
