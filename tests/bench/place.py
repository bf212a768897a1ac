"""Where a build is measured: a project with a coordinator and workers whose CPU is limited, a series to edit, and the
same tree for who builds it by hand. tests/bench/small.py and example.py are the two sizes of it."""

from __future__ import annotations

import json
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import makepkg

TOOK = Path(__file__).with_name("took.py")


@dataclass(frozen=True)
class Took:
    """Wall and CPU seconds of a command on the coordinator; what it said."""

    seconds: float
    cpu: float
    out: str


class Place(ABC):
    """root: the project; workdir: kernel.workdir; cores: of the coordinator, as a build by hand would count them."""

    root: Path
    workdir: str
    cores = 2
    source: str  # a file below the tree that one patch of the series touches
    targets = "bzImage modules"
    part: str  # targets of a part of the tree, to tune by
    rounds: int  # of builds from nothing
    goals: bool  # whether the goals of the benches are meant for this size

    # --- what the two sizes do each in their way

    @abstractmethod
    def command(self, script: str) -> list[str]:
        """The machine's command line that runs took.py with `script` on the coordinator, as who builds."""

    @abstractmethod
    def doit_command(self, *words: str) -> str: ...

    @abstractmethod
    def edit(self) -> None:
        """Another number in a line that the patch adds to `source`."""

    @property
    @abstractmethod
    def line(self) -> str:
        """Words of that line as it is now, for sed."""

    @property
    @abstractmethod
    def other_line(self) -> str:
        """The same words with another number."""

    @abstractmethod
    def limit(self) -> None:
        """From now on every node has so little CPU that they do not take it from each other."""

    @abstractmethod
    def lose(self) -> None:
        """The coordinator's tmpfs goes, as by a reboot."""

    @abstractmethod
    def serve(self) -> list[str]:
        """distccd on every worker, for a build by hand: "ADDRESS:PORT" each."""

    @abstractmethod
    def unserve(self) -> None: ...

    @abstractmethod
    def scratch_makepkg(self, directory: str) -> str:
        """A script that makes the packages with plain makepkg, from the archive, in a new directory."""

    @abstractmethod
    def ccache(self, on: bool) -> None: ...

    # --- the same for both

    def run(self, script: str) -> Took:
        """Raises KbuildError with the last lines where the script fails."""
        import subprocess

        done = subprocess.run(self.command(script), text=True, capture_output=True, check=True, timeout=7200)
        told: dict[str, Any] = json.loads(done.stdout)
        if told["status"] != 0:
            raise KbuildError(
                f"status {told['status']}: {script[:300]}", "read its output", evidence=told["out"].splitlines()[-15:]
            )
        return Took(told["seconds"], told["cpu"], told["out"])

    def doit(self, *words: str) -> Took:
        return self.run(f"cd {shlex.quote(str(self.root))} && {self.doit_command(*words)}")

    def make(self, words: str, more: Mapping[str, str] | None = None) -> str:
        """A command: make in the tree, in a kernel build's own environment; `more` variables, expanded by the shell."""
        clean = {key: value for key, value in makepkg.environment().items() if key not in ("HOME", "USER", "LOGNAME")}
        env = " ".join(f"{key}={shlex.quote(value)}" for key, value in clean.items() if key not in (more or {}))
        env += "".join(f' {key}="{value}"' for key, value in (more or {}).items())
        return f'cd {shlex.quote(self.tree)} && env -i HOME="$HOME" {env} make {words}'

    @property
    def tree(self) -> str:
        receipt = json.loads((self.root / "build/receipts/patch.json").read_text())
        return f"{self.workdir}/makepkg/{receipt['results']['place']}"

    def compiled(self) -> dict[str, Any]:
        """What the last compile did: {"objects", "per_node", "ccache", ...}. Raises KbuildError if it did not run."""
        told: dict[str, Any] = json.loads((self.root / "build/last-run.json").read_text())["tasks"]["compile"]
        if told["state"] != "done":
            raise KbuildError(f"compile was {told['state']}, not done", "the bench is wrong, not the build")
        return told

    def clean(self) -> None:
        """No object, and configured as before."""
        self.run(self.make("clean"))


def counted(out: str) -> int:
    """Objects of C that make said it compiled."""
    return len(re.findall(r"^  CC(?: \[M\])? +\S+\.o$", out, re.M))
