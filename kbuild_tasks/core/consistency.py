"""What must agree between the values of cluster.yaml: names that exist, addresses that differ, somebody who compiles.

schema.json says what each value may look like (core/schema.py); a message is only good where its writer knows the
meaning, so these are functions. Each looks only at what has the right type, so that both passes report together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from kbuild_tasks.core import suggest, units
from kbuild_tasks.core.model import STATE_DIR, Node
from kbuild_tasks.core.schema import Problem, Tree, place, word

_SYSTEM = frozenset(
    f"/{name}".rstrip("/")
    for name in (
        *("", "bin", "boot", "dev", "efi", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc"),
        *("root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", "var/cache", "var/lib", "var/log", "var/run"),
        *("var/spool", "var/tmp"),
    )
)
_NEVER_BELOW = frozenset(
    f"/{name}"
    for name in ("bin", "boot", "dev", "efi", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr")
)


def disagreements(tree: Tree, root: Path) -> list[Problem]:
    """All that is wrong in the tree of cluster.yaml and needs no disk to tell; `root` is the project, absolute."""
    problems = [*_workdir(tree, root), *_ccache_dir(tree)]
    problems += _amounts(tree)
    problems += _waivers(tree)
    problems += _window(tree)
    nodes = value_at(tree, "nodes")
    if isinstance(nodes, dict) and nodes:
        problems += _names(tree, nodes)
        problems += _addresses(tree, nodes)
        problems += _compilers(tree, nodes)
    return problems


def _workdir(tree: Tree, root: Path) -> Iterator[Problem]:
    line, path = entry_at(tree, "build", "workdir", "path")
    where = "build.workdir.path"
    if not isinstance(path, str) or not path.startswith("/"):
        return
    parts = path.split("/")[1:]
    advice = "use a directory of its own, such as /home/builder/buildtmp"
    if ".." in parts or "." in parts:
        yield Problem(line, where, f"must be written without '.' and '..', not {word(path)}", advice)
    elif _is_below(path, STATE_DIR):  # what is above it is the system's
        what = f"{word(path)} is where each node remembers what was done to it, and a tmpfs would hide that"
        yield Problem(line, where, what, advice)
    elif path.rstrip("/") in _SYSTEM or f"/{parts[0]}" in _NEVER_BELOW or _is_below(path, "/var/run"):
        yield Problem(
            line, where, f"{word(path)} is a directory of the system, and a tmpfs may be mounted there", advice
        )
    elif parts[0] == "home" and len(parts) == 2:
        yield Problem(line, where, f"{word(path)} is a home directory, and a tmpfs may be mounted there", advice)
    elif _in_home(parts).startswith("."):
        what = f"{word(path)} is where programs keep their own files, and a tmpfs may be mounted there"
        yield Problem(line, where, what, advice)
    elif root.is_relative_to(path) or root.is_relative_to(f"{path.rstrip('/')}.state"):
        yield Problem(line, where, f"{word(path)} holds the project itself, and a tmpfs may be mounted there", advice)
    elif PurePosixPath(path).is_relative_to(root):
        yield Problem(line, where, f"{word(path)} lies in the project, and a tmpfs may hide what is there", advice)


def _ccache_dir(tree: Tree) -> Iterator[Problem]:
    line, path = entry_at(tree, "build", "ccache_dir")
    _, workdir = entry_at(tree, "build", "workdir", "path")
    if isinstance(path, str) and isinstance(workdir, str) and _is_below(path, workdir.rstrip("/")):
        what = f"{word(path)} lies in the workdir, which may be a tmpfs and is lost with it"
        yield Problem(line, "build.ccache_dir", what, "leave it out (it is beside the workdir), or use another disk")


def _is_below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory}/")


def _in_home(parts: list[str]) -> str:
    """The name of what lies directly in somebody's home; "" for other places."""
    below = parts[2:] if parts[0] == "home" else parts[1:] if parts[0] == "root" else []
    return below[0] if len(below) == 1 else ""


def _amounts(tree: Tree) -> Iterator[Problem]:
    """Sizes and durations that are well formed, but of no use."""
    nodes = value_at(tree, "nodes")
    sizes = [("build", "workdir", "tmpfs"), ("defaults", "memory_per_job")]
    sizes += [("nodes", name, "memory_per_job") for name in (nodes if isinstance(nodes, dict) else ())]
    for path in sizes:
        line, text = entry_at(tree, *path)
        if isinstance(text, str) and text[:1].isdigit() and not text.strip("0.KMGTkmgtiB"):
            yield Problem(line, place(*path), f"must be more than {word(text)}")
    limits = [("ssh", "connect_timeout", 1, 300), ("rollout", "panic_timeout", 1, 3600)]
    limits += [("rollout", "reboot_timeout", 10, 86400), ("rollout", "settle", 0, 86400)]
    limits += [("rollout", "drain_timeout", 1, 86400)]
    for section, key, least, most in limits:
        line, text = entry_at(tree, section, key)
        seconds = _seconds(text)
        if seconds is None:
            continue
        where = f"{section}.{key}"
        if key == "panic_timeout" and seconds == 0:
            yield Problem(
                line, where, "must not be 0: a node that panics would then stay down (panic=0 waits for ever)"
            )
        elif not (least <= seconds <= most and seconds == int(seconds)):
            yield Problem(line, where, f"must be whole seconds, {least}s to {most}s, not {word(str(text))}")


def _seconds(text: Any) -> float | None:
    try:
        return units.duration(text) if isinstance(text, str) else None
    except (KeyError, ValueError):
        return None  # schema.json says so


def _waivers(tree: Tree) -> Iterator[Problem]:
    waivers = value_at(tree, "kernel", "waivers")
    for index, (_, waiver) in enumerate(waivers if isinstance(waivers, list) else ()):
        line, until = waiver.get("until", (0, None)) if isinstance(waiver, dict) else (0, None)
        if isinstance(until, str) and len(until) == 10 and until.replace("-", "").isdigit():
            import datetime

            try:
                datetime.date.fromisoformat(until)
            except ValueError as error:
                yield Problem(line, f"kernel.waivers[{index}].until", f"{word(until)} is no day: {error}")


def _window(tree: Tree) -> Iterator[Problem]:
    line, opens = entry_at(tree, "rollout", "window", "from")
    closes = value_at(tree, "rollout", "window", "to")
    if isinstance(opens, str) and opens == closes:
        yield Problem(line, "rollout.window", f"opens and closes at {word(opens)}: it would never be open",
                      "take it out for any time")  # fmt: skip


def _names(tree: Tree, nodes: dict[str, Tree]) -> Iterator[Problem]:
    """Names of nodes that stand for a node which must exist, and be fit for the part."""
    line, coordinator = entry_at(tree, "build", "coordinator")
    if isinstance(coordinator, str) and coordinator not in nodes:
        yield _no_node(line, "build.coordinator", coordinator, nodes)
    elif isinstance(coordinator, str) and _of(nodes[coordinator], "hold")[1] is True:
        what = f"{word(coordinator)} has hold: true, and the coordinator does the work"
        yield Problem(line, "build.coordinator", what, "take the hold away, or name another node")
    canary = value_at(tree, "rollout", "canary")
    for index, (line, name) in enumerate(canary if isinstance(canary, list) else ()):
        where = f"rollout.canary[{index}]"
        if isinstance(name, str) and name not in nodes:
            yield _no_node(line, where, name, nodes)
        elif isinstance(name, str) and _of(nodes[name], "hold")[1] is True:
            what = f"{word(name)} has hold: true, so it gets no kernel"
            yield Problem(line, where, what, "take it out of one of the two")
        elif isinstance(name, str) and _of(nodes[name], "rollout")[1] is False:
            what = f"{word(name)} has rollout: false, so it gets no kernel"
            yield Problem(line, where, what, "take it out of one of the two")
    for name, node in nodes.items():
        line, connection = _of(node, "connection")
        if connection == "local" and name != coordinator:
            yield Problem(
                line,
                place("nodes", name, "connection"),
                f"local is this machine, and this machine is the coordinator ({word(str(coordinator))})",
                "remove it: other nodes are reached by ssh",
            )


def _no_node(line: int, where: str, name: str, nodes: dict[str, Tree]) -> Problem:
    near = suggest.closest(name, list(nodes))
    some = ", ".join(word(node) for node in list(nodes)[:8]) + (", ..." if len(nodes) > 8 else "")
    tail = f", did you mean {word(near)}?" if near else f"; nodes are {some}"
    return Problem(line, where, f"there is no node {word(name)}{tail}")


def _addresses(tree: Tree, nodes: dict[str, Tree]) -> Iterator[Problem]:
    taken: dict[tuple[str, str], str] = {}
    default = value_at(tree, "defaults", "port") or Node.port
    for name, node in nodes.items():
        line, address = _of(node, "address")
        if not isinstance(address, str):
            continue
        wrong = _address_fault(address)
        if wrong:
            yield Problem(line, place("nodes", name, "address"), f"{word(address)} {wrong}")
            continue
        key = _canonical(address), str(_of(node, "port", default)[1])
        if key in taken:
            what = f"{word(address)} is already the address of {word(taken[key])}"
            yield Problem(line, place("nodes", name, "address"), what)
        taken.setdefault(key, name)


def _address_fault(address: str) -> str | None:
    """Why it is neither an IP address nor a host name (RFC 952, RFC 1123); None where it is one of them."""
    if ":" in address:
        import ipaddress

        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            host, _, port = address.partition(":")
            known = port.isascii() and port.isdigit() and host
            return (
                f"is not an address, did you mean address: {word(host)}, port: {port}?"
                if known
                else "is no IPv6 address"
            )
        return None
    labels = address.split(".")
    if labels[-1].isdigit():
        if len(labels) != 4 or not all(
            part.isascii() and part.isdigit() and str(int(part[:4])) == part for part in labels
        ):
            return "is no IPv4 address: four numbers from 0 to 255 with dots between"
        return None if all(int(part) <= 255 for part in labels) else "is no IPv4 address: 255 is the highest number"
    if any(not label or len(label) > 63 or label[0] == "-" or label[-1] == "-" for label in labels):
        return "is no host name: 1 to 63 letters, digits and '-' between dots, no '-' at an end"
    return None


def _canonical(address: str) -> str:
    if ":" in address:
        import ipaddress

        return ipaddress.IPv6Address(address).compressed
    return address.lower()


def _compilers(tree: Tree, nodes: dict[str, Tree]) -> Iterator[Problem]:
    """Somebody must compile: a worker with slots, or the coordinator."""
    line, default = entry_at(tree, "defaults", "slots")
    for node in nodes.values():
        given = _of(node, "slots", default)[1]
        if given != 0 or isinstance(given, bool):
            return
    yield Problem(
        line or tree[1]["nodes"][0],
        "defaults.slots" if default == 0 else "nodes",
        "no worker lends slots and the coordinator has none: nobody would compile",
        "give one node slots: auto",
    )


def entry_at(tree: Tree, *path: str) -> tuple[int, Any]:
    """(line, value) at a path of keys; (0, None) where it is not there or something on the way is no mapping."""
    line, value = tree
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return 0, None
        line, value = value[key]
    return line, value


def value_at(tree: Tree, *path: str) -> Any:
    return entry_at(tree, *path)[1]


def _of(node: Tree, key: str, default: Any = None) -> tuple[int, Any]:
    line, value = node
    if not isinstance(value, dict) or key not in value:
        return line, default
    entry: Tree = value[key]
    return entry[0], entry[1]
