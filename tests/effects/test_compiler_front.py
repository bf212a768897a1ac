"""The compiler front, run by a real sh: what goes to distcc, what to the compiler, and what is recorded.

The compiler and distcc here are scripts that write down what they were given.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.compiler import compilers, identity, make_front

TOOL = """#!/bin/sh
{{ printf '%s' "{name}"; printf ' <%s>' "$@"; echo; }} >>"$CALLS"
{then}
"""
KERNEL = ["-Wp,-MMD,a.d", "-nostdinc", "-I./include", "-include", "./include/linux/kconfig.h", "-D__KERNEL__", "-O2"]
COMPILE = [*KERNEL, "-c", "-o", "fs/a.o", "fs/a.c"]
EXTRA = ' <-fdirectives-only> <-Wno-builtin-macro-redefined> <-D__BASE_FILE__="fs/a.c">'


class Bench:
    def __init__(self, top: Path) -> None:
        self.top, self.calls, self.record = top, top / "calls", top / "record"
        self.real = top / "real"
        self.real.mkdir()
        self.tool("gcc")
        self.tool("distcc")
        self.front = make_front(top / "a front", str(self.real))

    def tool(self, name: str, then: str = "") -> None:
        path = self.real / name
        path.write_text(TOOL.format(name=name, then=then))
        path.chmod(0o755)

    def __call__(
        self, *args: str, path: str | None = None, hosts: str = "h/1", recorded: bool = True, **more: str
    ) -> int:
        env = {
            **more,
            "PATH": path or f"{self.front}:{self.real}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "KBUILD_TASKS_WORKERS": hosts,
        }
        if recorded:
            env["KBUILD_TASKS_RECORD"] = str(self.record)
        return subprocess.run(["gcc", *args], env=env, executable=None, cwd=self.top).returncode

    def said(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def noted(self) -> str:
        return self.record.read_text() if self.record.exists() else ""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setenv("PATH", f"{made.front}:/usr/bin:/bin")  # subprocess looks the program up here
    return made


def shown(args: list[str]) -> str:
    return "".join(f" <{arg}>" for arg in args)


def test_kernel_c_goes_to_distcc(bench: Bench) -> None:
    assert bench(*COMPILE) == 0
    assert bench.said() == [f"distcc <gcc>{shown(COMPILE)}{EXTRA}"]
    assert bench.noted() == "far\t\tfs/a.o\n"


@pytest.mark.parametrize(
    ("hosts", "what", "distcc"),
    [
        ("h/1", ["began", "ended"], ""),
        ("", ["began"], ""),
        ("h/1", ["began"], "exit 116"),
        ("h/1", ["began", "ended"], '[ "$(wc -l <"$CALLS")" -ge 2 ] || exit 103'),
    ],
)
def test_times_are_written_where_they_are_asked_for(bench: Bench, hosts: str, what: list[str], distcc: str) -> None:
    """What a compiler here is left to make takes the front's place: its end is the object's time of writing."""
    bench.tool("distcc", distcc)
    times = bench.top / "times"
    env = {"PATH": f"{bench.front}:{bench.real}:/usr/bin:/bin", "CALLS": str(bench.calls)}
    env |= {"KBUILD_TASKS_WORKERS": hosts, "KBUILD_TASKS_RECORD": str(bench.record), "KBUILD_TASKS_TIMES": str(times)}
    before = float(Path("/proc/uptime").read_text().split()[0])
    assert subprocess.run(["gcc", *COMPILE], env=env, cwd=bench.top).returncode == 0
    after = float(Path("/proc/uptime").read_text().split()[0])
    lines = [line.split("\t") for line in times.read_text().splitlines()]
    assert [(word, name) for word, _, name in lines] == [(word, "fs/a.o") for word in what]
    assert before <= float(lines[0][1]) <= float(lines[-1][1]) <= after
    assert bench("--version") == 0
    assert len(times.read_text().splitlines()) == len(what)


def test_without_workers_the_compiler_gets_the_same_arguments(bench: Bench) -> None:
    assert bench(*COMPILE, hosts="") == 0
    assert bench.said() == [f"gcc{shown(COMPILE)}{EXTRA}"]
    assert bench.noted() == "here\talone\tfs/a.o\n"


@pytest.mark.parametrize(
    "args",
    [
        ["--version"],
        ["-E", "-D__KERNEL__", "-c", "-o", "a.o", "a.c"],
        ["-D__KERNEL__", "-S", "-o", "bounds.s", "bounds.c"],
        ["-D__KERNEL__", "-c", "-o", "a.o", "a.S"],
        ["-D__KERNEL__", "-D__ASSEMBLY__", "-c", "-o", "head.o", "head.S"],
        ["-D__KERNEL__", "-c", "-x", "c", "/dev/null", "-o", "tmp.o"],
        ["-D__KERNEL__", "-Werror", "-c", "-o", "tmp", "-xc", "-"],
        ["-O2", "-c", "-o", "scripts/kallsyms.o", "scripts/kallsyms.c"],
        ["-o", "scripts/kallsyms", "scripts/kallsyms.o"],
        ["-D__KERNEL__", "-c", "-o", "conftest.o", "conftest.c"],
        ["-D__KERNEL__", "-c", "-o", "a.o", "a.c", "b.c"],
        ["-D__KERNEL__", "-c", "a.c"],
        ["@response", "-D__KERNEL__", "-c", "-o", "a.o", "a.c"],
        [],
    ],
)
def test_everything_else_goes_to_the_compiler_as_it_is(bench: Bench, args: list[str]) -> None:
    assert bench(*args) == 0
    assert bench.said() == [f"gcc{shown(args)}" if args else "gcc <>"]
    assert bench.noted() == ""


@pytest.mark.parametrize(
    ("arg", "why"),
    [
        ("-fplugin=./scripts/gcc-plugins/latent.so", "plugin"),
        ("-fplugin-arg-x-y", "plugin"),
        ("-march=native", "native"),
        ("-mtune=native", "native"),
        ("-gsplit-dwarf", "split-dwarf"),
        ("-fprofile-arcs", "profile"),
        ("-ftest-coverage", "profile"),
        ("-save-temps", "side-file"),
        ("-fstack-usage", "side-file"),
        ("-fdump-tree-all", "side-file"),
        ("-Wa,-adhln", "assembler-file"),
        ("-Wa,arch/x86/macros.s", "assembler-file"),
        ("-specs=x.specs", "specs"),
    ],
)
def test_what_distcc_would_get_wrong_is_compiled_here(bench: Bench, arg: str, why: str) -> None:
    assert bench(arg, *COMPILE) == 0
    assert bench.said() == [f"gcc <{arg}>{shown(COMPILE)}{EXTRA}"]
    assert bench.noted() == f"here\t{why}\tfs/a.o\n"


@pytest.mark.parametrize("arg", ["-Wunused-macros", "-g3"])
def test_what_does_not_go_with_unexpanded_macros_is_compiled_here_without(bench: Bench, arg: str) -> None:
    assert bench(arg, *COMPILE) == 0
    assert bench.said() == [f"gcc <{arg}>{shown(COMPILE)}"]
    assert bench.noted() == "here\tmacros\tfs/a.o\n"


@pytest.mark.parametrize("source", ["kernel/configs.c", "./kernel/kheaders.c", "/b/linux/kernel/configs.c"])
def test_an_object_that_includes_a_file_by_assembly_is_compiled_here(bench: Bench, source: str) -> None:
    assert bench(*KERNEL, "-c", "-o", "x.o", source) == 0
    assert bench.noted() == "here\tincbin\tx.o\n"


@pytest.mark.parametrize(
    "arg",
    [
        "-march=armv8-a",
        "-mtune=generic",
        "-fshort-wchar",
        "-gdwarf-5",
        "-fstack-protector",
        "-fpatchable-function-entry=5",
        "-ftrivial-auto-var-init=zero",
        "-Wa,-mno-warn-deprecated",
        "-falign-jumps=1",
        "-fdata-sections",
        "-Wundef",
        "-Wp,-D_FORTIFY_SOURCE=2",
        "-pg",
        "-mfentry",
    ],
)
def test_flags_of_ordinary_kernels_do_not_keep_an_object_here(bench: Bench, arg: str) -> None:
    assert bench(arg, *COMPILE) == 0
    assert bench.noted() == "far\t\tfs/a.o\n"


HOSTILE = ["a b", "$(touch pwned)", "`touch pwned`", "'; touch pwned; '", '"x"', "a\\b", "*", "-n", "ä", "a\nb", ""]


@pytest.mark.parametrize("text", HOSTILE)
def test_arguments_arrive_as_they_were(bench: Bench, text: str) -> None:
    for hosts in ("h/1", ""):
        bench.calls.unlink(missing_ok=True)
        bench(f"-DX={text}", *COMPILE, hosts=hosts)
        assert f"<-DX={text}>" in bench.calls.read_text()
    assert not (bench.top / "pwned").exists()


@pytest.mark.parametrize("name", ['a"b.c', "a\\b.c", "a b.c", "$(touch pwned).c"])
def test_a_source_whose_name_is_no_c_string_is_compiled_here(bench: Bench, name: str) -> None:
    assert bench(*KERNEL, "-c", "-o", "x.o", name) == 0
    assert bench.said() == [f"gcc{shown([*KERNEL, '-c', '-o', 'x.o', name])}"]
    assert bench.noted() == "here\tname\tx.o\n"
    assert not (bench.top / "pwned").exists()


def test_workers_of_another_architecture_are_asked_by_the_full_name(bench: Bench) -> None:
    assert bench(*COMPILE, KBUILD_TASKS_CC="gcc", KBUILD_TASKS_FAR="x86_64-linux-gnu-gcc") == 0
    assert bench.said() == [f"distcc <x86_64-linux-gnu-gcc>{shown(COMPILE)}{EXTRA}"]
    assert bench.noted() == "far\t\tfs/a.o\n"


def test_a_compiler_that_no_worker_was_asked_for_is_not_sent(bench: Bench) -> None:
    assert bench(*COMPILE, KBUILD_TASKS_CC="aarch64-linux-gnu-gcc") == 0
    assert bench.said() == [f"gcc{shown(COMPILE)}{EXTRA}"]
    assert bench.noted() == "here\tcompiler\tfs/a.o\n"


def test_an_error_of_the_compiler_is_final(bench: Bench) -> None:
    bench.tool("distcc", "exit 1")
    assert bench(*COMPILE) == 1
    assert len(bench.said()) == 1


def test_a_client_that_was_ended_is_started_again(bench: Bench) -> None:
    bench.tool("distcc", '[ "$(wc -l <"$CALLS")" -ge 2 ] || kill -TERM $$')
    assert bench(*COMPILE) == 0
    assert [line.split()[0] for line in bench.said()] == ["distcc", "distcc"]
    assert bench.noted() == "far\t\tfs/a.o\nlost\t143\tfs/a.o\n"


def test_a_distcc_that_cannot_work_does_not_stop_the_build(bench: Bench) -> None:
    bench.tool("distcc", "exit 116")
    assert bench(*COMPILE) == 0
    assert [line.split()[0] for line in bench.said()] == ["distcc", "distcc", "distcc", "gcc"]
    (bench.real / "distcc").unlink()
    bench.calls.unlink()
    assert bench(*COMPILE, path=f"{bench.front}:{bench.real}") == 0
    assert bench.said() == [f"gcc{shown(COMPILE)}{EXTRA}"]


def test_outside_of_a_build_the_front_does_nothing(bench: Bench) -> None:
    assert bench(*COMPILE, recorded=False) == 0
    assert bench.said() == [f"gcc{shown(COMPILE)}"]


@pytest.mark.parametrize("path", ["{real}:{front}:/usr/bin:/bin", "/nowhere:{front}:{real}:/usr/bin:/bin"])
def test_the_front_finds_the_compiler_wherever_it_stands_itself(bench: Bench, path: str) -> None:
    env = {"PATH": path.format(front=bench.front, real=bench.real), "CALLS": str(bench.calls)}
    done = subprocess.run([bench.front / "gcc", "-v"], env=env)
    assert done.returncode == 0
    assert bench.said() == ["gcc <-v>"]


def test_which_names_are_compilers(tmp_path: Path) -> None:
    for name in (
        "gcc",
        "cc",
        "gcc-12",
        "aarch64-linux-gnu-gcc",
        "arm-linux-gnueabihf-gcc-12",
        "gcc-ar",
        "gcc-nm-12",
        "c89-gcc",
        "g++",
        "clang",
        "gccgo",
        "x86_64-pc-linux-gnu-gcc-13.2.1",
        "distcc",
    ):
        (tmp_path / name).touch()
    assert compilers(f"{tmp_path}:/nowhere::") == [
        "aarch64-linux-gnu-gcc",
        "arm-linux-gnueabihf-gcc-12",
        "cc",
        "gcc",
        "gcc-12",
        "x86_64-pc-linux-gnu-gcc-13.2.1",
    ]


def test_a_front_that_is_right_keeps_its_time_and_strange_files_go(bench: Bench) -> None:
    front = bench.front / "gcc"
    os.utime(front, (1, 1))
    (bench.front / "old-gcc").write_text("x")
    make_front(bench.front, str(bench.real))
    assert front.stat().st_mtime == 1
    assert sorted(os.listdir(bench.front)) == [".check", ".miss", "gcc"]
    front.write_text("damaged")
    make_front(bench.front, str(bench.real))
    assert front.read_text().startswith("#!/bin/sh\n")
    assert stat.S_IMODE(front.stat().st_mode) & 0o111


def test_a_directory_that_path_cannot_name(tmp_path: Path) -> None:
    with pytest.raises(KbuildError, match="cannot have a colon"):
        make_front(tmp_path / "a:b", "/usr/bin")


def test_identity_starts_nothing_while_the_compiler_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "compiler.json"
    first = identity(cache)
    assert set(first) == {"version", "machine", "binutils", "text"}
    assert all(first.values())
    assert first["version"] in first["text"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("kbuild_tasks.effects.shell.run", never)
    assert identity(cache) == first
    text = cache.read_text()
    cache.write_text(text.replace('"cc1": [\n   "', '"cc1": [\n   "/nowhere'))
    with pytest.raises(AssertionError, match="started"):
        identity(cache)
    cache.write_text("{")
    with pytest.raises(AssertionError, match="started"):
        identity(cache)


def test_no_compiler(tmp_path: Path) -> None:
    with pytest.raises(KbuildError, match="no-such-gcc is not installed"):
        identity(tmp_path / "c.json", "no-such-gcc")


@pytest.mark.parametrize(
    ("flags", "text"), [(["-g"], True), (["-gdwarf-5"], True), (["-g", "-g0"], False), ([], False)]
)
@pytest.mark.parametrize("hosts", ["h/1", ""])
def test_debug_information_brings_the_text_before_the_compiler(
    bench: Bench, hosts: str, flags: list[str], text: bool
) -> None:
    """distcc, which may fall back, and the compiler are called with it first in PATH."""
    called = "distcc" if hosts else "gcc"
    bench.tool(called, 'echo "$PATH" >>"$CALLS"')
    (bench.front.with_name("a front.text") / "gcc").unlink()  # the tool itself is asked, not what stands before it
    assert bench(*KERNEL, *flags, "-c", "-o", "fs/a.o", "fs/a.c", hosts=hosts) == 0
    first = bench.said()[-1].partition(":")[0]
    assert (first == f"{bench.front}.text") == text


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/a.h").write_text("int level = __INCLUDE_LEVEL__;\n")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/gcc").write_text('#!/bin/sh\nprintf "%s\\n" "$*" >>calls\nexec /usr/bin/gcc "$@"\n')
    (tmp_path / "real/gcc").chmod(0o755)
    (tmp_path / "fs/a.c").write_text('#include "a.h"\nconst char *base = __BASE_FILE__, *file = __FILE__;\n')
    (tmp_path / "t").mkdir()
    return tmp_path


def made(top: Path, how: str, *args: str) -> tuple[int, str]:
    """Status and standard error of the real gcc, called through text.sh (how: "text") or by itself."""
    real = f"{top / 'real'}:/usr/bin:/bin"
    path = f"{make_front(top / 'f', real)}.text:{real}" if how == "text" else real
    env = {"PATH": path, "TMPDIR": str(top / "t"), "LC_ALL": "C"}
    done = subprocess.run(["/bin/sh", "-c", 'gcc "$@"', "sh", *args], env=env, cwd=top, capture_output=True, text=True)
    return done.returncode, done.stderr


FLAGS = ["-Wp,-MMD,a.d", "-D__KERNEL__", "-O2", "-g", "-fdirectives-only", "-Wno-builtin-macro-redefined",
         '-D__BASE_FILE__="fs/a.c"']  # fmt: skip


def test_an_object_of_its_text_is_what_a_worker_makes(sources: Path) -> None:
    assert made(sources, "text", *FLAGS, "-c", "-o", "fs/a.o", "fs/a.c") == (0, "")
    here = (sources / "fs/a.o").read_bytes()
    depends = (sources / "a.d").read_text()
    assert "fs/a.h" in depends and depends.startswith("a.o:")
    assert list((sources / "t").iterdir()) == []
    # by hand, as distcc does it
    assert made(sources, "plain", *FLAGS, "-E", "-o", "far.i", "fs/a.c") == (0, "")
    far = [flag for flag in FLAGS if not flag.startswith(("-Wp,", "-D"))]
    assert made(sources, "plain", *far, "-c", "-o", "far.o", "far.i") == (0, "")
    assert here == (sources / "far.o").read_bytes()
    assert (sources / "a.d").read_text() == depends
    first, second = (sources / "calls").read_text().splitlines()[:2]
    flags = " ".join(FLAGS)
    assert re.sub(r"[0-9]+\.i", "N.i", first) == f"{flags} fs/a.c -E -o {sources}/t/text.N.i"
    assert re.sub(r"[0-9]+\.i", "N.i", second) == f"{flags} -c -o fs/a.o {sources}/t/text.N.i"


@pytest.mark.parametrize("wrong", ["#error no\n", "int f(void) { return g(); }\n"])
def test_what_fails_in_either_step_fails(sources: Path, wrong: str) -> None:
    (sources / "fs/a.c").write_text(wrong)
    status, said = made(sources, "text", *FLAGS, "-Werror=implicit-function-declaration", "-c", "-o", "x.o", "fs/a.c")
    assert status == 1 and "fs/a.c:1" in said
    assert not (sources / "x.o").exists() and list((sources / "t").iterdir()) == []


@pytest.mark.parametrize("args", [["--version"], ["-E", "fs/a.c"], ["-S", "-o", "a.s", "fs/a.c"], ["-c", "far.i"]])
def test_what_is_no_compile_of_a_source_goes_to_the_compiler(sources: Path, args: list[str]) -> None:
    (sources / "far.i").write_text("int x;\n")
    assert made(sources, "text", *args) == made(sources, "plain", *args)
    assert list((sources / "t").iterdir()) == []


@pytest.mark.parametrize(("flags", "text"), [(["-g"], True), ([], False)])
@pytest.mark.parametrize("hosts", ["h/1", ""])
def test_what_ccache_lacks_is_made_of_its_text_too(bench: Bench, hosts: str, flags: list[str], text: bool) -> None:
    """ccache itself is called as ever: it looks for the compiler in PATH, and for what that is."""
    called = "distcc" if hosts else "gcc"
    bench.tool("ccache", f'echo "$PATH" >>"$CALLS"; exec "{bench.front}/.miss" "$@"')
    bench.tool(called, 'echo "$PATH" >>"$CALLS"')
    (bench.front.with_name("a front.text") / "gcc").unlink()
    args = [*KERNEL, *flags, "-c", "-o", "fs/a.o", "fs/a.c"]
    assert bench(*args, hosts=hosts, KBUILD_TASKS_CCACHE="1") == 0
    of_ccache, of_tool = (line.partition(":")[0] for line in bench.said() if line.startswith("/"))
    assert of_ccache == str(bench.real)
    assert (of_tool == f"{bench.front}.text") == text


PROBE = ["-Werror", "-Wno-stringop-overflow", "-c", "-x", "c", "/dev/null", "-o", "tmp"]
DIES = """echo x >>"$CALLS.asked"
killed="gcc: fatal error: Killed signal terminated program cc1"
[ "$(wc -l <"$CALLS.asked")" -gt "$KILLS" ] || { echo "$killed" >&2; exit 1; }
echo answer; echo warning >&2"""


@pytest.mark.parametrize("kills", [0, 1, 2])
def test_a_question_that_was_killed_is_asked_again(bench: Bench, kills: int, capfd: pytest.CaptureFixture[str]) -> None:
    """kbuild would take it for a "no", and make every object without the option."""
    bench.tool("gcc", DIES)
    assert bench(*PROBE, KILLS=str(kills)) == 0
    assert len(bench.said()) == kills + 1 and bench.noted() == ""
    assert capfd.readouterr() == ("answer\n", "warning\n")


def test_one_that_is_killed_for_good_is_written_down(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.tool("gcc", DIES)
    assert bench(*PROBE, KILLS="3") == 1
    assert len(bench.said()) == 3 and bench.noted() == "dead\t1\tgcc\n"
    assert "Killed signal terminated program cc1" in capfd.readouterr().err


def test_the_driver_itself_was_killed(bench: Bench) -> None:
    bench.tool("gcc", "kill -9 $$")
    assert bench("-S", "-x", "c", "/dev/null", "-o", "/dev/null") == 137
    assert len(bench.said()) == 3 and bench.noted() == "dead\t137\tgcc\n"


def test_what_reads_its_standard_input_is_asked_once(bench: Bench) -> None:
    bench.tool("gcc", DIES)
    assert bench("-S", "-x", "c", "-", "-o", "-", KILLS="1") == 1
    assert len(bench.said()) == 1 and bench.noted() == "dead\t1\tgcc\n"


def test_a_no_is_an_answer(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.tool("gcc", "echo 'gcc: error: unrecognized command-line option' >&2; exit 1")
    assert bench(*PROBE) == 1
    assert len(bench.said()) == 1 and bench.noted() == ""
    assert "unrecognized" in capfd.readouterr().err
