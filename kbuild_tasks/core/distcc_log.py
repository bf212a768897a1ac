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


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
