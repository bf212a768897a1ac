"""What `doit lab` understands: expected values by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.lab import names
from kbuild_tasks.lab.arguments import Request, parse
from kbuild_tasks.plugin.lab_command import project, raw_words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Request("help")),
        (["--help"], Request("help")),
        (["up", "--help"], Request("help")),
        (["up"], Request("up")),
        (["up", "--nodes", "16"], Request("up", nodes=16)),
        (["up", "--nodes=2", "--cpus", "1", "50%"], Request("up", nodes=2, shares=("1", "50%"))),
        (["up", "--cpus", "1,0.5,max", "-n", "3"], Request("up", nodes=3, shares=("1", "0.5", "max"))),
        (["down"], Request("down")),
        (["down", "--wipe"], Request("down", wipe=True)),
        (["status", "--json"], Request("status", json=True)),
        (["base"], Request("base")),
        (["exec", "kubenode1", "doit"], Request("exec", "kubenode1", argv=("doit",))),
        (["exec", "kubenode1", "--", "doit", "-n", "4"], Request("exec", "kubenode1", argv=("doit", "-n", "4"))),
        (["exec", "kubenode1", "doit", "--user", "x"], Request("exec", "kubenode1", argv=("doit", "--user", "x"))),
        (["exec", "-u", "root", "kubenode2", "id"], Request("exec", "kubenode2", user="root", argv=("id",))),
        (
            ["exec", "kubenode2", "--user=root", "--", "--", "a=b"],
            Request("exec", "kubenode2", user="root", argv=("--", "a=b")),
        ),
        (["shell", "kubenode3", "--user", "root"], Request("shell", "kubenode3", user="root")),
        (["cut", "kubenode2"], Request("cut", "kubenode2")),
        (["cpu", "kubenode2", "max"], Request("cpu", "kubenode2", shares=("max",))),
    ],
)
def test_words_become_a_request(words: list[str], expected: Request) -> None:
    assert parse(words) == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["upp"], "no verb 'upp'"),
        (["up", "--nodes"], "--nodes needs a value"),
        (["up", "--nodes", "17"], "17"),
        (["up", "--nodes", "0"], "0"),
        (["up", "--nodes", "three"], "three"),
        (["up", "--cpus"], "--cpus needs a value"),
        (["up", "--cpus", "0"], "'0' is not a CPU share"),
        (["up", "--cpus", "-1"], "--cpus needs a value"),
        (["up", "kubenode1"], "does not know 'kubenode1'"),
        (["down", "kubenode1"], "does not know 'kubenode1'"),
        (["exec"], "needs a node"),
        (["exec", "--", "id"], "needs a node"),
        (["exec", "kubenode1"], "needs a command"),
        (["exec", "kubenode1", "--"], "needs a command"),
        (["exec", "kubenode1", "--user"], "--user needs a name"),
        (["exec", "kubenode1", "--user=", "id"], "--user needs a name"),
        (["exec", "--sudo", "kubenode1", "id"], "does not know '--sudo'"),
        (["exec", "kubenode17", "id"], "no node 'kubenode17'"),
        (["exec", "../etc", "id"], "no node '../etc'"),
        (["exec", "", "id"], "no node ''"),
        (["shell", "kubenode1", "id"], "takes no command"),
        (["freeze"], "takes one node"),
        (["freeze", "kubenode1", "kubenode2"], "takes one node"),
        (["freeze", "$(id)"], "no node '$(id)'"),
        (["cpu", "kubenode1"], "a node and a share"),
    ],
)
def test_wrong_words_are_refused_with_something_to_type(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(words)
    assert says in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "cores"),
    [("1", 1.0), ("0.5", 0.5), ("50%", 0.5), ("150%", 1.5), ("2", 2.0), ("max", None), ("0.05", 0.05)],
)
def test_share(text: str, cores: float | None) -> None:
    assert names.share(text) == cores


@pytest.mark.parametrize("text", ["", "0", "0.01", "half", "-1", "1e3", "1/2", "%", "nan", "inf", "99999"])
def test_share_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        names.share(text)


def test_the_last_share_counts_for_all_that_follow() -> None:
    assert names.shares(("1", "0.5"), 4) == (1.0, 0.5, 0.5, 0.5)
    assert names.shares((), 2) == (None, None)
    with pytest.raises(ConfigError, match="3 CPU shares were given for 2 nodes"):
        names.shares(("1", "1", "1"), 2)


def test_addresses() -> None:
    assert [names.address(n) for n in (names.NODES[0], names.NODES[-1])] == ["10.77.0.11", "10.77.0.26"]


def test_places_differ_by_project_and_follow_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KBUILD_LAB_DIR", raising=False)
    one, two = names.Places.of(tmp_path / "one"), names.Places.of(tmp_path / "two")
    assert one.id != two.id
    assert one.run == Path("/run") / one.id
    assert (one.home, one.bases) == (tmp_path / "one/.lab", tmp_path / "one/.lab")
    monkeypatch.setenv("KBUILD_LAB_DIR", str(tmp_path / "shared"))
    three, four = names.Places.of(tmp_path / "one"), names.Places.of(tmp_path / "two")
    assert three.bases == four.bases == tmp_path / "shared"
    assert three.home != four.home
    assert three.id == one.id


@pytest.mark.parametrize(
    ("typed", "left", "words"),
    [
        (["lab", "exec", "n", "--", "env", "A=b"], ["exec", "n", "--", "env"], ["exec", "n", "--", "env", "A=b"]),
        (["-d", "lab", "lab", "up"], ["up"], ["up"]),
        (["lab", "exec", "n", "lab"], ["exec", "n", "lab"], ["exec", "n", "lab"]),
        (["lab", "up", "--nodes=2"], ["up", "--nodes=2"], ["up", "--nodes=2"]),
        (["pytest", "-x"], ["up"], ["up"]),  # not started by typing
    ],
)
def test_words_with_an_equals_sign_come_back(typed: list[str], left: list[str], words: list[str]) -> None:
    assert raw_words(typed, left) == words


def test_the_project_is_found_from_below_it(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert project(tmp_path / "a" / "b") == tmp_path
