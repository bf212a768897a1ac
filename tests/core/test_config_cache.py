"""The kept tree of cluster.yaml: used when it is whole and of this very file, never otherwise."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.effects import yaml_tree
from kbuild_tasks.effects.cluster_file import load_cluster
from tests.core.test_config import DESIGN, SMALLEST, project

LOAD = """
import sys
from pathlib import Path

def forbid(event, args):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system")):
        raise AssertionError(f"loading did {event} {args}")

sys.addaudithook(forbid)
from kbuild_tasks.effects.cluster_file import load_cluster
cluster = load_cluster(Path(sys.argv[1]), Path(sys.argv[2]))
heavy = {"yaml", "doit", "plumbum", "jsonschema", "subprocess", "socket", "difflib", "datetime", "ipaddress"}
print(len(cluster.nodes), sorted(heavy & set(sys.modules) - before))
"""


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that were parsed."""
    seen: list[bytes] = []
    real = yaml_tree.parse
    monkeypatch.setattr(yaml_tree, "parse", lambda data: seen.append(data) or real(data))  # type: ignore[func-returns-value]
    return seen


def test_an_unchanged_file_is_parsed_once(tmp_path: Path, parses: list[bytes]) -> None:
    path, cache = project(tmp_path, DESIGN), tmp_path / "build/cache/cluster.json"
    first = load_cluster(path, cache)
    assert load_cluster(path, cache) == first
    assert len(parses) == 1
    path.write_text(DESIGN.replace("slots: 2", "slots: 3"))
    assert load_cluster(path, cache).coordinator.slots == 3
    assert len(parses) == 2
    path.write_text(DESIGN)
    assert load_cluster(path, cache) == first


def test_no_cache_is_written_unless_asked_for(tmp_path: Path) -> None:
    path = project(tmp_path, DESIGN)
    before = sorted(tmp_path.rglob("*"))
    load_cluster(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bad_file_is_not_kept_and_its_lines_stay_right(tmp_path: Path) -> None:
    path, cache = project(tmp_path, DESIGN), tmp_path / "cache.json"
    path.write_text(DESIGN.replace("arch: x86_64", "arch: x86_46"))
    with pytest.raises(ConfigError, match=r"cluster.yaml:5: kernel.arch"):
        load_cluster(path, cache)
    assert not cache.exists()


def test_files_are_looked_for_even_when_the_tree_is_kept(tmp_path: Path) -> None:
    path, cache = project(tmp_path, DESIGN), tmp_path / "cache.json"
    load_cluster(path, cache)
    (tmp_path / "kernel/config").unlink()
    with pytest.raises(ConfigError, match=r"cluster.yaml:6: kernel.config: there is no file kernel/config"):
        load_cluster(path, cache)


def test_a_kept_tree_is_validated_all_the_same(tmp_path: Path) -> None:
    """The project may have moved to where its workdir is."""
    path, cache = project(tmp_path / "a", SMALLEST), tmp_path / "cache.json"
    path.write_text(SMALLEST.replace("/srv/kbuild", str(tmp_path / "b")))
    load_cluster(path, cache)
    os.rename(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ConfigError, match="holds the project itself"):
        load_cluster(tmp_path / "b/cluster.yaml", cache)


def test_a_damaged_cache_is_ignored_and_replaced(tmp_path: Path) -> None:
    path, cache = project(tmp_path, DESIGN), tmp_path / "cache.json"
    expected = load_cluster(path, cache)
    whole = cache.read_bytes()
    chance = random.Random(7)
    damaged = [b"", b"\n", b"null", b"{}", whole[:-1], whole[: len(whole) // 2], whole + b" ", whole[65:], b"\xff" * 99]
    damaged += [whole.replace(b"kubenode2", b"kubenode9"), whole.replace(b"127.0.0.1", b"127.0.0.2")]
    for _ in range(60):
        at = chance.randrange(len(whole))
        damaged.append(whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :])
    for data in damaged:
        assert data != whole
        cache.write_bytes(data)
        assert load_cluster(path, cache) == expected
        assert cache.read_bytes() == whole


def test_a_cache_of_another_file_is_ignored(tmp_path: Path) -> None:
    one, other = project(tmp_path / "one", DESIGN), project(tmp_path / "other", SMALLEST)
    cache = tmp_path / "cache.json"
    load_cluster(one, cache)
    assert list(load_cluster(other, cache).nodes) == ["one"]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    path = project(tmp_path, DESIGN)
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for cache in (tmp_path / "file/cluster.json", tmp_path / "directory", Path("/proc/cluster.json")):
        assert len(load_cluster(path, cache).nodes) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cluster.yaml", "directory", "file", "kernel", "patches"]


def test_loading_starts_nothing_and_imports_nothing_heavy(tmp_path: Path) -> None:
    """In a fresh process: no connection, no program; the second load does not even import yaml."""
    path, cache = project(tmp_path, DESIGN), tmp_path / "cluster.json"
    said = []
    for _ in range(2):
        # pathlib is Python's own affair: with Debian's security fixes it brings ipaddress along.
        program = "import pathlib, sys; before = set(sys.modules)" + LOAD
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), str(cache)],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "'yaml'" in said[0]
    assert "'yaml'" not in said[1]
    assert said[1] == "4 []\n"
