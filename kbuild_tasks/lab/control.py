"""The way to a lab's holder: starting one, asking it, and being the only one who changes it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.effects import shell

ANSWER_SECONDS = 30
LOCK_SECONDS = 60


def ask(path: Path, request: Mapping[str, Any], missing_ok: bool = False) -> Any:
    """The holder's answer to one request; None where there is no holder and missing_ok. Raises KbuildError when it
    is gone, CommandFailed when it could not do it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                answer = json.loads(answers.readline())
    except (OSError, ValueError) as error:
        if missing_ok:
            return None
        gone = isinstance(error, FileNotFoundError | ConnectionRefusedError)
        raise KbuildError("the lab is not up" if gone else f"the lab does not answer: {error}", "doit lab up") from None
    if "error" in answer:
        named = f"{request['node']}: " if "node" in request else ""
        raise CommandFailed(
            f"{named}the lab could not {request['verb']}", "doit lab status", evidence=[answer["error"]]
        )
    return answer


def ask_launcher(request: Mapping[str, Any], log: IO[bytes], seconds: float) -> dict[str, Any]:
    """Start a holder (see holder.py) and wait for its first word: {"ready": true} or {"error": "..."}."""
    deadline = time.monotonic() + seconds
    with shell.spawn(
        [sys.executable, "-m", "kbuild_tasks.lab.holder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd="/",
        env=dict(os.environ) | {"LANG": "C.UTF-8"},
    ) as launcher:
        try:
            said, _ = launcher.communicate(json.dumps(request).encode(), timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            shell.end(launcher)
            return {"error": f"nothing was heard of it within {seconds:g} s"}
    try:
        answer = json.loads(said)
    except ValueError:
        return {"error": f"the holder ended with status {launcher.returncode} before it was ready"}
    return dict(answer)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lab's lock; waits up to a minute for who else holds it. Raises KbuildError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    with open(path, "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise KbuildError("another command is still changing the lab", "wait for it, or end it") from None
                time.sleep(0.05)
        yield
