"""distcc's own record of a build, read while it grows: which object was compiled where, and why not where it should.

distcc 3.4 with DISTCC_VERBOSE=1 writes some 200 lines for a job, each "distcc[PID] (function) text". A job is told by
few of them (src/compile.c, src/where.c, src/clinet.c, src/clirpc.c):

    (dcc_trace_version) ...                            a client starts; its PID may have been another's before
    (dcc_scan_args) found object/output file "O"       what it makes
    (dcc_parse_hosts) found tcp token "HOST"           a worker that is in the list now
    (dcc_remove_disliked) remove HOST from list        and is avoided, as it failed lately
    exec on HOST: ...                                  an attempt; HOST is "ADDRESS:PORT/SLOTS,lzo" or "localhost"
    [(function)] ERROR: ...                            what went wrong in it; the first one is the cause
    Warning: failed to distribute [...]                from here on it is a fallback, not a planned local job
    compile S on HOST completed ok
    (dcc_exit) exit: code N; ...

A client that was killed has no end; its object is told by the client that tried again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

LOCAL = "localhost"

_LINE = re.compile(
    rb"^distcc\[(\d+)\] (?:"
    rb"(?P<start>\(dcc_trace_version\))"
    rb'|\(dcc_scan_args\) found object/output file "(?P<object>.*)"$'
    rb'|\(dcc_parse_hosts\) found tcp token "(?P<offered>[^"]*)"'
    rb"|\(dcc_remove_disliked\) remove (?P<avoided>\S+) from list"
    rb"|exec on (?P<host>\S+): "
    rb"|(?:\(\w+\) )?ERROR: (?P<error>.*)$"
    rb"|(?:\(\w+\) )?Warning: (?P<fallback>failed to distribute)"
    rb"|cpp .* on localhost (?P<cpp>failed)"
    rb"|compile .* on (?P<done>\S+) completed ok$"
    rb"|\(dcc_exit\) exit: code (?P<exit>\d+)"
    rb")",
    re.MULTILINE,
)
_ENDPOINT = re.compile(r"(.*:\d+)(?:/\d+)?(?:,.*)?")

# What distcc says -> what we say. The first that occurs in the text counts.
_REASONS = (
    ("Connection refused", "refused the connection"),
    ("timeout while connecting", "could not be connected to in time"),
    ("IO timeout", "gave no answer in time"),
    ("unexpected eof", "closed the connection without an answer"),
    ("server provided no answer", "closed the connection without an answer"),
    ("Connection reset", "closed the connection without an answer"),
    ("Broken pipe", "closed the connection without an answer"),
    ("No route to host", "could not be reached: no route to host"),
    ("Network is unreachable", "could not be reached: network is unreachable"),
    ("failed to look up", "has an address that cannot be resolved"),
)
AVOIDED = "no worker was left"
LOST = "did not answer, the client was ended"
COMPILER_FAILED = "could not compile what compiles here"
PREPROCESSOR_FAILED = "preprocessing failed here"


@dataclass
class Job:
    """One client of distcc.

    host      the attempt that runs, or ran last: an endpoint ("10.0.0.12:3632") or "localhost"; "" while it waits
    tries     (endpoint, reason) of the attempts that failed
    fallback  it was compiled here, or is being, because no worker did: all that it tried failed, or none was left
    code      distcc's exit status; None while it runs
    since     the reader's clock when the attempt was read
    """

    pid: int
    object: str = ""
    host: str = ""
    tries: list[tuple[str, str]] = field(default_factory=list)
    fallback: bool = False
    code: int | None = None
    since: float = 0.0
    error: str = ""
    offered: set[str] = field(default_factory=set)

    @property
    def remote(self) -> bool:
        return self.host not in ("", LOCAL)

    @property
    def reason(self) -> str:
        """Why it fell back: the last failure that was its own, "" if it did not."""
        if not self.fallback:
            return ""
        return self.tries[-1][1] if self.tries else AVOIDED


class DistccLog:
    """Feed it the bytes of the log as they come, in order; ask it for jobs.

    running  by PID; ended: by object, the last client that made it
    heard    endpoint -> when it last sent an object;  failing: endpoint -> attempts that failed since
    """

    def __init__(self) -> None:
        self.running: dict[int, Job] = {}
        self.ended: dict[str, Job] = {}
        self.heard: dict[str, float] = {}
        self.failing: dict[str, int] = {}
        self._rest = b""
        self._given_up: dict[str, list[tuple[str, str]]] = {}  # object -> failed attempts of killed clients

    def feed(self, data: bytes, now: float = 0.0) -> None:
        """Read on; an incomplete last line is kept for the next call. `now` is any clock that goes forward."""
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        self._rest = data[cut:]
        for match in _LINE.finditer(data, 0, cut):
            self._line(int(match[1]), match, now)

    def killed(self, pid: int, why: str = LOST) -> None:
        """A client was ended from outside: its attempt failed, and whoever retries its object is told so."""
        job = self.running.pop(pid, None)
        if job and job.object:
            tried = [(job.host, why)] if job.remote else []
            self._given_up.setdefault(job.object, []).extend([*job.tries, *tried])

    def in_use(self) -> dict[str, int]:
        """endpoint (or "localhost") -> attempts that run now."""
        counts: dict[str, int] = {}
        for job in self.running.values():
            if job.host:
                counts[job.host] = counts.get(job.host, 0) + 1
        return counts

    def _line(self, pid: int, match: re.Match[bytes], now: float) -> None:
        kind = match.lastgroup
        text = _text(match[kind]) if kind else ""
        if kind == "start":
            if pid in self.running:  # the PID's earlier owner never ended in the log
                self.killed(pid)
            self.running[pid] = Job(pid, since=now)
            return
        job = self.running.setdefault(pid, Job(pid, since=now))  # the log may begin in mid-job
        if kind == "object":
            job.object = text
            job.tries.extend(self._given_up.pop(text, []))
        elif kind == "host":
            self._attempt_failed(job)
            job.host, job.since = endpoint(text), now
            # A slot of the coordinator that a job takes while there is no worker to choose is no slot by plan.
            job.fallback = job.fallback or not (job.remote or job.offered)
        elif kind == "offered":
            job.offered.add(endpoint(text))
        elif kind == "avoided":
            job.offered.discard(endpoint(text))
        elif kind == "error":
            job.error = job.error or text
        elif kind == "cpp":
            job.error = PREPROCESSOR_FAILED
        elif kind == "fallback":
            self._attempt_failed(job)
            job.fallback, job.host = True, ""
        elif kind == "done":
            job.host = endpoint(text)
            if job.remote:
                self.heard[job.host] = now
                self.failing.pop(job.host, None)
        elif kind == "exit":
            job.code = int(text)
            self.running.pop(pid, None)
            if job.object:
                self.ended[job.object] = job

    def _attempt_failed(self, job: Job) -> None:
        if job.remote:
            why = reason(job.error)
            job.tries.append((job.host, why))
            if why not in (COMPILER_FAILED, PREPROCESSOR_FAILED):
                self.failing[job.host] = self.failing.get(job.host, 0) + 1
        job.error = ""


def endpoint(host: str) -> str:
    """ "10.0.0.12:3632/4,lzo" -> "10.0.0.12:3632"; "localhost" stays."""
    match = _ENDPOINT.fullmatch(host)
    return match[1] if match else host


def reason(error: str) -> str:
    """distcc's error in the user's words."""
    for said, ours in _REASONS:
        if said in error:
            return ours
    if error.startswith("compile ") and error.endswith(" failed"):
        return COMPILER_FAILED
    return error or "failed"


def tell(node: str | None, why: str) -> str:
    """A reason as a sentence: "kubenode2 refused the connection"; those of no node as they are."""
    return f"{node} {why}" if node and why not in (AVOIDED, PREPROCESSOR_FAILED) else why


@dataclass(frozen=True)
class Distribution:
    """What became of the objects of one build.

    objects    all objects of kernel C that were compiled, sorted
    per_node   node -> objects, the coordinator among them
    fallbacks  {"object", "reason", "node"} of what was compiled here against the plan
    far        objects that were given to distcc
    here       {why: n} of objects that are local by design ("alone": no worker takes part)
    lost       node -> attempts that it failed
    untold     objects given to distcc of which its log does not say where they were made
    cached     objects that came from ccache, sorted; none of `objects`
    """

    objects: tuple[str, ...]
    per_node: Mapping[str, int]
    fallbacks: tuple[Mapping[str, str], ...]
    far: int
    here: Mapping[str, int]
    lost: Mapping[str, int]
    untold: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()

    @property
    def fallback_share(self) -> float:
        """Of the objects that could be distributed, those that were compiled here against the plan: 0..1."""
        return len(self.fallbacks) / self.far if self.far else 0.0


def distribution(
    front: str, log: DistccLog, nodes: Mapping[str, str], coordinator: str, root: str = ""
) -> Distribution:
    """Join the front's record (effects/front.sh) with distcc's.

    nodes  endpoint -> node;  root  directory of the tree: a prefix of absolute object names that is dropped
    """
    given: dict[str, tuple[str, str]] = {}
    ends: dict[str, list[str]] = {}
    had: set[str] = set()
    for line in front.splitlines():
        what, _, rest = line.partition("\t")
        why, tab, name = rest.partition("\t")
        if not tab:
            continue
        if what == "lost":
            ends.setdefault(name, []).append(why)
        elif what == "had":
            had.add(name)
        else:
            given[name] = (what, why)
    per_node: dict[str, int] = {}
    here: dict[str, int] = {}
    lost: dict[str, int] = {}
    fallbacks, untold = [], []
    for name, (what, why) in given.items():
        short = _short(name, root)
        if what != "far":
            here[why] = here.get(why, 0) + 1
            per_node[coordinator] = per_node.get(coordinator, 0) + 1
            continue
        job = log.ended.get(name)
        for where, _ in job.tries if job else ():
            node = nodes.get(where, where)
            lost[node] = lost.get(node, 0) + 1
        if job is None or job.code is None or job.code >= 100:
            if len(ends.get(name, ())) >= 3:
                reason_ = f"distcc ended with status {ends[name][-1]}, three times"
                fallbacks.append({"object": short, "reason": reason_, "node": ""})
                per_node[coordinator] = per_node.get(coordinator, 0) + 1
            else:
                untold.append(short)
            continue
        where = coordinator if not job.remote else nodes.get(job.host, job.host)
        per_node[where] = per_node.get(where, 0) + 1
        if job.fallback:
            node = nodes.get(job.tries[-1][0], job.tries[-1][0]) if job.tries else ""
            fallbacks.append({"object": short, "reason": tell(node or None, job.reason), "node": node})
    return Distribution(
        objects=tuple(sorted(_short(name, root) for name in given)),
        per_node=dict(sorted(per_node.items())),
        fallbacks=tuple(fallbacks),
        far=sum(1 for what, _ in given.values() if what == "far"),
        here=here,
        lost=lost,
        untold=tuple(sorted(untold)),
        cached=tuple(sorted(_short(name, root) for name in had - given.keys())),
    )


def _short(name: str, root: str) -> str:
    if root and name.startswith(root.rstrip("/") + "/"):
        name = name[len(root.rstrip("/")) + 1 :]
    return name.removeprefix("./")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
