"""Material for the report's tests: a whole build, and the same with names that would be markup if they could."""

from __future__ import annotations

from typing import Any

from kbuild_tasks.core import trace
from kbuild_tasks.core.spans import DESIGN, FALLBACK, Span
from kbuild_tasks.report.model import Material

HOSTILE = (
    "\"><script>document.title='broken in'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>' \x1b[2J\u202e&amp;"
)


def material(name: str = "fs/a.o", node: str = "k2", option: str = "BRIDGE", patch: str = "0001-a.patch") -> Material:
    """A build of three objects on two nodes, after another one; every kind of name can be chosen."""
    spans = (
        Span(name, node, 0.5, 2.0),
        Span("fs/b.o", "k1", 0.5, 3.25, FALLBACK),
        Span("kernel/configs.o", "k1", 1.0, 1.5, DESIGN),
    )
    line = trace.Timeline(
        began=1796058900.0,
        seconds=6.0,
        spans=spans,
        phases=(("prepare", 0.0, 0.5), ("compile", 0.5, 3.5), (name, 3.5, 6.0)),
        cpu=((1.0, 0.5), (2.0, 0.9)),
        nodes=(node, "k1"),
        slots={node: 2, "k1": 1},
    )
    compiled = {
        "state": "done",
        "why": [f"{patch} changed (line 3)"],
        "seconds": 6.5,
        "message": f"3 objects, 1 on {node}, 2 local",
        "warnings": [f"{node} failed 1 job, which were done elsewhere"],
        "objects": 3,
        "per_node": {node: 1, "k1": 2},
        "slots": {node: 2, "k1": 1},
        "bound": {"by": "workers", "sentence": f"bounded by the slots of {node}"},
        "fallbacks": [{"object": name, "reason": f"{node} refused the connection", "node": node}],
        "local_by_design": {"incbin": 1},
        "at": 1796058899.0,
    }
    failed = {"state": "failed", "why": [f"{name} is not well"], "evidence": [name], "hint": name, "log": name}
    return Material(
        at=1796060000.0,
        root=f"/srv/{name}",
        coordinator="k1",
        tasks=(f"prepare:{node}", "patch", "compile", "package"),
        last_run={
            "result": "failed",
            "started": "2026-11-30T17:23:54+0000",
            "seconds": 8.0,
            "tasks": {"patch": {"state": "fresh"}, "compile": compiled, "package": failed},
        },
        done={
            "tasks": {
                "package": failed | {"by": f"builder@{node}"},
                "compile": compiled,
                f"prepare:{node}": {"state": "done"},
            }
        },
        manifest=_manifest("6.1.2", "b" * 64, patch, name),
        trace=trace.build(line),
        now=_published("6.1.2", "b" * 64, patch, name, f"CONFIG_{option}=y\nCONFIG_Z=y\n"),
        before=_published("6.1.1", "a" * 64, "0000-old.patch", name, f"CONFIG_{option}=m\nCONFIG_Z=y\n"),
        config=f"CONFIG_{option}=y\nCONFIG_Z=m\n",
        plan=[{"task": "package", "state": "run", "why": [f"{patch} is new"]}],
        patch={"results": {"series": [patch], "touched": {name: [patch], "fs/b.c": [patch, "other"]}}},
        patches={patch: {"subject": f"fs: {name}", "added": 3, "removed": 1}},
        nodes={
            node: {"role": "worker", "state": "left-out", "why": name, "at": 1796058000, "cores": 2, "memory": 1 << 31}
        },
        rollout={node: {"running": "6.1.1", "known_good": "6.1.1", "state": "fell back", "why": f"{name} is missing"}},
        journals={
            node: [
                {"at": "2026-11-30T17:20:02Z", "build": "b1", "state": "STAGED", "note": name},
                {"at": "2026-11-30T17:20:12Z", "build": "b1", "state": "REBOOTING", "note": ""},
                {"at": "2026-11-30T17:21:12Z", "build": "b1", "state": "FELL_BACK", "note": name},
            ]
        },
        damaged=[name],
    )


def hostile() -> Material:
    return material(f"fs/{HOSTILE}.o", HOSTILE, "Z", f"0001-{HOSTILE}.patch")


def _manifest(release: str, sha: str, patch: str, name: str) -> dict[str, Any]:
    return {
        "kernelrelease": release,
        "packages_sha256": sha,
        "build_id": "c0ffee" * 4,
        "compiler": {"text": f"gcc {name}"},
        "packages": [
            {"file": f"linux-{name}.pkg.tar.zst", "pkgname": "linux", "size": 4_000_000 if sha[0] == "a" else 4_100_000}
        ],
        "inputs": {"patch": {"files": {f"patches/{patch}": sha}}},
        "reproduce": f"doit package {name}",
    }


def _published(release: str, sha: str, patch: str, name: str, config: str) -> dict[str, Any]:
    files = {f"usr/lib/modules/{release}/{name}": [10 if sha[0] == "a" else 900, sha[:16]], f"boot/{release}": [7, "x"]}
    manifest = _manifest(release, sha, patch, name)
    return {"at": "2026-11-30T17:19:54Z", "manifest": manifest, "config": config, "files": {"linux": files}}
