"""Programs on this machine, and ssh: the only importer of plumbum (imported lazily: 75 ms, and it starts uname).

Every child runs in a session of its own, so that a deadline, Ctrl-C or an error ends it with all that it started,
and inherits the run's lock (effects/files.py), so that orphans of a killed run are found by the next one.
Nothing here goes through a shell: argv is a list. Text for a remote shell goes on stdin (effects/node.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kbuild_tasks.core.errors import EVIDENCE_LINES, CommandFailed, Interrupted, KbuildError

LEFT_BEHIND = 4  # ticks
_children: set[subprocess.Popen[bytes]] = set()
_guard = threading.Lock()
_stopping = threading.Event()
_permitted = threading.local()
inherited_fds: set[int] = set()  # the run's lock: children keep it, so a killed run's orphans can be told


@dataclass(frozen=True)
class Done:
    """How a program ended: status, its output (UTF-8, undecodable bytes escaped), wall seconds."""

    code: int
    out: str
    err: str
    seconds: float


def run(
    argv: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | str | None = None,
    timeout: float | None = None,
    check: bool = True,
    log: Path | None = None,
    hint: str | None = None,
) -> Done:
    """Run a program to its end.

    env      the whole environment (default: ours)
    log      both output streams are appended there as they come, and Done.out/err stay empty
    timeout  seconds; then the whole session is killed and CommandFailed(timed_out=True) raised
    Raises CommandFailed on a status other than 0 (unless check=False) and on a deadline;
    KbuildError when the program does not exist.
    """
    started = time.monotonic()
    data = stdin.encode() if isinstance(stdin, str) else stdin
    sink: IO[bytes] | None = None
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        sink = open(log, "ab")  # noqa: SIM115 - closed below, also when Popen fails
    try:
        with spawn(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=sink or subprocess.PIPE,
            stderr=sink or subprocess.PIPE,
        ) as child:
            try:
                out, err = child.communicate(data, timeout=timeout)
            except subprocess.TimeoutExpired:
                end(child)
                raise CommandFailed(
                    f"{_name(argv)} did not end within {timeout:g} s",
                    hint,
                    evidence=_tail(log, "", ""),
                    log=str(log) if log else None,
                    code=-1,
                    timed_out=True,
                ) from None
    finally:
        if sink:
            sink.close()
    done = Done(child.returncode, _text(out), _text(err), time.monotonic() - started)
    if check and done.code != 0:
        how = f"was ended by signal {-done.code}" if done.code < 0 else f"ended with status {done.code}"
        raise CommandFailed(
            f"{_name(argv)} {how}",
            hint,
            evidence=_tail(log, done.out, done.err),
            log=str(log) if log else None,
            code=done.code,
        )
    return done


def run_lines(
    argv: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path,
    tick: Callable[[], None] | None = None,
) -> int:
    """Run a long program; each line of its output goes to the log and to on_line, tick() is called about 4 times
    a second meanwhile. What it leaves running in its session is ended a second after it. Returns the exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "ab") as sink,
        spawn(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child,
    ):
        ended = threading.Event()
        ticker = threading.Thread(target=_ticks, args=(child, ended, tick), daemon=True)
        ticker.start()
        try:
            assert child.stdout is not None
            for raw in child.stdout:
                sink.write(raw)
                sink.flush()
                on_line(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
            return child.wait()
        finally:
            ended.set()
            ticker.join()


def _ticks(child: subprocess.Popen[bytes], ended: threading.Event, tick: Callable[[], None] | None) -> None:
    """Until the output ends. A job that the program left in the background (`make htmldocs &`) holds it open, and
    works on in a tree that the next stage takes for finished."""
    alone = 0
    while not ended.wait(0.25):
        if tick:
            tick()
        alone += child.poll() is not None
        if alone >= LEFT_BEHIND:
            _signal_group(child, signal.SIGTERM if alone < 2 * LEFT_BEHIND else signal.SIGKILL)


@contextlib.contextmanager
def spawn(
    argv: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    **streams: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in its own session, ended with all its descendants when the block is left by an exception."""
    _refuse_if_stopping(argv)
    from plumbum import local
    from plumbum.commands.processes import CommandNotFound

    try:
        program = local[str(argv[0])]
    except CommandNotFound:
        raise KbuildError(
            f"{argv[0]} is not installed on this machine", "script/setup installs what is needed"
        ) from None
    held = _hold()
    # plumbum finds the program; its popen() lays `env` over the caller's environment, and ours must be all there is.
    try:
        child = subprocess.Popen(
            [str(program.executable), *(str(a) for a in argv[1:])],
            cwd=str(cwd) if cwd else None,
            env=dict(env) if env is not None else dict(os.environ),
            start_new_session=True,
            pass_fds=tuple(inherited_fds),
            **streams,
        )
        with _guard:
            _children.add(child)
    except BaseException:
        _release(held)
        raise
    try:
        _release(held)
        _refuse_if_stopping(argv)  # stop_all() may have looked at the children just before
        yield child
    except BaseException:
        end(child)
        raise
    finally:
        with _guard:
            _children.discard(child)


# A signal's handler raises in the main thread, wherever that is. Between the fork and the child's place in _children it
# would leave a child that nobody ends: there, what the handler does waits.
_holding = False
_postponed: Callable[[], None] | None = None


def postpone(act: Callable[[], None]) -> bool:
    """For a signal's handler: whether `act` will be called in a moment, when a child that is being started is known."""
    global _postponed
    if _holding:
        _postponed = act
    return _holding


def _hold() -> bool:
    global _holding
    if threading.current_thread() is not threading.main_thread():
        return False
    _holding = True
    return True


def _release(held: bool) -> None:
    global _holding, _postponed
    if held:
        _holding = False
        act, _postponed = _postponed, None
        if act:
            act()


def _refuse_if_stopping(argv: Sequence[str | Path]) -> None:
    if stopping():
        raise Interrupted(f"{_name(argv)} was not started: the run is being stopped")


def end(child: subprocess.Popen[bytes], grace: float = 2.0) -> None:
    """End a child's whole session: SIGTERM, after `grace` seconds SIGKILL."""
    _signal_group(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)
    _signal_group(child, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)


def stopping() -> bool:
    """Whether the calling thread's children are being ended: how one ended then tells nothing."""
    return _stopping.is_set() and not getattr(_permitted, "here", False)


def stop_all() -> None:
    """End every child of this process and refuse new ones but to permit()ted threads; called when a run is
    interrupted: a stage between two programs must not start the second one."""
    _stopping.set()
    with _guard:
        running = list(_children)
    for child in running:
        _signal_group(child, signal.SIGTERM)
    for child in running:
        end(child)


def permit() -> None:
    """Allow the calling thread new children after stop_all(): the clean-up after an interrupted run needs some."""
    _permitted.here = True


@contextlib.contextmanager
def permitted() -> Iterator[None]:
    """The same for as long as the block lasts."""
    before = getattr(_permitted, "here", False)
    _permitted.here = True
    try:
        yield
    finally:
        _permitted.here = before


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _text(raw: bytes | None) -> str:
    return raw.decode("utf-8", "backslashreplace") if raw else ""


def _name(argv: Sequence[str | Path]) -> str:
    return os.path.basename(str(argv[0]))


def _tail(log: Path | None, out: str, err: str) -> list[str]:
    text = err.strip() or out.strip()
    if log and not text:
        with contextlib.suppress(OSError), open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            text = _text(file.read())
    return [line for line in text.splitlines() if line.strip()][-EVIDENCE_LINES:]
