"""Which nodes compile, with how many slots, and what distcc and make are told: a pure function of facts.

Three properties of distcc 3.4 decide the shape of this module (distcc(1), src/where.c, src/lock.c, src/backoff.c):

- It chooses breadth-first: slot 0 of every host in list order, then slot 1 of every host. There is no speed or
  weight, so the only weight is the number of slots, and the only way to use all of them is -j = their sum. The
  order of the list matters only while the cluster is not full: strong workers first, the coordinator last.
- A remote job is preprocessed on the coordinator. With -fdirectives-only that costs CPP_COST of what the worker
  pays, so a worker core is kept busy by SLOTS_PER_CORE slots, and each worker core takes CPP_COST coordinator cores.
- localhost/N, --localslots and --localslots_cpp count with the same lock files, so --localslots_cpp must exceed the
  local slots by as many preprocessors as run at a time, or remote slots idle while they wait for a local lock.

A worker whose address is written wrong must not take the others with it: distcc refuses the whole list for one bad
entry, so every entry is made here from checked parts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kbuild_tasks.core import calibration, model
from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.core.far import far_name
from kbuild_tasks.core.lending import lend, limit

CPP_COST = 0.27  # measured: 0.107 coordinator CPU s for each 0.40 worker CPU s
CPP_MEMORY = 48 << 20  # measured: 39 MB resident for a preprocessor
CLIENT_MEMORY = 16 << 20  # make's shell, the front and a distcc client that holds one preprocessed file
CPP_PER_CORE = 4  # preprocessors that may run at a time per coordinator core: short, and mostly waiting at the start

# distcc(1), ENVIRONMENT VARIABLES. Values that differ from the defaults do so for a reason each.
ENVIRONMENT: Mapping[str, str] = {
    "DISTCC_FALLBACK": "1",  # a job that no worker takes is compiled here, and counted
    # A host that failed once is avoided so long; 60 s by default, which one bad object costs an innocent host.
    # Never 0: 3.4 then retries a dead host for ever, forking a preprocessor each turn.
    "DISTCC_BACKOFF_PERIOD": "8",
    "DISTCC_PAUSE_TIME_MSEC": "25",  # how often a blocked client looks for a free slot; 1000 by default
    # The last resort: a worker that vanishes is noticed in seconds (effects/distcc_watch.py), a frozen one in 45 s,
    # and this must be longer than both and than the longest compile of a slow board; 300 by default.
    "DISTCC_IO_TIMEOUT": "90",
    "DISTCC_NO_REWRITE_CROSS": "1",  # else gcc becomes x86_64-linux-gnu-gcc and kbuild rebuilds everything
}

_ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")


@dataclass(frozen=True)
class HostPlan:
    """What a compilation is started with.

    hosts     text of distcc's hosts file; "" when no worker takes part: distcc is then not used at all
    jobs      make -j
    env       distcc's settings, without paths (effects/distcc.py adds those)
    slots     node -> slots, workers and the coordinator, only nodes that take part
    nodes     "ADDRESS:PORT" as distcc's record names a host -> node
    left_out  (node, why) of nodes that cluster.yaml counts as workers
    reasons   sentences for the log: why these numbers
    local     slots of the coordinator's own compiler; 0 is possible with workers
    alone     hosts when all workers are gone: all that the coordinator can carry
    unfit     sentences about calibrations that do not count
    far       name under which distcc asks for gcc, "": as make does. Workers of another architecture have the
              coordinator's gcc as a cross compiler, with the machine in its name
    carries   compilations that the coordinator can carry at a time
    """

    hosts: str
    jobs: int
    env: Mapping[str, str]
    left_out: tuple[tuple[str, str], ...] = ()
    slots: Mapping[str, int] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    local: int = 0
    alone: str = ""
    far: str = ""
    unfit: tuple[str, ...] = ()
    carries: int = 1

    def without(self, gone: Collection[str]) -> str:
        """`hosts` without nodes that are gone."""
        out = {where for where, node in self.nodes.items() if node in gone}
        if out == set(self.nodes):
            return self.alone
        return " ".join(entry for entry in self.hosts.split(" ") if entry.partition("/")[0] not in out)

    @property
    def workers(self) -> tuple[str, ...]:
        return tuple(self.nodes.values())


def plan(
    cluster: model.Cluster,
    facts_by_node: Mapping[str, Mapping[str, Any]],
    calibrations: Mapping[str, Mapping[str, Any]] | None = None,
) -> HostPlan:
    """Hosts, -j and environment from what prepare learned: node -> {"state", "why", "facts", "mode"}, and from what
    `doit calibrate` measured: node -> its record (core/calibration.py).

    Raises KbuildError when the coordinator itself was not prepared, ConfigError for an address distcc cannot carry.
    """
    own = facts_by_node.get(cluster.coordinator.name)
    if not own or own.get("state") != "ready":
        why = (own or {}).get("why") or "it was not prepared"
        raise KbuildError(
            f"{cluster.coordinator.name} cannot compile: {why}", f"run: doit prepare:{cluster.coordinator.name}"
        )
    reasons: list[str] = []
    left_out: list[tuple[str, str]] = []
    remote: list[tuple[int, str, str]] = []  # slots, node, ADDRESS:PORT
    for node in cluster.workers:
        record = facts_by_node.get(node.name) or {}
        count, why = _worker_slots(node, record, reasons)
        if why:
            left_out.append((node.name, why))
        else:
            remote.append((count, node.name, endpoint(node, record)))
    far = far_name(remote, facts_by_node, cluster.coordinator.name, left_out)
    remote.sort(key=lambda entry: -entry[0])  # stable: equal ones stay in the order of cluster.yaml
    shares = _measured(cluster, facts_by_node, calibrations or {}, remote, left_out, reasons)

    facts = own.get("facts") or {}
    helpers = sum(int((facts_by_node[name].get("facts") or {}).get("cores") or count) for count, name, _ in remote)
    local = _local_slots(cluster.coordinator, facts, helpers, reasons, shares.local)
    total = local + sum(count for count, _, _ in remote)
    jobs = _jobs(cluster, facts, total, len(remote), reasons)
    taking_part = {name: count for count, name, _ in remote}
    if local:
        taking_part[cluster.coordinator.name] = local
    hosts = _hosts(remote, local, facts, jobs, shares.plain)
    carries = max(1, lend(cluster.coordinator, facts).slots)
    return HostPlan(
        hosts=hosts,
        jobs=jobs,
        env=dict(ENVIRONMENT) if hosts else {},
        left_out=tuple(left_out),
        slots=taking_part,
        nodes={where: name for _, name, where in remote},
        reasons=tuple(reasons),
        local=local,
        alone=f"--localslots={carries} --localslots_cpp={carries} localhost/{carries}" if hosts else "",
        carries=carries,
        far=far if hosts else "",
        unfit=shares.unfit,
    )


def _measured(
    cluster: model.Cluster,
    facts_by_node: Mapping[str, Mapping[str, Any]],
    calibrations: Mapping[str, Mapping[str, Any]],
    remote: list[tuple[int, str, str]],
    left_out: list[tuple[str, str]],
    reasons: list[str],
) -> calibration.Shares:
    """What calibrations say; `remote` gets their slots, and where all are measured their order: the quickest for one
    job first. Workers that were not measured keep their slots."""
    own = cluster.coordinator.name
    facts = {node: record.get("facts") or {} for node, record in facts_by_node.items() if record.get("facts")}
    found, notes = calibration.usable(calibrations, facts, own)
    reasons += notes
    workers = {node: found[node] for _, node, _ in remote if node in found}
    if not workers:
        return calibration.Shares(unfit=tuple(notes))
    told = [node for node in workers if cluster.nodes[node].slots is not None]
    limits = {
        node: count if node in told else limit(cluster.nodes[node], facts_by_node[node]) for count, node, _ in remote
    }
    shares = calibration.shares(found[own], workers, limits, cluster.coordinator.slots, told)
    reasons += shares.notes
    left_out += shares.out.items()
    whole = len(workers) == len(remote)
    remote[:] = [(shares.slots.get(name, n), name, where) for n, name, where in remote if name not in shares.out]
    if whole:
        remote.sort(key=lambda entry: workers[entry[1]].alone)
    return replace(shares, unfit=tuple(notes), local=shares.local if whole else None)


def endpoint(node: model.Node, record: Mapping[str, Any]) -> str:
    """ "ADDRESS:PORT" of a node's distccd, as distcc writes it in its log. "localhost" would mean "run it here"."""
    mode = record.get("mode") or {}
    address = str(mode.get("address") or node.address)
    port = int(mode.get("port") or model.DISTCC_PORT)
    if not _ADDRESS.fullmatch(address) or not 0 < port < 65536:
        raise ConfigError(f"{node.name}: distcc cannot use the address {address!r}, port {port}")
    if address.lower() == "localhost":
        address = "127.0.0.1"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _worker_slots(node: model.Node, record: Mapping[str, Any], reasons: list[str]) -> tuple[int, str]:
    """(slots, "") or (0, why the worker is left out)."""
    if not record:
        return 0, "it was not prepared"
    if record.get("state") != "ready":
        return 0, str(record.get("why") or "prepare left it out")
    lent = lend(node, record.get("facts") or {})
    running = (record.get("mode") or {}).get("jobs")  # distccd was started with this many
    count = lent.slots if running is None else min(lent.slots, int(running))
    if count < 1:
        return 0, lent.reason or "it lends no slot"
    if lent.reason:
        reasons.append(lent.reason)
    return count, ""


def _local_slots(
    node: model.Node, facts: Mapping[str, Any], helpers: int, reasons: list[str], measured: int | None
) -> int:
    """Slots of the coordinator's own compiler: what its cores have left after preprocessing for `helpers` cores;
    measured: the same by calibration."""
    lent = lend(node, facts)
    if lent.reason:
        reasons.append(lent.reason)
    if not helpers:
        if lent.slots >= 1:
            return lent.slots
        reasons.append(f"{node.name} lends no slot, but no worker takes part: it compiles alone, one job at a time")
        return 1
    if node.slots is not None:
        return lent.slots
    if measured is not None:
        reasons.append(f"{node.name} compiles in {min(lent.slots, measured)} slots, by calibration")
        return min(lent.slots, measured)
    cores = max(1, int(facts.get("cores") or 1))
    left = max(0, min(lent.slots, round(cores - CPP_COST * helpers)))
    reasons.append(f"{node.name} compiles in {left} slots: {cores} cores, less what preprocessing for {helpers} takes")
    return left


def _jobs(cluster: model.Cluster, facts: Mapping[str, Any], total: int, workers: int, reasons: list[str]) -> int:
    jobs = total
    if cluster.build.max_jobs is not None and cluster.build.max_jobs < jobs:
        jobs = cluster.build.max_jobs
        reasons.append(f"-j{jobs} instead of -j{total}: build.max_jobs")
    available = facts.get("available")
    if workers and available is not None:
        fits = max(1, int(available) // CLIENT_MEMORY)
        if fits < jobs:
            reasons.append(f"-j{fits} instead of -j{jobs}: the coordinator's memory carries no more clients")
            jobs = fits
    return max(1, jobs)


def _hosts(
    remote: list[tuple[int, str, str]], local: int, facts: Mapping[str, Any], jobs: int, plain: Collection[str]
) -> str:
    if not remote:
        return ""
    cores = max(1, int(facts.get("cores") or 1))
    available = facts.get("available")
    preprocessors = min(jobs, max(8, CPP_PER_CORE * cores))
    if available is not None:
        preprocessors = max(1, min(preprocessors, int(available) // CPP_MEMORY))
    entries = [f"--localslots={max(cores, local)}", f"--localslots_cpp={local + preprocessors}"]
    entries += [f"{where}/{count}{'' if name in plain else ',lzo'}" for count, name, where in remote]
    if local:
        entries.append(f"localhost/{local}")
    return " ".join(entries)
