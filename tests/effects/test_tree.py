"""Trees on a real git and a fake kernel: import, apply, read; nothing of the user's git reaches it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.patchfile import text
from kbuild_tasks.core.patchparse import parse_patch
from kbuild_tasks.effects.tree import OLD_TIME, DoesNotApply, Trees
from tests.fake_tree import FILES, as_found, new_place, read_tree, write_tree

place = pytest.fixture(new_place)


@pytest.fixture
def trees(place: Path) -> Trees:
    return Trees(place / "repo.git")


@pytest.fixture
def base(trees: Trees, place: Path) -> str:
    return trees.import_directory(write_tree(place / "linux"))


def rounds(*patches: bytes) -> list[tuple[str, bytes]]:
    found = []
    for number, data in enumerate(patches, start=1):
        found += [(f"{number}.patch", text(files)) for files in parse_patch(f"{number}.patch", data).rounds()]
    return found


def edit(path: str, old: str, new: str) -> bytes:
    return f"--- a/{path}\n+++ b/{path}\n@@ -1,1 +1,1 @@\n-{old}\n+{new}\n".encode()


FORK = b"--- a/kernel/fork.c\n+++ b/kernel/fork.c\n@@ -1,2 +1,2 @@\n-int fork;\n+int spoon;\n int forked;\n"


def test_import_takes_everything_as_it_is(trees, base):
    assert trees.files(base) == sorted(FILES, key=os.fsencode)
    for path, content in FILES.items():
        assert trees.read(base, path) == content
    assert trees.read(base, "kernel") is None
    assert trees.read(base, "no/such") is None


def test_the_id_of_a_tree_is_its_content_on_every_machine(trees, base, place):
    # git add and git write-tree of the same files, done apart from this code
    assert base == Trees(place / "other.git").import_directory(write_tree(place / "elsewhere"))
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    plain = write_tree(place / "plain", {k: v for k, v in FILES.items() if k not in (".gitattributes",)})
    for command in (["init", "-q"], ["add", "-A", "-f"], ["write-tree"]):
        out = subprocess.run(["git", *command], cwd=plain, env=env, check=True, capture_output=True, text=True).stdout
    without = rounds(b"diff --git a/.gitattributes b/.gitattributes\ndeleted file mode 100644\n--- a/.gitattributes\n"
                     b"+++ /dev/null\n@@ -1,2 +0,0 @@\n-*.c diff=cpp\n-*.txt text eol=crlf\n")  # fmt: skip
    assert trees.apply(base, without) == out.strip()


def test_nothing_of_the_callers_git_comes_in_and_nothing_goes_out(trees, place, monkeypatch):
    hook = place / "hooks" / "post-index-change"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {place}/hooked\n".replace(str(place), f"'{place}'"))
    hook.chmod(0o755)
    config = place / "config"
    config.write_text(f'[core]\n\thooksPath = "{hook.parent}"\n\tautocrlf = true\n\texcludesFile = "{place}/ignore"\n')
    (place / "ignore").write_text("*\n")
    monkeypatch.setenv("GIT_DIR", str(place / "users.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(place))
    monkeypatch.setenv("GIT_INDEX_FILE", str(place / "users.index"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(place / "users.objects"))
    monkeypatch.setenv("HOME", str(place))
    (place / ".gitconfig").write_text(config.read_text())
    before = dict(os.environ)
    base = trees.import_directory(write_tree(place / "linux"))
    new = trees.apply(base, rounds(FORK))
    trees.move(place / "linux", new)
    assert trees.read(base, "Documentation/win.txt") == b"one\r\ntwo\r\n"
    assert read_tree(place / "linux") == as_found({**FILES, "kernel/fork.c": b"int spoon;\nint forked;\n"})
    made = {p.name for p in place.iterdir()} - {"repo.git", "linux", "hooks", "config", "ignore", ".gitconfig"}
    assert made == set()
    assert not list((place / "linux").rglob(".git"))
    assert dict(os.environ) == before


def test_series_adds_deletes_renames_copies_modes_and_binaries(trees, base, place):
    git = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    after = {
        **{k: v for k, v in FILES.items() if k not in ("fs/ext4/xattr.h", "kernel/fork.c")},
        "kernel/spoon.c": FILES["kernel/fork.c"] + b"int spoon;\n",
        "drivers/new dir/tab\there.c": b"int tab;\n",
        "drivers/ä.c": b"",
        "lib/logo.bin": bytes(range(255, -1, -1)),
        "lib/other.bin": b"\0\1\2",
        "lib/last": b"newline\n",
        "Documentation/win.txt": b"one\r\nTWO\r\n",
        "kernel/sched/fair.c": FILES["kernel/sched/fair.c"].replace(b"fair_7;", b"seven;"),
    }
    repo = write_tree(place / "made")
    call = {"cwd": repo, "env": git, "check": True, "capture_output": True}
    subprocess.run(["git", "init", "-q"], **call)
    (repo / ".git/info/attributes").write_text("* -text\n")
    subprocess.run(["git", "add", "-A", "-f"], **call)
    old = subprocess.run(["git", "write-tree"], **call).stdout.decode().strip()
    for path in FILES:
        (repo / path).unlink()
    write_tree(repo, after)
    (repo / "kernel/spoon.c").chmod(0o755)
    subprocess.run(["git", "add", "-A", "-f"], **call)
    diff = subprocess.run(["git", "diff", "--cached", "--binary", "--full-index", "-M", old], **call).stdout
    assert b"rename from kernel/fork.c" in diff
    new = trees.apply(base, rounds(diff))
    expected = as_found(after)
    expected["kernel/spoon.c"] = ("100755", after["kernel/spoon.c"])
    trees.move(place / "build", new)
    assert read_tree(place / "build") == expected
    assert ("D", "fs/ext4/xattr.h") in trees.changed(base, new)
    assert ("A", "drivers/new dir/tab\there.c") in trees.changed(base, new)
    assert ("M", "lib/last") in trees.changed(base, new)


def test_a_plain_diff_from_an_empty_side_makes_the_file_or_fills_it(trees, base):
    data = b"--- a/new.c\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n"
    new = trees.apply(base, rounds(data))
    assert trees.read(new, "new.c") == b"x\n"
    empty = trees.apply(base, rounds(b"diff --git a/new.c b/new.c\nnew file mode 100644\nindex 0000000..e69de29\n"))
    assert trees.apply(empty, rounds(data)) == new


def test_one_file_changed_by_several_mails_and_patches_in_turn(trees, base):
    first = FORK + FORK.replace(b"-int fork;\n+int spoon;", b"-int spoon;\n+int knife;")
    second = b"diff --git a/kernel/fork.c b/kernel/k.c\nrename from kernel/fork.c\nrename to kernel/k.c\n"
    third = FORK.replace(b"fork.c", b"k.c").replace(b"-int fork;\n+int spoon;", b"-int knife;\n+int plate;")
    fourth = b"--- a/kernel/k.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-int plate;\n-int forked;\n"
    fifth = b"--- /dev/null\n+++ b/kernel/k.c\n@@ -0,0 +1 @@\n+again\n"
    assert trees.read(trees.apply(base, rounds(first, second, third)), "kernel/k.c") == b"int plate;\nint forked;\n"
    assert trees.read(trees.apply(base, rounds(first, second, third, fourth, fifth)), "kernel/k.c") == b"again\n"


def test_offsets_are_taken_fuzz_is_not(trees, base):
    hunk = b"@@ -%d,3 +%d,3 @@\n int fair_20;\n-int fair_21;\n+int moved;\n int fair_22;\n"
    head = b"--- a/kernel/sched/fair.c\n+++ b/kernel/sched/fair.c\n"
    new = trees.apply(base, rounds(head + hunk % (40, 40)))
    assert b"int fair_20;\nint moved;\nint fair_22;\n" in trees.read(new, "kernel/sched/fair.c")
    with pytest.raises(DoesNotApply):
        trees.apply(base, rounds(head + (hunk % (20, 20)).replace(b"fair_20", b"fair_xx")))


def test_which_of_several_fails_and_the_tree_before_it(trees, base):
    good = edit("kernel/Kconfig", "config FAIR", "config UNFAIR").replace(b"@@ -1,1 +1,1 @@", b"@@ -1,2 +1,2 @@")
    good += b" \tbool\n"
    bad = edit("fs/ext4/inode.c", "int nothing;", "int x;")
    with pytest.raises(DoesNotApply) as failed:
        trees.apply(base, rounds(good, FORK, bad, FORK))
    assert (failed.value.name, failed.value.position) == ("3.patch", 2)
    assert failed.value.before == trees.apply(base, rounds(good, FORK))
    assert any("fs/ext4/inode.c" in line for line in failed.value.said)
    assert not failed.value.reverses
    with pytest.raises(DoesNotApply) as failed:
        trees.apply(base, rounds(FORK, FORK))
    assert (failed.value.position, failed.value.reverses) == (1, True)
    assert not list((trees.repository / "scratch").iterdir())


def test_no_way_out_of_the_tree_by_a_symbolic_link(trees, base, place):
    link = b"diff --git a/out b/out\nnew file mode 120000\n--- /dev/null\n+++ b/out\n@@ -0,0 +1 @@\n+%s\n"
    link = link % os.fsencode(place) + b"\\ No newline at end of file\n"
    through = b"--- /dev/null\n+++ b/out/victim\n@@ -0,0 +1 @@\n+x\n"
    with pytest.raises(DoesNotApply):
        trees.apply(base, rounds(link, through))
    assert not (place / "victim").exists()


def test_no_patches_no_work(trees, base):
    assert trees.apply(base, []) == base


def test_times_in_the_future_are_taken_back(trees, place):
    top = write_tree(place / "linux")
    ahead = time.time() + 86400
    os.utime(top / "Makefile", (ahead, ahead))
    trees.import_directory(top)
    assert (top / "Makefile").stat().st_mtime == OLD_TIME


def test_a_repository_inside_of_the_source_is_refused_and_one_at_its_top_is_not_taken(trees, place):
    top = write_tree(place / "linux")
    subprocess.run(["git", "init", "-q"], cwd=top, check=True)
    assert ".git/HEAD" not in trees.files(trees.import_directory(top))
    inner = top / "drivers" / "vendor"
    inner.mkdir(parents=True)
    (inner / "x.c").write_text("int x;\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=inner, check=True)
    with pytest.raises(KbuildError, match=r"drivers/vendor is a git repository inside of the source"):
        trees.import_directory(top)


def test_an_unknown_tree_and_one_that_is_no_repository(trees, base, place):
    nowhere = "0" * 39 + "1"
    assert trees.has(base)
    assert not trees.has(nowhere)
    assert not Trees(place / "none.git").has(base)
    with pytest.raises(KbuildError, match="is damaged"):
        trees.apply(nowhere, rounds(FORK))
    (place / "taken").mkdir()
    (place / "taken" / "thesis.tex").write_text("x")
    with pytest.raises(KbuildError, match="is in the way: it is not a repository of ours"):
        Trees(place / "taken").import_directory(place / "linux")
    assert [p.name for p in (place / "taken").iterdir()] == ["thesis.tex"]


def loose(trees: Trees, tree: str, path: str) -> Path:
    import hashlib

    content = trees.read(tree, path)
    assert content is not None
    name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return trees.repository / "objects" / name[:2] / name[2:]


@pytest.mark.parametrize("damage", ["empty", "cut", "gone"])
def test_damage_is_told_with_what_to_delete(trees, base, place, damage):
    new = trees.apply(base, rounds(FORK))
    for tree, path in ((base, "kernel/fork.c"), (base, "fs/ext4/inode.c"), (new, "kernel/fork.c")):
        file = loose(trees, tree, path)
        file.chmod(0o644)
        data = file.read_bytes()
        file.unlink()
        if damage != "gone":
            file.write_bytes(b"" if damage == "empty" else data[:9])
    for act in (
        lambda: trees.apply(base, rounds(edit("fs/ext4/inode.c", "int inode;", "int x;"))),
        lambda: trees.move(place / "build", new),
        lambda: trees.read(base, "kernel/fork.c"),
    ):
        with pytest.raises(KbuildError) as told:
            act()
        assert told.value.message == f"the repository of source trees {trees.repository} is damaged"
        assert f"rm -rf {trees.repository}" in (told.value.hint or "").replace("'", "")
        assert told.value.evidence


def test_a_binary_patch_for_another_file_is_the_patchs_fault(trees, base):
    other = b"diff --git a/lib/logo.bin b/lib/logo.bin\nindex " + b"1" * 40 + b".." + b"2" * 40
    other += b" 100644\nGIT binary patch\nliteral 4\nLcmZQzWMT#Y01f~L\n\nliteral 3\nKcmZQzWMTjS000O9\n\n"
    with pytest.raises(DoesNotApply):
        trees.apply(base, rounds(other))
