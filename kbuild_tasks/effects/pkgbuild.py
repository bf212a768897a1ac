"""A PKGBUILD as bash reads it, remembered: bash is started only when something that it read has changed.

The file is shell code, and its top level runs when it is read. So it is read in an empty private directory that
holds copies of the files beside it, as the user who runs doit, with a deadline, without input and, where the kernel
allows it, without a network. What it writes by a relative path is gone afterwards.

Remembered under: the content of the PKGBUILD and of the files beside it that bash could read, of makepkg's
configuration, and of our own code. What a top level reads elsewhere (the clock, files by absolute path) does not
bring a second reading about; makepkg has no such rule either, it simply reads the file each time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache as memoised
from pathlib import Path
from typing import IO, Any

from kbuild_tasks.core import pkgbuild as core
from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.core.finding import Finding
from kbuild_tasks.core.pkgbuild import Pkgbuild, Source, check
from kbuild_tasks.effects.files import home, read_json, sha256_file, sha256_text, write_json

SCRIPT = Path(__file__).with_suffix(".sh")
SMALL = 4 << 20  # bytes; larger files beside a PKGBUILD are sources, not something that its top level reads
DEADLINE = 20.0  # seconds
TOLD = 64 << 10  # bytes of what it writes to standard error
MEANT = "its top level must set variables and functions, no more"
# Of core: what makes of bash's answer what is remembered.
CODE = ("pkgbuild.py", "finding.py", "pkgbuild_lint.py", "shelltext.py")
KEPT = ("sha256", "fields", "variables", "functions", "sources", "exported", "files", "warnings", "findings")


def load_pkgbuild(path: Path, cache: Path, arch: str) -> Pkgbuild:
    """Read and check the PKGBUILD at `path` for `arch` (makepkg's CARCH).

    cache  JSON file of ours, replaced when bash had to be asked; a damaged one does not count
    Raises ConfigError: "PKGBUILD:12: ..." for a syntax error, and for what core.pkgbuild.check() refuses.
    """
    known = read_json(cache)
    key = identity(path, arch, known.get("files", []) if isinstance(known, dict) else [])
    if isinstance(known, dict) and known.get("key") == key:
        try:
            return _restore(known["pkgbuild"], path, arch)
        except (KeyError, TypeError, ValueError):
            pass  # damaged: bash is asked again
    pkgbuild = _ask_bash(path, arch)
    check(pkgbuild)
    kept = {name: value for name, value in asdict(pkgbuild).items() if name in KEPT}
    digests = {part: pkgbuild.digest(part) for part in core.PARTS}
    files = [s.url.removeprefix("file://") for s in pkgbuild.sources if s.protocol == "file"]
    key = identity(path, arch, files)
    value = {"key": key, "files": files, "pkgbuild": {**kept, "digests": digests, "undivided": pkgbuild.undivided}}
    with contextlib.suppress(OSError):  # bash is asked again next time
        write_json(cache, value)
    return pkgbuild


def config_files() -> tuple[Path, ...]:
    """makepkg's configuration files, in the order in which makepkg reads them (makepkg.conf(5))."""
    own = Path(os.environ.get("XDG_CONFIG_HOME") or f"{home()}/.config") / "pacman" / "makepkg.conf"
    return Path("/etc/makepkg.conf"), own if os.access(own, os.R_OK) else Path(home(), ".makepkg.conf")


def identity(path: Path, arch: str, files: Iterable[str]) -> dict[str, Any]:
    """What a reading is remembered under. `files` are the file:// sources: a top level that reads one of them is asked
    again when it was replaced."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be read: {error.strerror}", f"kernel.pkgbuild in cluster.yaml names {path}"
        ) from None
    beside = {}
    for entry in os.scandir(path.parent):
        if entry.is_file() and entry.name != path.name and not entry.name.startswith("."):
            beside[entry.name] = sha256_file(Path(entry)) if entry.stat().st_size <= SMALL else entry.stat().st_size
    return {
        "sha256": sha256_text(data),
        "arch": arch,
        "beside": beside,
        "files": [_stat(file) for file in files],
        "config": [sha256_file(file) for file in config_files()],
        "directories": _directories(path.parent),
        "code": [sha256_file(file) for file in (SCRIPT, *(Path(core.__file__).with_name(name) for name in CODE))],
    }


def _stat(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _restore(kept: dict[str, Any], path: Path, arch: str) -> Pkgbuild:
    pkgbuild = Pkgbuild(
        name=path.name,
        arch=arch,
        sha256=kept["sha256"],
        fields={name: tuple(values) for name, values in kept["fields"].items()},
        variables=kept["variables"],
        functions=kept["functions"],
        sources=tuple(Source(**source) for source in kept["sources"]),
        exported=tuple(kept["exported"]),
        files=tuple(kept["files"]),
        warnings=tuple(kept["warnings"]),
        findings=tuple(Finding(**finding) for finding in kept["findings"]),
    )
    # cached properties of the frozen value: computed when it was kept, by this same code (see identity)
    digests = {part: str(kept["digests"][part]) for part in core.PARTS}
    pkgbuild.__dict__.update(_digests=digests, undivided=dict(kept["undivided"]))
    return pkgbuild


def _ask_bash(path: Path, arch: str) -> Pkgbuild:
    from kbuild_tasks.effects import makepkg

    data = path.read_bytes()
    if b"\0" in data:
        raise ConfigError(f"{path.name} is not a text file", f"kernel.pkgbuild in cluster.yaml names {path}")
    if b"\r" in data:
        line = data[: data.index(b"\r")].count(b"\n") + 1
        raise ConfigError(
            f"{path.name}:{line}: ends with CR LF, and makepkg refuses such a file", rf"sed -i 's/\r$//' {path}"
        )
    private = Path(tempfile.mkdtemp(prefix="kbuild-pkgbuild."))
    try:
        for entry in os.scandir(path.parent):
            if entry.is_file() and entry.stat().st_size <= SMALL and not entry.name.startswith("."):
                shutil.copyfile(entry, private / entry.name)
        (private / path.name).write_bytes(data)
        config = private / ".makepkg.conf"
        config.write_text(makepkg.config_text({"CARCH": arch}))
        argv: list[str | Path] = [
            *_without_network(os.geteuid()),
            "bash",
            "--norc",
            "--noprofile",
            SCRIPT,
            private / path.name,
            config,
        ]
        code, out, err = _run_bash(argv, private, path.name)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    told = [line.replace(f"{private}/", "") for line in err.splitlines() if line.strip()]
    if code == -signal.SIGXFSZ:
        raise ConfigError(f"{path.name}: its top level writes more than 16 MiB of output", MEANT)
    answer = parse_answer(out, name=path.name, sha256=sha256_text(data), arch=arch, private=str(private))
    if isinstance(answer, Pkgbuild):
        return core.with_told(answer, told, _lint(answer, data, path.parent))
    raise _unreadable(path.name, answer, told)


def _lint(pkgbuild: Pkgbuild, data: bytes, beside: Path) -> tuple[Finding, ...]:
    from kbuild_tasks.core import pkgbuild_lint

    local = [source.name for source in pkgbuild.sources if source.protocol == "local"]
    cloned = [number for number, source in enumerate(pkgbuild.sources) if source.protocol == "git"]
    return pkgbuild_lint.lint(
        data.decode("utf-8", "replace"),
        pkgbuild.functions,
        {name: text for name, text in pkgbuild.variables.items() if name not in core.OWN_SETTINGS},
        pkgbuild.runs(),
        makedepends=pkgbuild.makedepends,
        missing=[name for name in local if not (beside / name).is_file()],
        directories=_directories(beside),
        repositories=cloned not in ([], [0]),
    )


def _directories(beside: Path) -> list[str]:
    """Directories beside the PKGBUILD, without those that the user's own makepkg leaves."""
    return sorted(e.name for e in os.scandir(beside) if e.is_dir() and e.name not in ("src", "pkg", ".git"))


def _run_bash(argv: Sequence[str | Path], cwd: Path, name: str) -> tuple[int, str, str]:
    """(status, output, errors) when bash itself ended; what it left behind is ended with it.

    The output goes to files, which pkgbuild.sh limits in size: a pipe would stay open for as long as a job that the
    top level put into the background, and fill our memory. Raises ConfigError after DEADLINE.
    """
    from kbuild_tasks.effects import makepkg, shell

    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        shell.spawn(
            argv, cwd=cwd, env=makepkg.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        ) as child,
    ):
        try:
            code = child.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"{name}: bash did not come to the end of it within {DEADLINE:g} s",
                MEANT,
                evidence=_text(err, TOLD).splitlines()[:3],
            ) from None
        shell.end(child)
        return code, _text(out), _text(err, TOLD)


def _text(file: IO[bytes], limit: int = -1) -> str:
    file.seek(0)
    return file.read(limit).decode("utf-8", "backslashreplace")


def _unreadable(name: str, answer: tuple[str, ...], told: list[str]) -> KbuildError:
    """What to say when bash did not come to the end of the file."""
    if answer[0] == "missing":
        return KbuildError(f"makepkg is not installed: there is no {answer[1]}", "script/setup installs what is needed")
    for line in told:
        where, found, message = line.partition(f"{name}: line ")[2].partition(": ")
        if found and where.isdigit():
            evidence = [other for other in told if other != line]
            return ConfigError(f"{name}:{where}: {message}", f"correct line {where} of {name}", evidence=evidence)
    how = f"returns {answer[1]} when it is read" if answer[0] == "failed" else "ends the shell that reads it"
    return ConfigError(f"{name}: {how}", "makepkg could not read it either", evidence=told)


@memoised
def _without_network(euid: int) -> tuple[str, ...]:
    """The prefix that starts a program in a network namespace of its own, where this user may make one."""
    from kbuild_tasks.effects import shell

    if not shutil.which("unshare"):
        return ()
    for prefix in (("unshare", "--net"),) if euid == 0 else (("unshare", "--map-current-user", "--net"),):
        if shell.run([*prefix, "true"], check=False).code == 0:
            return prefix
    return ()


def parse_answer(out: str, *, name: str, sha256: str, arch: str, private: str) -> Pkgbuild | tuple[str, ...]:
    """Read what pkgbuild.sh printed: a Pkgbuild, or ("missing", FILE), ("failed", STATUS), ("ended",).

    private  the directory in which bash ran, another each time: written as $startdir in every value
    """
    answer = iter(out.replace(private, "$startdir").split("\0"))
    texts: dict[str, dict[str, str]] = {"before": {}, "var": {}, "fun": {}}
    fields: dict[str, list[str]] = {}
    sources: list[tuple[str, str, str, dict[str, str]]] = []
    exported: list[str] = []
    files: set[str] = set()
    ended = False
    for kind in answer:
        if kind in ("missing", "failed"):
            return kind, next(answer, "")
        if kind == "end":
            ended = True
        elif kind in texts:
            key = next(answer, "")
            texts[kind][key] = next(answer, "").rstrip("\n")
        elif kind == "field":
            fields.setdefault(next(answer, ""), []).append(next(answer, ""))
        elif kind == "source":
            sources.append((next(answer, ""), next(answer, ""), next(answer, ""), {}))
        elif kind == "sum":
            key = next(answer, "")
            sources[-1][3][key] = next(answer, "")
        elif kind == "xfun":
            exported.append(next(answer, ""))
        elif kind == "file":
            files.add(next(answer, ""))
    if not ended:
        return ("ended",)
    before, after = texts["before"], texts["var"]
    return Pkgbuild(
        name=name,
        sha256=sha256,
        arch=arch,
        fields={key: tuple(values) for key, values in fields.items()},
        variables={
            **{key: text for key, text in after.items() if before.get(key) != text},
            **{key: core.UNSET for key in before if key not in after},
        },
        functions=texts["fun"],
        sources=tuple(Source(*source) for source in sources),
        exported=tuple(exported),
        files=tuple(sorted(files)),
    )
