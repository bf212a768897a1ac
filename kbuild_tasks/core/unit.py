"""One object of kernel C as kbuild recorded it: the command that made it, with the flags that the front adds
(effects/front.sh) and without the dependency file, so that it can be made again elsewhere."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

# effects/front.sh
FRONT = ("-fdirectives-only", "-Wno-builtin-macro-redefined")
_WITH_VALUE = ("-include", "-imacros", "-isystem", "-idirafter", "-iquote", "-MF", "-MT", "-MQ", "-D", "-U", "-I")
# Jobs that are compiled on the coordinator alone (effects/front.sh) tell nothing of workers.
_LOCAL = ("-fplugin", "-march=native", "-mtune=native", "-gsplit-dwarf", "-fprofile-", "--coverage", "-save-temps")
_LOCAL_NAMES = ("kernel/configs.c", "kernel/kheaders.c")


@dataclass(frozen=True)
class Unit:
    """flags: of the compiler, in order, without input, output and dependency file; source: relative to the tree."""

    object: str
    source: str
    flags: tuple[str, ...]

    def compile(self, compiler: str, output: str) -> list[str]:
        """As the front has it compiled; output: in place of the object."""
        front = (*FRONT, f'-D__BASE_FILE__="{self.source}"')
        return [compiler, *self.flags, *front, "-c", "-o", output, self.source]


def parse(record: str) -> Unit | None:
    """The unit of a .cmd record ("cmd_fs/inode.o := gcc ... -c -o fs/inode.o fs/inode.c", savedcmd_ since 6.3); None
    for what is no object of kernel C, or none that a worker may compile."""
    first = record.partition("\n")[0]
    name, assigned, command = first.partition(" := ")
    if not assigned or not name.startswith(("cmd_", "savedcmd_")):
        return None
    try:  # as make reads it: $$ is $, \# is #
        words = shlex.split(command.replace("$$", "$").replace("\\#", "#").replace("$(pound)", "#"))
    except ValueError:
        return None
    end = next((number for number, word in enumerate(words) if word in ("&&", ";") or word.endswith(";")), len(words))
    words = [*words[:end], *(word[:-1] for word in words[end : end + 1] if len(word) > 1 and word.endswith(";"))]
    flags: list[str] = []
    source = output = ""
    rest = iter(words[1:])
    for word in rest:
        if word == "-o":
            output = next(rest, "")
        elif word in _WITH_VALUE:
            value = next(rest, "")
            flags += [word, value] if word not in ("-MF", "-MT", "-MQ") else []
        elif word.startswith(("-Wp,-M", "-MD", "-MMD", "-MP")) or word == "-c":
            continue
        elif word.endswith(".c") and not word.startswith("-"):
            source = word
        else:
            flags.append(word)
    if not source or not output.endswith(".o") or "-D__KERNEL__" not in flags or os.path.isabs(source):
        return None
    if source.endswith(_LOCAL_NAMES) or any(flag.startswith(_LOCAL) for flag in flags):
        return None
    return Unit(output, source, tuple(flags))


def spread(names: list[str], count: int) -> list[str]:
    """`count` of them, evenly over their order: a sample that is the same each time."""
    if len(names) <= count:
        return names
    return [names[int((number + 0.5) * len(names) / count)] for number in range(count)]
