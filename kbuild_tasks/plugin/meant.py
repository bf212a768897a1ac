"""What was meant by a command line that doit does not take: one sentence, and the line to type instead.

Names are those of the tasks that dodo.py has made, whoever wrote it; that a word is a node's, and why a node has no
such task, is known where it has made a Pipeline. A line that is proposed keeps its only=: without it, every node is
meant.
"""

from __future__ import annotations

import fnmatch
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from doit import doit_cmd
from doit.cmdparse import CmdOption, CmdParseError, TaskParse
from doit.exceptions import InvalidCommand

from kbuild_tasks.core import suggest
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.plugin import run, words

STATUS = 3  # doit's, of a command line that it does not take
HELP = ("-h", "--help")
LISTS = "doit list names the tasks, doit help the commands"


def answer(command: Any, in_args: Sequence[str], error: Exception) -> int:
    """The status of the command. Raises `error` where it is not about a word of the command line."""
    line = Line(command, in_args)
    try:
        if asked := [number for number, word in enumerate(in_args) if word in HELP]:
            return line.help(asked[0])
        told = line.option(error) if isinstance(error, CmdParseError) else line.word(error)
    except InvalidCommand as unknown:
        told = line.word(unknown)
    if told is None:
        raise error
    sys.stderr.write(told.render() + "\n")
    return STATUS


def task_help(command: Any, name: str) -> str:
    """What `doit help TASK` tells. Raises InvalidCommand where there is none."""
    task = {task.name: task for task in command.task_list}.get(name)
    if task is None:
        raise InvalidCommand(not_found=name)
    lines = [f"{task.name}  {task.doc}"]
    for option in TaskParse([CmdOption(each) for each in (*task.creator_params, *task.params)]).options:
        lines += option.help_doc()
    if run._loaded() is not None:
        verb = name.partition(":")[0]
        lines += [f"  {word}={words.MEANS[word]}" for word, verbs in words.MEANT_FOR.items() if verb in verbs]
    return "\n".join(lines)


class Line:
    """What was typed, as far as doit has read it."""

    def __init__(self, command: Any, in_args: Sequence[str]) -> None:
        self.command, self.words = command, list(in_args)
        self.tasks = {task.name: task for task in command.task_list if not task.name.startswith("_")}
        pipeline = run._loaded()
        self.cluster: Any = pipeline.project.cluster if pipeline else None
        self.nodes = dict(self.cluster.nodes) if self.cluster else {}
        self.only = pipeline.rollout.only if pipeline else ()
        self.is_run = command.name == "run"
        self.is_named = not self.is_run or "run" in sys.argv[1:]

    def help(self, at: int) -> int:
        """Of the task before the flag, else of the command. Raises InvalidCommand: that is no task."""
        before = [word for word in self.words[:at] if not word.startswith("-")]
        if self.is_run and self.tasks and before:
            print(task_help(self.command, before[-1]))
        elif self.is_named:
            print(self.command.help())
        else:
            doit_cmd.DoitMain().run(["--help"])
        return 0

    def typed(self, new: Sequence[str], **given: str) -> str:
        """A command line with these words, and all NAME=VALUE that was given."""
        pairs = {**(doit_cmd._CMDLINE_VARS or {}), **given}
        name = [self.command.name] if self.is_named else []
        return shlex.join(["doit", *name, *new, *(f"{key}={value}" for key, value in pairs.items())])

    def option(self, error: Exception) -> KbuildError:
        """An option that does not exist, or has not the value that it wants."""
        refused = error.__context__  # getopt's, which has the name apart; doit makes one text of all
        name, said = getattr(refused, "opt", ""), getattr(refused, "msg", "")
        if name and str(error).startswith("Error parsing Task"):
            return self._option_of_task(name)
        whose, more = f"doit {self.command.name}", f"doit help {self.command.name}"
        if "not recognized" not in said:
            return KbuildError(f"{whose}: {said or _one_line(error)}", more)
        flag = _dashed(name)
        near = suggest.closest(flag, [f"--{each.long}" for each in self.command.cmdparser.options if each.long])
        if near is None or len(name) == 1:
            return KbuildError(f"{whose} has no option {flag}", more)
        right = [near + word[len(flag) :] if word.partition("=")[0] == flag else word for word in self.words]
        return KbuildError(f"{whose} has no option {flag}, did you mean {near}?", self.typed(right))

    def _option_of_task(self, name: str) -> KbuildError:
        """What stands behind a task's name is for that task."""
        flag = _dashed(name)
        at = next(n for n, word in enumerate(self.words) if word.startswith("-") and name in word)
        task = next(word for word in reversed(self.words[:at]) if not word.startswith("-"))
        ours = self.command.cmdparser.get_option(flag)[0]
        has_value = "=" not in self.words[at] and (name in words.MEANT_FOR or (ours and ours.type is not bool))
        end = at + 2 if has_value else at + 1
        rest = [*self.words[:at], *self.words[end:]]
        if name in words.MEANT_FOR and task.partition(":")[0] not in words.MEANT_FOR[name]:
            theirs = " ".join(words.MEANT_FOR[name])
            return KbuildError(f"{task} has no option {flag}; {name}= belongs to {theirs}", f"doit help {task}")
        if name in words.MEANT_FOR:
            value = self.words[at].partition("=")[2] or "".join(self.words[at + 1 : end]) or "..."
            return KbuildError(f"{task} has no option {flag}: {name}= has no dashes", self.typed(rest, **{name: value}))
        if ours:
            return KbuildError(f"{flag} goes before {task}: it is no option of a task",
                               self.typed([*self.words[at:end], *rest]))  # fmt: skip
        return KbuildError(f"{task} has no option {flag}", f"doit help {task}")

    def word(self, error: Exception) -> KbuildError | None:
        """A word that is no task."""
        unknown = (word for word in self.command.sel_tasks or () if word not in self.tasks and "*" not in word)
        word = getattr(error, "not_found", None) or next(unknown, None)
        if word is None:
            return None
        if "*" in word:
            return self._pattern(word)
        if word in self.nodes:
            return self._node(word, f"{word} is a node, not a task")
        if ":" in word:
            return self._sub_task(word)
        may_be_command = self.is_run and not self.is_named and self.words[:1] == [word]
        message = f"{word} is no task and no command" if may_be_command else f"{word} is no task"
        names = [name for name in self.tasks if ":" not in name]
        names += self.command.loader.cmd_names if may_be_command else []
        if near := suggest.closest(word, names):
            return KbuildError(f"{message}, did you mean {near}?", self._with(word, near))
        if near := suggest.closest(word, list(self.nodes)):
            return self._node(near, f"{message}, did you mean the node {near}?")
        return KbuildError(message, LISTS)

    def _pattern(self, word: str) -> KbuildError:
        """One that selects nothing: doit would do nothing, and call that well."""
        verb, colon, name = word.partition(":")
        near = suggest.closest(verb, [task for task in self.tasks if ":" not in task]) if "*" not in verb else None
        if near and fnmatch.filter(self.tasks, f"{near}{colon}{name}"):
            right = f"{near}{colon}{name}"
            return KbuildError(f"{word} matches no task, did you mean {right}?", self._with(word, right))
        return KbuildError(f"{word} matches no task", "doit list --all names them")

    def _with(self, word: str, near: str) -> str:
        return self.typed([near if each == word else each for each in self.words])

    def _node(self, node: str, message: str) -> KbuildError:
        """A node's name in the place of a task's."""
        tasks = [word for word in self.words if word in self.tasks]
        nodes = [word for word in self.words if word in self.nodes] or [node]
        verb = tasks[0].partition(":")[0] if tasks else "rollout"
        if why := self._left_out(verb, node):
            return KbuildError(f"{message}; {why}", self._way(verb, node))
        if not self.is_run:
            return KbuildError(message, LISTS)
        named = [task for task in tasks if ":" in task]
        if verb in words.ROLLOUT and not named:  # only= would leave out those that are named
            return KbuildError(message, self.typed(tasks or ["rollout"], only=",".join(nodes)))
        verbs = dict.fromkeys(task.partition(":")[0] for task in tasks)
        named += [f"{each}:{name}" for each in verbs for name in nodes if f"{each}:{name}" in self.tasks]
        return KbuildError(message, self.typed(named) if named else LISTS)

    def _sub_task(self, word: str) -> KbuildError:
        """ "rolback:kubnode7": each half for itself, so that no near name of another verb or node is proposed."""
        verb, _, name = word.partition(":")
        groups = [task for task in self.tasks if ":" not in task]
        verb = verb if verb in groups else suggest.closest(verb, groups) or verb
        parts = [task.partition(":")[2] for task in self.tasks if task.startswith(f"{verb}:")]
        near = name if name in self.nodes else suggest.closest(name, list(dict.fromkeys([*parts, *self.nodes]))) or name
        if near in parts:
            return KbuildError(f"{word} is no task, did you mean {verb}:{near}?", self._with(word, f"{verb}:{near}"))
        if near in self.nodes and (why := self._left_out(verb, near)):
            return KbuildError(f"{word} is no task: {why}", self._way(verb, near))
        if verb in groups and not parts:
            return KbuildError(f"{word} is no task: {verb} is not done node by node", self._with(word, verb))
        return KbuildError(f"{word} is no task", f"doit list --all {verb}" if verb in groups else LISTS)

    def _left_out(self, verb: str, name: str) -> str:
        """Why a node has no such task; "" where that is not known, or not so."""
        node, of_rollout = self.nodes[name], verb in words.ROLLOUT
        if not of_rollout and not any(task.startswith(f"{verb}:") for task in self.tasks):
            return ""
        if node.hold or (of_rollout and not node.rollout):
            return f"{name} has {'hold: true' if node.hold else 'rollout: false'} in {self.cluster.source}"
        if of_rollout and self.only and name not in self.only:
            return f"only={','.join(self.only)} leaves {name} out"
        return ""

    def _way(self, verb: str, name: str) -> str:
        node = self.nodes[name]
        if node.hold or not node.rollout:
            return f"take that out of {self.cluster.source} for {name} to take part; doit status shows all nodes"
        return f"doit {verb} only={name}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).removeprefix("Error parsing ").removesuffix(".").split())


def _dashed(name: str) -> str:
    return f"--{name}" if len(name) > 1 else f"-{name}"
