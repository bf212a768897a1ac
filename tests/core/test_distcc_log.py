"""distcc's log as distcc 3.4 writes it (lines that nobody reads left out), and what is read from it."""

from __future__ import annotations

import pytest

from kbuild_tasks.core import distcc_log
from kbuild_tasks.core.distcc_log import DistccLog
from kbuild_tasks.core.distribution import distribution

NODES = {"127.0.0.2:3701": "k2", "127.0.0.3:3701": "k3"}


def begin(pid: int, name: str, offered: bool = True) -> str:
    found = (f'distcc[{pid}] (dcc_parse_hosts) found tcp token "{host}"\n' for host in (K2, K3))
    hosts = "".join(found) if offered else ""
    return f"""\
distcc[{pid}] (dcc_trace_version) distcc 3.4 x86_64-pc-linux-gnu; built Jan  6 2023 17:13:07
distcc[{pid}] (dcc_scan_args) scanning arguments: gcc -Wp,-MMD -c -o {name}.o {name}.c
distcc[{pid}] (dcc_scan_args) found object/output file "{name}.o"
distcc[{pid}] (dcc_scan_args) found input file "{name}.c"
{hosts}"""


def attempt(pid: int, host: str) -> str:
    return f"""\
distcc[{pid}] (dcc_lock_host) got cpu lock on {host} slot 0 as fd4
distcc[{pid}] exec on {host}: gcc -Wall -c -o x.o x.c
"""


def end(pid: int, name: str, host: str, code: int = 0) -> str:
    told = f"compile {name}.c on {host} completed ok" if code == 0 else f"ERROR: compile {name}.c on {host} failed"
    return f"""\
distcc[{pid}] {told}
distcc[{pid}] elapsed compilation time 1.195087s
distcc[{pid}] (dcc_exit) exit: code {code}; self: 0.013076 user 0.006538 sys; children: 0.061578 user 0.032822 sys
distcc[{pid}] (dcc_cleanup_tempfiles_inner) deleted 2 temporary files
"""


REFUSED = "distcc[{pid}] ERROR: nonblocking connect to 127.0.0.2:3701 failed: Connection refused\n"
SILENT = """\
distcc[{pid}] (dcc_select_for_read) ERROR: IO timeout
distcc[{pid}] (dcc_r_token_int) ERROR: read failed while waiting for token "DONE"
distcc[{pid}] (dcc_r_result_header) ERROR: server provided no answer. Is the server configured to allow access
"""
EOF_ = """\
distcc[{pid}] (dcc_readx) ERROR: unexpected eof on fd6
distcc[{pid}] (dcc_r_token_int) ERROR: read failed while waiting for token "DONE"
"""
COMPILER = """\
distcc[{pid}] ERROR: compile a.c on 127.0.0.2:3701/3,lzo failed
distcc[{pid}] (dcc_build_somewhere) Warning: remote compilation of 'a.c' failed, retrying locally
"""
HERE = "distcc[{pid}] Warning: failed to distribute a.c to 127.0.0.2:3701/3,lzo, running locally instead\n"
K2, K3 = "127.0.0.2:3701/3,lzo", "127.0.0.3:3701/3,lzo"


def read(text: str) -> DistccLog:
    log = DistccLog()
    log.feed(text.encode())
    return log


def told(text: str, front: str = "far\t\ta.o\n", coordinator: str = "k1") -> distcc_log.Distribution:
    return distribution(front, read(text), NODES, coordinator, "/b/linux")


def test_a_job_that_a_worker_did() -> None:
    job = read(begin(7, "a") + attempt(7, K2) + end(7, "a", K2)).ended["a.o"]
    assert (job.host, job.remote, job.code, job.tries, job.fallback) == ("127.0.0.2:3701", True, 0, [], False)


def test_a_slot_of_the_coordinator_is_no_fallback() -> None:
    result = told(begin(7, "a") + attempt(7, "localhost") + end(7, "a", "localhost"))
    assert (dict(result.per_node), result.fallbacks, result.far) == ({"k1": 1}, (), 1)


def test_a_slot_of_the_coordinator_while_there_is_no_worker_to_choose_is_a_fallback() -> None:
    avoided = [f"distcc[7] (dcc_remove_disliked) remove {host} from list\n" for host in (K2, K3)]
    rest = attempt(7, "localhost") + end(7, "a", "localhost")
    for text, fallback in (
        (begin(7, "a") + avoided[0], False),
        (begin(7, "a") + "".join(avoided), True),
        (begin(7, "a", offered=False), True),
    ):
        job = read(text + rest).ended["a.o"]
        assert (job.fallback, job.reason) == (fallback, distcc_log.AVOIDED if fallback else "")


def test_failures_in_a_row_are_counted_and_forgotten_with_the_next_object() -> None:
    log = read(begin(7, "a") + attempt(7, K2) + REFUSED.format(pid=7) + attempt(7, K3) + end(7, "a", K3))
    assert log.failing == {"127.0.0.2:3701": 1}
    log.feed((begin(8, "b") + attempt(8, K2) + EOF_.format(pid=8) + HERE.format(pid=8)).encode())
    assert log.failing == {"127.0.0.2:3701": 2}
    log.feed((begin(9, "c") + attempt(9, K2) + COMPILER.format(pid=9) + HERE.format(pid=9)).encode())
    assert log.failing == {"127.0.0.2:3701": 2}  # an error in the source is nobody's failure
    log.feed((begin(9, "c") + attempt(9, K2) + end(9, "c", K2)).encode())
    assert log.failing == {}


def test_refused_and_then_done_by_another_worker() -> None:
    result = told(begin(7, "a") + attempt(7, K2) + REFUSED.format(pid=7) + attempt(7, K3) + end(7, "a", K3))
    assert dict(result.per_node) == {"k3": 1}
    assert result.fallbacks == ()
    assert dict(result.lost) == {"k2": 1}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (REFUSED, "k2 refused the connection"),
        (SILENT, "k2 gave no answer in time"),
        (EOF_, "k2 closed the connection without an answer"),
        (COMPILER, "k2 could not compile what compiles here"),
        ("distcc[{pid}] ERROR: timeout while connecting to 127.0.0.2:3701\n", "k2 could not be connected to in time"),
        (
            "distcc[{pid}] ERROR: nonblocking connect to 127.0.0.2:3701 failed: No route to host\n",
            "k2 could not be reached: no route to host",
        ),
        ("distcc[{pid}] ERROR: something new\n", "k2 something new"),
        ("", "k2 failed"),
    ],
)
def test_a_fallback_has_the_reason_of_its_first_error(error: str, reason: str) -> None:
    text = begin(7, "a") + attempt(7, K2) + error.format(pid=7) + HERE.format(pid=7)
    result = told(text + attempt(7, "localhost") + end(7, "a", "localhost"))
    assert result.fallbacks == ({"object": "a.o", "reason": reason, "node": "k2"},)
    assert dict(result.per_node) == {"k1": 1}
    assert result.fallback_share == 1.0


def test_a_fallback_because_all_workers_are_avoided() -> None:
    text = begin(7, "a") + "distcc[7] (dcc_build_somewhere) Warning: failed to distribute, running locally instead\n"
    result = told(text + attempt(7, "localhost") + end(7, "a", "localhost"))
    assert result.fallbacks == ({"object": "a.o", "reason": distcc_log.AVOIDED, "node": ""},)


def test_lines_of_many_clients_and_cuts_anywhere() -> None:
    one = (begin(7, "a") + attempt(7, K2) + end(7, "a", K2)).splitlines(keepends=True)
    two = (begin(8, "b") + attempt(8, K3) + REFUSED.format(pid=8) + HERE.format(pid=8)).splitlines(keepends=True)
    mixed = "".join(line for pair in zip(one, two, strict=False) for line in pair) + "".join(one[len(two) :])
    whole = mixed + attempt(8, "localhost") + end(8, "b", "localhost")
    for size in (1, 7, 64, 10_000):
        log = DistccLog()
        raw = whole.encode()
        for start in range(0, len(raw), size):
            log.feed(raw[start : start + size])
        assert log.running == {}
        assert log.ended["a.o"].host == "127.0.0.2:3701"
        assert (log.ended["b.o"].host, log.ended["b.o"].fallback) == ("localhost", True)


def test_slots_in_use_while_jobs_run() -> None:
    log = read(begin(7, "a") + attempt(7, K2) + begin(8, "b") + attempt(8, K2) + begin(9, "c"))
    assert log.in_use() == {"127.0.0.2:3701": 2}  # 9 still waits for a slot


def test_a_client_that_was_ended_and_its_successor() -> None:
    log = read(begin(7, "a") + attempt(7, K2))
    log.killed(7, "does not answer any more")
    log.feed((begin(8, "a") + attempt(8, K3) + end(8, "a", K3)).encode())
    result = distribution("far\t\ta.o\nlost\t143\ta.o\n", log, NODES, "k1")
    assert dict(result.per_node) == {"k3": 1}
    assert dict(result.lost) == {"k2": 1}
    assert result.untold == ()


def test_a_pid_that_is_used_again() -> None:
    log = read(begin(7, "a") + attempt(7, K2) + begin(7, "b") + attempt(7, K3) + end(7, "b", K3))
    assert set(log.ended) == {"b.o"}


def test_what_is_local_by_design_is_no_fallback() -> None:
    result = told("", "here\tincbin\tkernel/configs.o\nhere\talone\t./a.o\nhere\talone\t/b/linux/b.o\n")
    assert result.objects == ("a.o", "b.o", "kernel/configs.o")
    assert (dict(result.here), result.far, result.fallback_share) == ({"incbin": 1, "alone": 2}, 0, 0.0)
    assert dict(result.per_node) == {"k1": 3}


def test_an_object_of_which_the_log_says_nothing_is_not_guessed() -> None:
    result = told("", "far\t\ta.o\nfar\t\tb.o\n")
    assert result.untold == ("a.o", "b.o")
    assert dict(result.per_node) == {}


def test_distcc_that_fails_three_times_is_a_fallback() -> None:
    result = told("", "far\t\ta.o\n" + "lost\t139\ta.o\n" * 3)
    assert result.fallbacks == ({"object": "a.o", "reason": "distcc ended with status 139, three times", "node": ""},)


def test_names_that_are_no_utf8_and_lines_that_are_no_ours() -> None:
    log = DistccLog()
    log.feed(b"rubbish\ndistcc[x] no\n\xff\xfe\n" + begin(7, "a").encode().replace(b"a.o", b"\xff.o"))
    assert log.running[7].object == "\\xff.o"


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("127.0.0.2:3701/3,lzo", "127.0.0.2:3701"),
        ("[fd00::2]:3632/4,lzo", "[fd00::2]:3632"),
        ("node.lan:3632/12", "node.lan:3632"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_as_the_log_names_it(host: str, where: str) -> None:
    assert distcc_log.endpoint(host) == where
