"""What became of the objects of one build: the front's record (effects/front.sh) joined with distcc's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kbuild_tasks.core.distcc_log import DistccLog, tell
from kbuild_tasks.core.spans import CACHED, DESIGN, FALLBACK, PLAN

COMPARED = ("same", "wrong", "unsure")  # words of effects/check.sh in the front's record


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
    made       object -> (node, kind of core/spans.py)
    checked    node -> objects of it that were made here once more and compared
    wrong      (object, node, directory with both) of those that differ (effects/check.sh)
    unsure     (object, why) of those of which it could not be told
    """

    objects: tuple[str, ...]
    per_node: Mapping[str, int]
    fallbacks: tuple[Mapping[str, str], ...]
    far: int
    here: Mapping[str, int]
    lost: Mapping[str, int]
    untold: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    made: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    checked: Mapping[str, int] = field(default_factory=dict)
    wrong: tuple[tuple[str, str, str], ...] = ()
    unsure: tuple[tuple[str, str], ...] = ()

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
    compared: list[tuple[str, str, str]] = []
    for line in front.splitlines():
        what, _, rest = line.partition("\t")
        why, tab, name = rest.partition("\t")
        if not tab:
            continue
        if what == "lost":
            ends.setdefault(name, []).append(why)
        elif what == "had":
            had.add(name)
        elif what in COMPARED:
            compared.append((what, why, name))
        elif what != "dead":
            given[name] = (what, why)
    per_node: dict[str, int] = {}
    here: dict[str, int] = {}
    made = dict.fromkeys(had - given.keys(), (coordinator, CACHED))
    lost: dict[str, int] = {}
    fallbacks, untold = [], []
    for name, (what, why) in given.items():
        shown = short(name, root)
        if what != "far":
            here[why] = here.get(why, 0) + 1
            per_node[coordinator] = per_node.get(coordinator, 0) + 1
            made[name] = (coordinator, PLAN if why == "alone" else DESIGN)
            continue
        job = log.ended.get(name)
        for where, _ in job.tries if job else ():
            node = nodes.get(where, where)
            lost[node] = lost.get(node, 0) + 1
        if job is None or job.code is None or job.code >= 100:
            if len(ends.get(name, ())) >= 3:
                reason_ = f"distcc ended with status {ends[name][-1]}, three times"
                fallbacks.append({"object": shown, "reason": reason_, "node": ""})
                made[name] = (coordinator, FALLBACK)
                per_node[coordinator] = per_node.get(coordinator, 0) + 1
            else:
                untold.append(shown)
            continue
        where = coordinator if not job.remote else nodes.get(job.host, job.host)
        per_node[where] = per_node.get(where, 0) + 1
        made[name] = (where, FALLBACK if job.fallback else PLAN)
        if job.fallback:
            node = nodes.get(job.tries[-1][0], job.tries[-1][0]) if job.tries else ""
            fallbacks.append({"object": shown, "reason": tell(node or None, job.reason), "node": node})
    checked: dict[str, int] = {}
    wrong, unsure = [], []
    for what, why, name in compared:
        maker, _ = made.get(name, (coordinator, FALLBACK))
        if what == "unsure" or (what == "wrong" and maker == coordinator):
            unsure.append((short(name, root), why if what == "unsure" else "it was made here in the end, and differs"))
        elif maker != coordinator:
            checked[maker] = checked.get(maker, 0) + 1
            if what == "wrong":
                wrong.append((short(name, root), maker, why))
    return Distribution(
        objects=tuple(sorted(short(name, root) for name in given)),
        per_node=dict(sorted(per_node.items())),
        fallbacks=tuple(fallbacks),
        far=sum(1 for what, _ in given.values() if what == "far"),
        here=here,
        lost=lost,
        untold=tuple(sorted(untold)),
        cached=tuple(sorted(short(name, root) for name in had - given.keys())),
        made={short(name, root): told for name, told in made.items()},
        checked=dict(sorted(checked.items())),
        wrong=tuple(wrong),
        unsure=tuple(unsure),
    )


def short(name: str, root: str) -> str:
    if root and name.startswith(root.rstrip("/") + "/"):
        name = name[len(root.rstrip("/")) + 1 :]
    return name.removeprefix("./")
