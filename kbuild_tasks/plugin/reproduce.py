"""`doit reproduce`: the packages of artifacts/manifest.json made once more, in a fresh place, and compared.

    build/reproduce/project   the inputs as the manifest names them, each held against its sum
    build/reproduce/work      what the rebuild sees as workdir, and state as what is beside it

Status 0: the same bytes. 1: other bytes, or what lies in artifacts/ is not what the manifest names; each difference is
told. 2: it could not be tried; what is not to be had any more is told first, by name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doit.cmd_base import DoitCmdBase

from kbuild_tasks.core import reproduce as core
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.fingerprint import MISSING
from kbuild_tasks.core.visible import visible
from kbuild_tasks.plugin.stream import guarded
from kbuild_tasks.plugin.usage import Usage

SAME, OTHER, UNTRIED = 0, 1, 2
Tell = Callable[[str], None]


class Reproduce(Usage, DoitCmdBase):
    """`doit reproduce [--anyway]`"""

    name = "reproduce"
    doc_purpose = "make the packages of artifacts/manifest.json once more in a fresh place, and compare each byte"
    doc_usage = "[--anyway]"
    doc_description = None
    cmd_options = (
        {
            "name": "anyway",
            "short": "",
            "long": "anyway",
            "type": bool,
            "default": False,
            "help": "go on with what is here where an input of the manifest is not to be had any more",
        },
    )

    def execute(self, params: Any, args: list[str]) -> Any:
        from kbuild_tasks.plugin.commands import refused

        return refused(self.name, args) or super().execute(params, args)

    @guarded
    def _execute(self, anyway: bool) -> int:
        from kbuild_tasks.effects.files import unreadable
        from kbuild_tasks.plugin.tasks import current

        pipeline = current()

        def tell(line: str) -> None:
            self.outstream.write(visible(line) + "\n")
            self.outstream.flush()  # the rebuild writes to the same place

        try:
            return reproduce(pipeline, anyway, tell)
        except KbuildError as error:
            tell(error.render())
        except OSError as error:
            tell(unreadable(error).render())
        return UNTRIED


def reproduce(pipeline: Any, anyway: bool, tell: Tell) -> int:
    """Raises KbuildError where it cannot be tried."""
    from kbuild_tasks.effects import makepkg, startdir
    from kbuild_tasks.effects.files import read_json, sha256_file

    makepkg.refuse_root()
    os.umask(0o022)
    paths = pipeline.project.paths
    file = paths.artifacts / "manifest.json"
    if not file.is_file():
        raise KbuildError("artifacts/manifest.json is not there", "doit makes the packages and their manifest")
    want = core.wanted(read_json(file), "artifacts/manifest.json")
    pipeline.take_lock()
    top = paths.build / "reproduce"
    startdir.remove_tree(top)
    tampered = [name for name, total in want.packages.items() if sha256_file(paths.artifacts / name) != total]
    for name in tampered:
        there = (paths.artifacts / name).is_file()
        tell(f"  artifacts/{name} is {'not the one that the manifest names' if there else 'not there'}")
    spec, lacking = _prepare(pipeline, want, top, tell)
    if lacking:
        tell(f"  {len(lacking)} of what the manifest names {'is' if len(lacking) == 1 else 'are'} not to be had here:")
        for line in lacking:
            tell(f"    {line}")
    if spec is None or (lacking and not anyway):
        tell("  not tried" + ("" if spec is None else "; doit reproduce --anyway shows what comes of it"))
        return UNTRIED
    if _rebuild(top, spec, tell) != 0:
        tell("  the packages could not be made once more")
        return UNTRIED
    made = {path.name: sha256_file(path) or "" for path in (top / "project/artifacts").glob(f"*{makepkg.PKGEXT}")}
    same, other = core.verdict(want, made)
    for name in same:
        tell(f"  same   {name}  sha256 {want.packages[name]}")
    for name in other:
        _differences(name, want, paths.artifacts / name, top, name in tampered, tell)
    for name in tampered:
        if name in same and (paths.artifacts / name).is_file():
            tell(f"  made once more it is the manifest's, so artifacts/{name} was changed since:")
            _members(paths.artifacts / name, top / "project/artifacts" / name, top, tell)
    for name in ("work", "state"):
        startdir.remove_tree(top / name)
    if not other and not tampered:
        startdir.remove_tree(top)
        return SAME
    return OTHER


def _prepare(pipeline: Any, want: core.Wanted, top: Path, tell: Tell) -> tuple[dict[str, Any] | None, list[str]]:
    """(what the rebuild is told, None where it cannot even begin; what is not to be had)"""
    from kbuild_tasks.effects import fresh, tools
    from kbuild_tasks.effects.files import make_directory, read_record, write_atomic
    from kbuild_tasks.effects.project import Project
    from kbuild_tasks.plugin.rebuild import alone
    from kbuild_tasks.plugin.tasks import _inputs

    paths, cluster = pipeline.project.paths, pipeline.project.cluster
    project = top / "project"
    source = fresh.of_commit(paths, want.commit, cluster.source) or (paths.root / cluster.source).read_bytes()
    write_atomic(project / cluster.source, source, durable=False)
    files = {**want.files, cluster.kernel.pkgbuild: want.pkgbuild}
    lacking = [f"{symbol}: with it no two builds are the same bytes" for symbol in want.unreproducible]
    missing = fresh.gather(paths, project, {k: v for k, v in files.items() if v != MISSING}, want.commit)
    if missing:
        return None, [*lacking, *missing]  # no project without its files
    loaded = Project.load(project / cluster.source).cluster
    reproducible = "reproducible" in want.inputs["configure"].get("values", {})
    again = Project(alone(loaded, want.workdir, reproducible))
    from kbuild_tasks.effects.receipts import Receipts

    for stage in core.STAGES:
        lines = core.lacking(want, stage, Receipts(again.paths).now(_inputs(again, stage)))
        lacking += [line for line in lines if line not in lacking]
    gone = fresh.missing_sources(again.pkgbuild, (project / loaded.kernel.pkgbuild).parent, paths.sources)
    lacking += core.told(gone)
    for line in core.other_tools(want, tools.packing()):
        tell(f"  note: what packs is not what it was: {line}")
    binds = []
    if paths.sources.is_dir():
        binds.append([str(paths.sources), str(top / "state" / "sources")])
    for name, place in (("work", again.paths.workdir), ("state", again.paths.state)):
        (top / name).mkdir(parents=True)
        binds.append([str(top / name), str(place)])
        make_directory(place)
    (top / "state" / "sources").mkdir()
    facts = read_record(paths.facts(cluster.build.coordinator)).get("facts")
    return {
        "cluster": str(project / cluster.source),
        "workdir": want.workdir,
        "reproducible": reproducible,
        "binds": binds,
        "facts": facts if isinstance(facts, dict) and facts else _own_facts(),
        "results": dict(want.results),
    }, lacking


def _own_facts() -> dict[str, int]:
    page = os.sysconf("SC_PAGE_SIZE")
    memory = page * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count() or 1, "memory": memory, "available": page * os.sysconf("SC_AVPHYS_PAGES")}


def _rebuild(top: Path, spec: dict[str, Any], tell: Tell) -> int:
    from kbuild_tasks.effects import shell
    from kbuild_tasks.effects.files import write_json

    write_json(top / "spec.json", spec, durable=False)
    package = str(Path(__file__).parent.parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))}
    argv = [sys.executable, "-m", "kbuild_tasks.plugin.rebuild", str(top / "spec.json")]
    return shell.run_lines(argv, tell, cwd=top, env=env, log=top / "log")


def _differences(name: str, want: core.Wanted, old: Path, top: Path, tampered: bool, tell: Tell) -> None:
    """What is known of a package that came out otherwise."""
    new = top / "project/artifacts" / name
    if name not in want.packages:
        tell(f"  other  {name}  the manifest has no such package")
    elif not new.is_file():
        tell(f"  other  {name}  was not made")
    else:
        tell(f"  other  {name}")
        if tampered:
            tell("         the package of the manifest is not there to be compared")
        else:
            _members(old, new, top, tell)
        tell(f"         the one made now: {os.path.relpath(new)}")


def _members(old: Path, new: Path, top: Path, tell: Tell) -> None:
    from kbuild_tasks.effects.package_members import compare

    try:
        lines = compare(old, new, top / "scratch")
    except KbuildError as error:
        lines = [error.message]
    for line in lines:
        tell(f"         {line}")
