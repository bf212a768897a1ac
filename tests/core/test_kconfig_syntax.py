"""Lines of a configuration: what is a request, what is none, and what is refused with its place."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.kconfig_syntax import Request, parse, parse_config, required, same, unquote

GOOD = [
    ("CONFIG_A=y", [("A", "y")]),
    ("CONFIG_A=m\n", [("A", "m")]),
    ("CONFIG_A=n", [("A", "n")]),
    ("# CONFIG_A is not set", [("A", "n")]),
    ("CONFIG_NR_CPUS=8", [("NR_CPUS", "8")]),
    ("CONFIG_OFFSET=-5", [("OFFSET", "-5")]),
    ("CONFIG_START=0x1000000", [("START", "0x1000000")]),
    ('CONFIG_NAME="(none)"', [("NAME", '"(none)"')]),
    ('CONFIG_LOCALVERSION=""', [("LOCALVERSION", '""')]),
    ('CONFIG_LOCALVERSION="-cluster1"', [("LOCALVERSION", '"-cluster1"')]),
    (
        'CONFIG_CMDLINE="dyndbg=\\"file a.c +p; file b.c +p\\""',
        [("CMDLINE", '"dyndbg=\\"file a.c +p; file b.c +p\\""')],
    ),
    ('CONFIG_EXTRA_FIRMWARE="a.bin b/c.bin"', [("EXTRA_FIRMWARE", '"a.bin b/c.bin"')]),
    ("CONFIG_A=y\r\nCONFIG_B=n\r\n", [("A", "y"), ("B", "n")]),
    ("CONFIG_A=y   ", [("A", "y")]),
    ("\n\n# a heading\n#\n## CONFIG_A=y switched off by hand\n#CONFIG_A=y\n", []),
    ("# this is not set by anyone\n# what is not set stays\n", []),
    ("CONFIG_4KSTACKS=y\nCONFIG_snd_x=m", [("4KSTACKS", "y"), ("snd_x", "m")]),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_reads_what_kconfig_reads(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(r.symbol, r.value) for r in parse(text, "f.config")] == expected


BAD = [
    ("CONFIG_A = y", "write CONFIG_A=y"),
    (" CONFIG_A=y", "write CONFIG_A=y"),
    ("A=y", "write CONFIG_A=y"),
    ("CONFIG_A=yes", "write CONFIG_A=y"),
    ("CONFIG_A=Y", "write CONFIG_A=y"),
    ("CONFIG_A=module", "write CONFIG_A=m"),
    ("CONFIG_A=", "# CONFIG_A is not set"),
    ("CONFIG_A", "asks for nothing"),
    ("CONFIG_A=y # for k3s", "on a line of its own"),
    ('CONFIG_A="x" # for k3s', "on a line of its own"),
    ("CONFIG_A=8 # cores", "on a line of its own"),
    ("CONFIG_A=-foo", 'needs quotes: "-foo"'),
    ("CONFIG_A=ttyS0", 'needs quotes: "ttyS0"'),
    ('CONFIG_A="open', "closing quote"),
    ('CONFIG_A="x\\"', "closing quote"),
    ("#CONFIG_A is not set", "write # CONFIG_A is not set"),
    ("#  CONFIG_A is not set", "write # CONFIG_A is not set"),
    ("# CONFIG_A is not set, too slow", "write # CONFIG_A is not set"),
    ("# OVERLAY_FS is not set", "write # CONFIG_OVERLAY_FS is not set"),
    ("  # CONFIG_A is not set", "write # CONFIG_A is not set"),
    ("\ufeffCONFIG_A=y", "byte order mark"),
    ("<<<<<<< HEAD", "asks for nothing"),
    ("CONFIG_A-B=y", "asks for nothing"),
    ("CONFIG_=y", "kconfig ignores"),
    ("+CONFIG_A=y", "asks for nothing"),
    ("export CONFIG_A=y", "asks for nothing"),
    ("source other.config", "asks for nothing"),
    ("CONFIG_A=0x", "needs quotes"),
    ("CONFIG_Ü=y", "asks for nothing"),
]


@pytest.mark.parametrize(("line", "says"), BAD)
def test_refuses_what_kconfig_ignores_or_misreads(line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"# heading\nCONFIG_GOOD=y\n{line}\n", "10-k3s.config")
    assert len(caught.value.evidence) == 1
    assert caught.value.evidence[0].startswith("10-k3s.config:3: ")
    assert says in caught.value.evidence[0]


def test_every_bad_line_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("A=y\nCONFIG_B=y\nC\n", "f.config")
    assert [line.split(": ")[0] for line in caught.value.evidence] == ["f.config:1", "f.config:3"]
    assert "2 lines" in caught.value.message


HOSTILE = [
    'CONFIG_LOCALVERSION="$(touch /tmp/x)"',
    'CONFIG_LOCALVERSION="$(shell touch /tmp/x)"',
    'CONFIG_SYSTEM_TRUSTED_KEYS="${shell touch /tmp/x}"',
    'CONFIG_DEFAULT_HOSTNAME="`touch /tmp/x`"',
    'CONFIG_LOCALVERSION="-a;touch /tmp/x"',
    'CONFIG_LOCALVERSION="-a b"',
    'CONFIG_LOCALVERSION="-a/../b"',
    'CONFIG_LOCALVERSION="\\"; rm -rf ~; \\""',
    'CONFIG_LOCALVERSION=""; rm -rf ~',
    'CONFIG_LOCALVERSION="; rm -rf',
    "CONFIG_LOCALVERSION=$(touch /tmp/x)",
    "CONFIG_A=y; touch /tmp/x",
    "CONFIG_A=$(shell touch /tmp/x)",
    'CONFIG_EXTRA_FIRMWARE="a|touch /tmp/x"',
    'CONFIG_EXTRA_FIRMWARE="a & touch /tmp/x"',
    'CONFIG_EXTRA_FIRMWARE="a > /etc/passwd"',
    'CONFIG_EXTRA_FIRMWARE="a\'b"',
    'CONFIG_EXTRA_FIRMWARE="a # b"',
    'CONFIG_EXTRA_FIRMWARE="a\\\\"',
    'CONFIG_EXTRA_FIRMWARE="a\tb\x1b[2J"',
    'CONFIG_CMDLINE="root=$(shell touch /tmp/x)"',
    'CONFIG_CMDLINE="root=`id`"',
    'CONFIG_CMDLINE="a\rb"',
    'CONFIG_A="\x00"',
    "$(shell touch /tmp/x)",
    "CONFIG_A$(shell touch /tmp/x)=y",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_refuses_what_make_or_a_shell_would_run(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(line, "f.config")
    told = caught.value.render()
    assert "f.config:1: " in told
    assert all(c.isprintable() or c == "\n" for c in told)


SAME = [
    ("y", "y", True),
    ("y", "m", False),
    ("10", "10", True),
    ("010", "10", True),
    ("10", "0x10", False),
    ("0x0A", "0xa", True),
    ("0x1000000", "0x1000000", True),
    ('"a"', '"a"', True),
    ('"a\\"b"', '"a\\"b"', True),
    ('"a\\bc"', '"abc"', True),
    ('"8"', "8", False),
    ("n", "0", False),
]


@pytest.mark.parametrize(("wanted", "got", "expected"), SAME)
def test_same_value(wanted: str, got: str, expected: bool) -> None:
    assert same(wanted, got) is expected


def test_unquote() -> None:
    assert unquote('"a\\"b\\\\c"') == 'a"b\\c'
    assert unquote("y") == "y"


def test_final_config() -> None:
    text = '# Linux/x86 6.1.192\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="$x"\n# CONFIG_D=y\n'
    assert parse_config(text) == {"A": "y", "B": "n", "C": '"$x"'}


def test_require_takes_both_spellings_and_knows_its_line() -> None:
    found = required(["OVERLAY_FS", "CONFIG_VXLAN"], {"OVERLAY_FS": 12, "CONFIG_VXLAN": 13}, "cluster.yaml")
    assert [(r.symbol, r.where, r.wanted) for r in found] == [
        ("OVERLAY_FS", "cluster.yaml:12", "y or m"),
        ("VXLAN", "cluster.yaml:13", "y or m"),
    ]


@pytest.mark.parametrize("name", ["A B", "A=y", "", "CONFIG_", "$(id)", "A\nB", "a;b", "Ü"])
def test_require_refuses_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster.yaml:7: kernel.require: "):
        required([name], {name: 7}, "cluster.yaml")


def test_a_request_knows_its_line() -> None:
    assert Request("A", "n", "f", 3).text == "# CONFIG_A is not set"
    assert Request("A", '"x"', "f", 3).text == 'CONFIG_A="x"'
    assert Request("A", "y", "defconfig", 0).where == "defconfig"
