"""Asks the tree's own kconfig about options, through a helper linked from the tree's scripts/kconfig objects.

Only on the way to a failure. The helper (kconfig_explain.c) needs the environment that the top Makefile gives to
scripts/kconfig/conf: ARCH, CC, KERNELVERSION and some hundred more. It is had without a change to the tree by naming a
Kconfig of ours (KBUILD_KCONFIG, Documentation/kbuild/kconfig.rst) whose one macro writes that environment to a file.

Measured on 6.1: environment 0.3 s, helper 0.1 s, a question about any number of options 1.3 s (nearly all of it the
compiler probes of the Kconfig files). 6.12: 2.8 s on a busy machine. If the helper cannot be built or run, the failure
is told without reasons and says so.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.kconfig import Merged, Unmet
from kbuild_tasks.core.kconfig_why import Asker, Knowledge, read_knowledge
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import write_atomic
from kbuild_tasks.effects.kconfig import DEADLINE, Kbuild, foreign

_PROBE = 'environment := $(shell,env -0 > "$KBUILD_TASKS_ENVIRONMENT")\nconfig KBUILD_TASKS\n\tbool\n'
_FRONT_ENDS = re.compile(r"[mnqg]?conf(\.gui|-moc|\.moc)?\.o|images\.o|mnconf-common\.o|kxgettext\.o")
_NOT_FOR_IT = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "KBUILD_KCONFIG", "KCONFIG_AUTOCONFIG")
_ENTRY = re.compile(r"\s*(config|menuconfig|choice|endchoice|menu|endmenu|comment|source|if|endif)\b")


class Explainer:
    """Questions about one candidate .config of one tree. Raises KbuildError where the helper does not work."""

    def __init__(self, kbuild: Kbuild) -> None:
        self.kbuild = kbuild

    @cached_property
    def environment(self) -> dict[str, str]:
        scratch = self.kbuild.scratch
        probe, dump = scratch / "probe.Kconfig", scratch / "environment"
        write_atomic(probe, _PROBE, durable=False)
        self.kbuild.private(
            "olddefconfig",
            scratch / "probe.config",
            f"KBUILD_KCONFIG={probe}",
            env={"KBUILD_TASKS_ENVIRONMENT": str(dump)},
        )
        try:
            pairs = dump.read_bytes().decode("utf-8", "surrogateescape").split("\0")
        except FileNotFoundError:
            raise KbuildError("this tree's kconfig does not take KBUILD_KCONFIG") from None
        found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        return {name: value for name, value in found.items() if name not in _NOT_FOR_IT}

    @cached_property
    def helper(self) -> Path:
        directory = self.kbuild.tree / "scripts" / "kconfig"
        objects = [p for p in sorted(directory.glob("*.o")) if not _FRONT_ENDS.fullmatch(p.name)]
        program = self.kbuild.scratch / "kconfig_explain"
        source = Path(__file__).with_suffix(".c")
        include = [f"-I{directory}", f"-I{self.kbuild.tree / 'scripts' / 'include'}"]
        compiler = shlex.split(self.environment.get("HOSTCC", "gcc"))
        shell.run(
            [*compiler, "-w", "-O1", *include, "-o", program, source, *objects],
            env=self.environment,
            timeout=DEADLINE,
            log=self.kbuild.log,
        )
        return program

    def ask(self, names: Iterable[str]) -> Knowledge:
        """What kconfig knows of these options under the candidate .config."""
        asked = "".join(f"{name}\n" for name in dict.fromkeys(names) if len(name) < 200)
        done = shell.run(
            [self.helper, "Kconfig", self.kbuild.candidate],
            cwd=self.kbuild.tree,
            env={**self.environment, "KCONFIG_CONFIG": str(self.kbuild.candidate)},
            stdin=asked,
            timeout=DEADLINE,
        )
        return read_knowledge(done.out)

    def macros(self, place: str) -> Sequence[str]:
        """The lines of a definition ("lib/Kconfig.debug:252") that run a macro, such as $(cc-option,...)."""
        file, _, line = place.rpartition(":")
        try:
            lines = (self.kbuild.tree / file).read_text("utf-8", "replace").splitlines()[int(line) :]
        except (OSError, ValueError):
            return ()
        found = []
        for text in lines:
            if _ENTRY.match(text) or text.strip() in ("help", "---help---"):
                break
            if "$(" in text:
                found.append(" ".join(text.split()))
        return found


def reasons(
    kbuild: Kbuild, merged: Merged, final: dict[str, str], unmet: Sequence[Unmet], told: Callable[[str], None]
) -> list[str]:
    """Why each request did not take, in the order given; "" where kconfig could not be asked (`told` hears why)."""
    try:
        explainer = Explainer(kbuild)
        known = explainer.ask(u.request.symbol for u in unmet)
        first = Asker(known, merged, final)
        missing = {name for u in unmet for name in first.blamed(u)} - set(known.symbols)
        if missing:
            more = explainer.ask(sorted(missing))
            known = Knowledge(known.names, known.choices, {**known.symbols, **more.symbols})
    except KbuildError as error:
        told(f"kconfig cannot be asked for reasons: {error.message}")
        return [Asker(Knowledge(frozenset(), (), {}), merged, final).why(u) if u.overridden_by else "" for u in unmet]
    unknown = {u.request.symbol for u in unmet} - known.names
    asker = Asker(known, merged, final, explainer.macros, foreign(kbuild.tree, unknown, kbuild.kernel_arch))
    return [asker.why(u) for u in unmet]
