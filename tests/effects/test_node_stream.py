"""An answer that is bytes, over a real sshd: all of it, or the words of a node that refused or was lost."""

from __future__ import annotations

import dataclasses

import pytest

from kbuild_tasks.core.errors import CommandFailed, NodeRefused, NodeUnreachable
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.node_stream import Stream, Torn, receive
from tests.effects.test_node_ssh import Daemon, daemon, sockets

__all__ = ["daemon", "sockets"]
pytestmark = pytest.mark.real
COMMON = remote.script()


def all_of(stream: Stream) -> bytes:
    return stream.readall() or b""


def ten(stream: Stream) -> bytes:
    """A reader that knows where its answer ends."""
    data = b""
    while len(data) < 10:
        more = stream.read(10 - len(data))
        if not more:
            raise Torn
        data += more
    return data


def test_every_byte_arrives_and_values_and_payload_as_they_are(daemon: Daemon) -> None:
    payload = bytes(range(256)) * 4000 + b"@@ start\n\n@@ end 0\n"
    value = "it's\n$(x) \\"
    got = receive(daemon.cluster, daemon.node, 'printf %s "$value"; cat', {"value": value}, all_of, payload)
    assert got == value.encode() + payload


def test_what_follows_the_end_is_passed_over(daemon: Daemon) -> None:
    assert receive(daemon.cluster, daemon.node, "printf 0123456789abc; echo words >&2", {}, ten) == b"0123456789"


def test_its_own_words_come_before_what_the_reader_made_of_it(daemon: Daemon) -> None:
    with pytest.raises(NodeRefused, match="kubenode2 is at work in /srv") as refused:
        receive(daemon.cluster, daemon.node, COMMON + "printf 012; die 'is at work in /srv\twait for it'", {}, ten)
    assert refused.value.hint == "wait for it"
    with pytest.raises(CommandFailed, match="ended the script with status 7") as failed:
        receive(daemon.cluster, daemon.node, "echo out of luck >&2; exit 7", {}, ten)
    assert list(failed.value.evidence) == ["out of luck"]


@pytest.mark.parametrize("script", ["printf 012; kill -9 $$", "printf 0123456789; kill -9 $$", "kill -9 $$"])
def test_one_that_was_cut_short_is_lost_even_if_it_seems_whole(daemon: Daemon, script: str) -> None:
    with pytest.raises(NodeUnreachable, match="was lost in the middle of the work"):
        receive(daemon.cluster, daemon.node, script, {}, ten)


def test_one_that_ends_too_early_by_itself(daemon: Daemon) -> None:
    with pytest.raises(NodeUnreachable, match="was lost in the middle"):
        receive(daemon.cluster, daemon.node, "printf 012", {}, ten)


def test_a_silent_one(daemon: Daemon) -> None:
    with pytest.raises(NodeUnreachable, match=r"kubenode2 sent nothing for 0.5 s"):
        receive(daemon.cluster, daemon.node, "printf 012; sleep 20", {}, ten, silent=0.5)


def test_an_error_of_ours_ends_it(daemon: Daemon) -> None:
    def no(stream: Stream) -> None:
        raise NodeRefused("not this")

    with pytest.raises(NodeRefused, match="not this"):
        receive(daemon.cluster, daemon.node, "cat /dev/zero", {}, no)


def test_a_key_that_is_not_known_and_a_port_where_nobody_listens(daemon: Daemon) -> None:
    (daemon.home / "none").touch()
    with pytest.raises(NodeUnreachable, match="has a host key that is not known here"):
        receive(daemon.but(known_hosts=str(daemon.home / "none")), daemon.node, "cat", {}, ten)
    closed = dataclasses.replace(daemon.node, name="kubenode2", port=1)
    cluster = dataclasses.replace(daemon.cluster, nodes={**daemon.cluster.nodes, "kubenode2": closed})
    with pytest.raises(NodeUnreachable, match=r"refuses connections at 127\.0\.0\.1 port 1"):
        receive(cluster, closed, "cat", {}, ten)
