"""Output of real failures (gcc 12, binutils 2.40, make 4.3, Linux 6.1), and what is told of it."""

from __future__ import annotations

from kbuild_tasks.core import diagnostics
from kbuild_tasks.core.diagnostics import Problem, find

COMPILE = """\
  CC      fs/ext4/xattr.o
fs/ext4/xattr.c: In function ‘broken’:
fs/ext4/xattr.c:3163:27: error: ‘undeclared_thing’ undeclared (first use in this function)
 3163 | int broken(void) { return undeclared_thing; }
      |                           ^~~~~~~~~~~~~~~~
fs/ext4/xattr.c:3163:27: note: each undeclared identifier is reported only once for each function it appears in
fs/ext4/xattr.c:3163:45: error: control reaches end of non-void function [-Werror=return-type]
cc1: some warnings being treated as errors
make[3]: *** [scripts/Makefile.build:250: fs/ext4/xattr.o] Error 1
make[2]: *** [scripts/Makefile.build:503: fs/ext4] Error 2
make: *** [Makefile:2009: .] Error 2
""".splitlines()

HEADER = """\
In file included from ./include/linux/sched.h:14,
                 from /b/linux/kernel/fork.c:16:
./include/linux/pid.h:50:1: error: unknown type name 'strukt'
kernel/exit.c:9:1: warning: unused variable
./include/linux/pid.h:50:1: error: unknown type name 'strukt'
""".splitlines()

LINK = """\
ld: vmlinux.o: in function `cluster_init':
/b/linux/drivers/misc/cluster.c:12:(.init.text+0x5): undefined reference to `cluster_probe'
""".splitlines()

MODPOST = """\
  MODPOST Module.symvers
ERROR: modpost: "cluster_probe" [drivers/misc/cluster.ko] undefined!
make[1]: *** [scripts/Makefile.modpost:126: Module.symvers] Error 1
""".splitlines()

NO_RULE = "make[4]: *** No rule to make target 'drivers/misc/clustr.o', needed by 'drivers/misc/built-in.a'.  Stop."


def test_errors_of_the_compiler_with_file_and_line() -> None:
    assert find(COMPILE) == [
        Problem("compile", "‘undeclared_thing’ undeclared (first use in this function)", "fs/ext4/xattr.c", 3163),
        Problem("compile", "control reaches end of non-void function [-Werror=return-type]", "fs/ext4/xattr.c", 3163),
    ]
    assert diagnostics.stopped_at(COMPILE) == "fs/ext4/xattr.o: Error 1"


def test_the_patch_that_touched_the_file_comes_first() -> None:
    touched = {
        "fs/ext4/xattr.c": ["patches/0001-a.patch", "patches/0003-b.patch"],
        "fs/namei.c": ["patches/0002.patch"],
    }
    assert diagnostics.explain(COMPILE, touched) == (
        "fs/ext4/xattr.c:3163: ‘undeclared_thing’ undeclared (first use in this function) "
        "(0001-a.patch, 0003-b.patch touched it)",
        [
            "fs/ext4/xattr.c:3163: control reaches end of non-void function [-Werror=return-type] "
            "(0001-a.patch, 0003-b.patch)"
        ],
        "fix 0003-b.patch and run doit again: only what depends on it is compiled",
    )


def test_an_error_in_a_header_blames_who_touched_the_file_that_includes_it() -> None:
    problems = find(HEADER, "/b/linux")
    assert problems == [
        Problem(
            "compile",
            "unknown type name 'strukt'",
            "include/linux/pid.h",
            50,
            ("include/linux/sched.h", "kernel/fork.c"),
        )
    ]
    assert diagnostics.blame(problems[0], {"kernel/fork.c": ["patches/0004-fork.patch"]}) == ["0004-fork.patch"]
    told = diagnostics.explain(HEADER, {"kernel/fork.c": ["patches/0004-fork.patch"]}, "/b/linux")
    assert told is not None
    assert told[0] == "include/linux/pid.h:50: unknown type name 'strukt' (0004-fork.patch touched kernel/fork.c)"


def test_a_symbol_that_no_object_defines() -> None:
    assert find(LINK, "/b/linux") == [
        Problem("link", "cluster_probe is used and not defined", "drivers/misc/cluster.c")
    ]


def test_the_linker_names_a_file_without_its_directory() -> None:
    lines = ["ld: vmlinux.o: in function `init':", "cluster.c:(.init.text+0x5): undefined reference to `probe'"]
    told = diagnostics.explain(lines, {"drivers/misc/cluster.c": ["patches/0005-new.patch"]})
    assert told is not None
    assert told[0] == "cluster.c: probe is used and not defined (0005-new.patch touched what it is made from)"


def test_a_symbol_that_nothing_exports_to_a_module() -> None:
    told = diagnostics.explain(MODPOST, {"drivers/misc/cluster.c": ["patches/0005-new.patch"]})
    assert told is not None
    assert told[0] == (
        "drivers/misc/cluster.ko: cluster_probe is used and nothing exports it "
        "(0005-new.patch touched what it is made from)"
    )
    alone = diagnostics.explain(MODPOST, {})
    assert alone is not None and alone[2] is not None and "EXPORT_SYMBOL_GPL" in alone[2]


def test_a_makefile_line_for_a_file_that_is_not_there() -> None:
    told = diagnostics.explain([NO_RULE], {"drivers/misc/Makefile": ["patches/0006.patch"]})
    assert told is not None
    assert told[0].startswith(
        "drivers/misc/clustr.o: there is no drivers/misc/clustr.o, which drivers/misc/built-in.a needs"
    )
    assert "0006.patch touched" in told[0]


def test_memory_is_told_before_what_it_caused() -> None:
    lines = [*COMPILE[2:3], "gcc: fatal error: Killed signal terminated program cc1"]
    told = diagnostics.explain(lines, {})
    assert told is not None
    assert told[0] == "cc1 ran out of memory"
    assert told[2] is not None and "memory_per_job" in told[2]


def test_a_missing_header_of_the_host() -> None:
    line = "scripts/sign-file.c:25:10: fatal error: openssl/opensslv.h: No such file or directory"
    assert find([line]) == [
        Problem("compile", "openssl/opensslv.h: No such file or directory", "scripts/sign-file.c", 25)
    ]


def test_output_without_a_cause_that_we_know() -> None:
    assert diagnostics.explain(["  CC      a.o", "==> ERROR: A failure occurred in build()."], {}) is None


def test_many_errors_are_counted() -> None:
    lines = [f"a.c:{n}:1: error: e{n}" for n in range(1, 8)]
    told = diagnostics.explain(lines, {})
    assert told is not None
    assert told[1] == ["a.c:2: e2", "a.c:3: e3", "a.c:4: e4", "and 3 more"]
