"""script/setup and the base image's script: clean by shellcheck, honest without root, quick when all is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from kbuild_tasks.lab.arguments import USAGE

ROOT = Path(__file__).parent.parent.parent
SETUP = ROOT / "script" / "setup"


def _setup(*words: str, first_in_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.environ["PATH"] if first_in_path is None else f"{first_in_path}:{os.environ['PATH']}"
    return subprocess.run([SETUP, *words], capture_output=True, text=True, env=os.environ | {"PATH": path})


def test_shellcheck() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed (script/setup)")
    scripts = sorted((ROOT / "kbuild_tasks/lab").glob("*.sh"))
    assert len(scripts) == 4
    done = subprocess.run(["shellcheck", SETUP, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_wrong_word_is_refused() -> None:
    done = _setup("--no-labb")
    assert (done.returncode, done.stderr) == (
        2,
        "script/setup does not know --no-labb\nhint: script/setup --help\n",
    )


@pytest.mark.real
def test_nothing_to_do_is_quick_and_silent() -> None:
    _setup("--no-lab")
    started = time.monotonic()
    done = _setup("--no-lab")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 2


@pytest.mark.real
def test_without_root_it_says_what_to_install(tmp_path: Path) -> None:
    if not shutil.which("dpkg-query"):
        pytest.skip("not Debian")
    for name, text in (
        ("id", "echo 1000"),
        ("dpkg-query", "echo 'ii  git'; echo 'ii  python3'; echo 'rc  gcc'; exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = _setup("--no-lab", first_in_path=tmp_path)
    assert done.returncode == 1
    first, hint = done.stderr.splitlines()
    assert first.startswith("these packages are missing: python3-venv bc binutils")
    assert hint == "hint: sudo apt-get install --no-install-recommends " + first.partition(": ")[2]
    assert {"gcc", "mmdebstrap", "systemd-container"} <= set(first.split())
    assert not {"git", "python3"} & set(first.split())


def test_the_documentation_names_every_verb() -> None:
    text = (ROOT / "docs" / "lab.md").read_text()
    verbs = set(re.findall(r"doit lab ([a-z]+)", USAGE))
    assert len(verbs) == 13
    assert {verb for verb in verbs if f"doit lab {verb}" not in text} == set()
