"""The words after `doit lab`, as values: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kbuild_tasks.core import suggest
from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.lab import names

USAGE = """\
doit lab up [--nodes N] [--vms N|KIND...] [--cpus SHARE...]
                                            a cluster on this machine: kubenode1 (coordinator), kubenode2 ... are
                                            containers; kubenode7 ... are VMs, which boot a kernel of their own.
                                            KIND: systemd-boot (default), grub, extlinux
doit lab down [--wipe]                      end it; with --wipe the nodes' disks go too
doit lab status [--json]                    the nodes and what is wrong with them on purpose
doit lab exec NODE [--user U] [--] CMD...   run a command there: in the project as builder on kubenode1,
                                            at home as ansible elsewhere (in a VM by ssh)
doit lab shell NODE [--user U]              a login shell there
doit lab stop NODE                          power cut           doit lab start NODE   power back
doit lab freeze NODE                        stands still        doit lab thaw NODE    goes on
doit lab cut NODE                           cable pulled        doit lab join NODE    plugged in again
doit lab cpu NODE SHARE                     0.5 or 50% of a core, 2 cores, max
doit lab base [--vms KIND...]               build the nodes' base images, if they are not there
"""
HINT = "doit lab --help"
ON_A_NODE = ("stop", "start", "freeze", "thaw", "cut", "join")
VERBS = ("up", "down", "status", "exec", "shell", "cpu", "base", *ON_A_NODE)


@dataclass(frozen=True)
class Request:
    """verb "help" is the answer to no words at all."""

    verb: str
    node: str = ""
    nodes: int | None = None
    vms: tuple[str, ...] | None = None
    shares: tuple[str, ...] = ()
    user: str | None = None
    argv: tuple[str, ...] = ()
    wipe: bool = False
    json: bool = False


def parse(words: Sequence[str]) -> Request:
    """Raises ConfigError, whose hint is what to type instead."""
    if not words or words[0] in ("help", "-h", "--help"):
        return Request("help")
    verb, rest = words[0], list(words[1:])
    if rest[:1] in (["-h"], ["--help"]):
        return Request("help")
    if verb == "up":
        return _up(rest)
    if verb in ("exec", "shell"):
        return _session(verb, rest)
    if verb == "down":
        return Request(verb, wipe=_flag(verb, rest, "--wipe"))
    if verb == "status":
        return Request(verb, json=_flag(verb, rest, "--json"))
    if verb == "base":
        return _base(rest)
    if verb == "cpu":
        if len(rest) != 2:
            raise ConfigError("doit lab cpu takes a node and a share", "doit lab cpu kubenode2 50%")
        return Request(verb, names.known(rest[0]), shares=(rest[1],))
    if verb in ON_A_NODE:
        if len(rest) != 1:
            raise ConfigError(f"doit lab {verb} takes one node", f"doit lab {verb} kubenode2")
        return Request(verb, names.known(rest[0]))
    near = suggest.closest(verb, VERBS)
    meant = f", did you mean {near}?" if near else ""
    raise ConfigError(f"doit lab has no verb {verb!r}{meant}", f"doit lab {near}" if near in ("up", "status") else HINT)


def _up(rest: list[str]) -> Request:
    nodes: int | None = None
    vms: tuple[str, ...] | None = None
    shares: tuple[str, ...] = ()
    while rest:
        word, option, values = _option(rest)
        if option in ("-n", "--nodes") and len(values) == 1:
            nodes = names.count(values[0])
        elif option == "--vms" and values:
            vms = names.kinds(values)
        elif option == "--cpus" and values:
            shares = tuple(share for text in values for share in text.split(","))
            for share in shares:
                names.share(share)
        elif option in ("-n", "--nodes", "--vms", "--cpus"):
            raise ConfigError(f"doit lab up: {option} needs a value", "doit lab up --nodes 3 --vms 2 --cpus 1 0.5")
        else:
            raise ConfigError(f"doit lab up does not know {word!r}", HINT)
    return Request("up", nodes=nodes, vms=vms, shares=shares)


def _base(rest: list[str]) -> Request:
    vms: tuple[str, ...] | None = None
    while rest:
        word, option, values = _option(rest)
        if option != "--vms":
            raise ConfigError(f"doit lab base does not know {word!r}", HINT)
        vms = names.kinds(values) if values else names.VM_KINDS
    return Request("base", vms=vms)


def _option(rest: list[str]) -> tuple[str, str, list[str]]:
    """Take (word, option, values) from the front: "--a=b", "--a b c"."""
    word = rest.pop(0)
    option, equals, value = word.partition("=")
    values = [value] if equals else []
    while rest and not rest[0].startswith("-") and not equals:
        values.append(rest.pop(0))
    return word, option, values


def _session(verb: str, rest: list[str]) -> Request:
    user: str | None = None
    node = ""
    while rest:
        word = rest[0]
        if word == "--" or (node and not word.startswith("-")):
            break
        rest.pop(0)
        if word in ("-u", "--user"):
            if not rest:
                raise ConfigError(f"doit lab {verb}: --user needs a name", HINT)
            user = rest.pop(0)
        elif word.startswith("--user="):
            user = word.removeprefix("--user=")
        elif word.startswith("-"):
            raise ConfigError(f"doit lab {verb} does not know {word!r}", HINT)
        else:
            node = names.known(word)
    if rest[:1] == ["--"]:
        rest.pop(0)
    if not node:
        raise ConfigError(f"doit lab {verb} needs a node", f"doit lab {verb} {names.COORDINATOR}")
    if user == "":
        raise ConfigError(f"doit lab {verb}: --user needs a name", HINT)
    if verb == "exec" and not rest:
        raise ConfigError("doit lab exec needs a command", f"doit lab exec {node} -- hostname")
    if verb == "shell" and rest:
        raise ConfigError("doit lab shell takes no command", f"doit lab exec {node} -- ...")
    return Request(verb, node, user=user, argv=tuple(rest))


def _flag(verb: str, rest: list[str], flag: str | None) -> bool:
    for word in rest:
        if word != flag:
            raise ConfigError(f"doit lab {verb} does not know {word!r}", HINT)
    return bool(rest)
