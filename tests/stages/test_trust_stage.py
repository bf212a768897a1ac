"""A node in quarantine: left out without a question, told, and back by the user's word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_tasks.core.distribution import Distribution
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir
from kbuild_tasks.effects import ccache, makers, quarantine
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import read_json, read_record, write_json
from kbuild_tasks.stages import prepare, trust

PLACE = "linux/src/linux-6.1"


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    nodes = {
        "n1": Node("n1", "127.0.0.1", connection="local"),
        "n2": Node("n2", "192.0.2.2"),
        "n3": Node("n3", "192.0.2.3"),
    }
    kernel = Kernel("kernel/PKGBUILD", "x86_64", "kernel/config")
    build = Build("n1", Workdir(str(tmp_path / "work")))
    cluster = Cluster(tmp_path / "project", "cluster.yaml", kernel, build, Ssh(), nodes)
    return Context(cluster, Paths.of(cluster), "compile")


def wrong(ctx: Context, *names: str) -> Distribution:
    told = []
    for number, name in enumerate(names):
        directory = ctx.paths.state / f"wrong.{number}"
        directory.mkdir(parents=True)
        for file, content in (("theirs", b"abXd"), ("ours", b"abcd"), ("text.i", b"int x;")):
            (directory / file).write_bytes(content)
        told.append((name, "n2", str(directory)))
    return Distribution((), {}, (), len(names), {}, {}, wrong=tuple(told))


def test_caught_told_and_forgiven(ctx: Context) -> None:
    tree = ctx.paths.builddir / PLACE
    tree.mkdir(parents=True)
    for name in ("a.o", "b.o"):
        (tree / name).write_text(name)
    makers.save(ctx.paths, PLACE, {"a.o": ("n2", "plan"), "b.o": ("n3", "plan")}, ctx.cluster.nodes)
    write_json(ctx.paths.artifacts / "manifest.json", {})
    error = quarantine.caught(ctx, wrong(ctx, *(f"fs/{number}.o" for number in range(7))))
    assert error.message.startswith("n2 returned 7 wrong objects: ")
    assert list(error.evidence) == [
        *(f"fs/{number}.o: 1 of 4 bytes differs, the first at 0x2" for number in range(5)),
        "... and 2 more",
        "compared: build/quarantine/n2, with the text that both were made of",
        "dropped: 1 objects that it has made or may have made, here and kept",
        "it may have had a part in the packages in artifacts/, and in what runs on the nodes",
    ]
    assert not (tree / "a.o").exists() and (tree / "b.o").exists()
    assert (ctx.paths.quarantine / "n2/theirs.o").read_bytes() == b"abXd"
    assert (ctx.paths.quarantine / "n2/text.i").read_bytes() == b"int x;"

    outcome = prepare.run(replace(ctx, task="prepare:n2", node=ctx.cluster.nodes["n2"]))
    assert outcome.message.startswith("left out: n2 compiles nothing: it is in quarantine since ")
    assert outcome.message.endswith("(1 of 4 bytes differs, the first at 0x2); doit trust:n2") and not outcome.final
    facts = read_record(ctx.paths.facts("n2"))
    assert facts["state"] == "left-out" and facts["reached"] is False, "nothing was asked"
    assert quarantine.facts(ctx.paths, ctx.cluster)["n2"]["why"].endswith("; doit trust:n2 lifts it")

    forgiving = replace(ctx, task="trust:n2", node=ctx.cluster.nodes["n2"])
    assert trust.run(forgiving).message == "compiles again, from the next build on"
    assert quarantine.known(ctx.paths, ctx.cluster) == {} and not any(ctx.paths.quarantine.iterdir())
    assert trust.run(forgiving).run == {"state": "fresh"}


def test_what_cannot_be_dropped_at_once_is_dropped_later(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(build: Build, paths: Paths) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(ccache, "clear", full)
        error = quarantine.caught(ctx, wrong(ctx, "a.o"))
    assert any(line.startswith("not yet dropped is what it has made: ") for line in error.evidence)
    assert read_json(ctx.paths.quarantine / "n2.json")["dropped"] is None
    with pytest.raises(KbuildError, match="is still in the tree"):
        trust.run(replace(ctx, task="trust:n2", node=ctx.cluster.nodes["n2"]))
    quarantine.settle(ctx.paths, ctx.cluster.build)
    assert read_json(ctx.paths.quarantine / "n2.json")["dropped"] == 0


def test_objects_that_cannot_be_read_any_more_accuse_all_the_same(ctx: Context) -> None:
    told = Distribution((), {}, (), 1, {}, {}, wrong=(("a.o", "n2", str(ctx.paths.state / "gone")),))
    assert "cannot be read any more" in quarantine.caught(ctx, told).evidence[0]
    assert "n2" in quarantine.known(ctx.paths, ctx.cluster)


def test_a_cache_is_emptied_where_ccache_is_not_installed(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = ccache.place(ctx.cluster.build, ctx.paths)
    for name in ("0/a/object", "f/b/object", "mine/file", "ccache.conf"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    monkeypatch.setattr(ccache, "is_there", lambda: False)
    ccache.clear(ctx.cluster.build, ctx.paths)
    assert sorted(path.name for path in directory.iterdir()) == ["ccache.conf", "mine"]
