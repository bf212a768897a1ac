"""Runs in the lab's coordinator as builder: stages of nodes, all at once, answers as JSON. For test_prepare_lab.py.

stdin: {"cluster": {"nodes": {name: fields}, "build": fields, "ssh": fields}, "do": [[verb, node], ...], "root": path}
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

request = json.load(sys.stdin)
sys.path.insert(0, f"{request['root']}/lib")

from kbuild_tasks.core import buildmode, model  # noqa: E402
from kbuild_tasks.core.errors import KbuildError  # noqa: E402
from kbuild_tasks.effects import owner, shell  # noqa: E402
from kbuild_tasks.effects.context import Context, Paths  # noqa: E402
from kbuild_tasks.stages import prepare, release, sync  # noqa: E402


def cluster(value: dict[str, Any]) -> model.Cluster:
    build = dict(value["build"])
    workdir = model.Workdir(**build.pop("workdir"))
    return model.Cluster(
        Path(request.get("project", request["root"])),
        "cluster.yaml",
        model.Kernel("kernel/PKGBUILD", "x86_64", "kernel/config", patches="patches"),
        model.Build(workdir=workdir, **build),
        model.Ssh(**value["ssh"]),
        {name: model.Node(name=name, **fields) for name, fields in value["nodes"].items()},
    )


for key, value in request.get("constants", {}).items():
    setattr(buildmode, key, value)
made = cluster(request["cluster"])
paths = Paths.of(made)


def act(verb: str, name: str) -> dict[str, Any]:
    node = made.nodes[name]
    context = Context(made, paths, f"{verb}:{name}", node)
    started = time.monotonic()
    try:
        if verb in ("release", "release-tree"):
            return {"message": release.release_node(context, node, tree=verb == "release-tree")}
        if verb == "interrupt":  # as plugin/interrupt.py and the end of the run do
            time.sleep(1)
            shell.stop_all()
            shell.permit()
            return {"message": release.release_node(context, node)}
        if verb == "hold":  # the run goes on for a while
            time.sleep(6)
            return {}
        if verb == "late":  # a prepare that reaches the node when its run was over
            release.release_node(context, node)
            verb = "prepare"
        outcome = {"prepare": prepare, "sync": sync}[verb].run(context)
        return {
            "message": outcome.message,
            "final": outcome.final,
            "warnings": list(outcome.warnings),
            "results": dict(outcome.results),
            "seconds": time.monotonic() - started,
        }
    except KbuildError as error:
        return {"error": error.message, "hint": error.hint, "evidence": list(error.evidence)}


answers: list[Any] = []
for step in request["do"]:  # a step: tasks that run at once, a run of its own
    owner.TOKEN = secrets.token_hex(8)
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        answers.append(list(pool.map(lambda task: act(*task), step)))
    print(f"{time.monotonic() - started:.3f} s", step[0], file=sys.stderr)
facts = {name: json.loads(paths.facts(name).read_text()) for name in made.nodes if paths.facts(name).exists()}
json.dump({"answers": answers, "facts": facts}, sys.stdout)
