"""Reasons, from the text that scripts/kconfig of Linux 6.1 printed for these options."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.kconfig import merge, prove
from kbuild_tasks.core.kconfig_expr import And, Compare, Leaf, Not, Or, blame, parse_expr
from kbuild_tasks.core.kconfig_syntax import parse
from kbuild_tasks.core.kconfig_why import Asker, Knowledge, read_knowledge

RANKS = [
    ("A [=y]", 2),
    ("A [=m]", 1),
    ("A [=n]", 0),
    ("!A [=m]", 1),
    ("!A [=n]", 2),
    ("!S390", 2),
    ("S390", 0),
    ("<choice> && A [=m]", 1),
    ("A [=y] && B [=n] || C [=y]", 2),
    ("A [=y] && (B [=n] || C [=m])", 1),
    ("!(A [=y] || B [=n])", 0),
    ("IPV6 [=y]=n [=n]", 0),
    ("IPV6 [=n]=n [=n]", 2),
    ("IPV6 [=y]!=n [=n]", 2),
    ("GCC_VERSION [=120200]>=130000", 0),
    ("GCC_VERSION [=120200]>=120000", 2),
    ("A [=m]<B [=y]", 2),
    ("PHYS [=0x1000]<=0x2000", 2),
    ('ARCH [=x86]="x86"', 2),
    ('NAME [=]=""', 2),
    ("m [=m] && MODULES [=y]", 1),
    ("n [=n]", 0),
]


@pytest.mark.parametrize(("text", "rank"), RANKS)
def test_rank(text: str, rank: int) -> None:
    assert parse_expr(text).rank == rank


def test_precedence() -> None:
    a, b, c = Leaf("A", "y"), Leaf("B", "n"), Leaf("C", "m")
    assert parse_expr("A [=y] || B [=n] && !C [=m]") == Or((a, And((b, Not(c)))))
    assert parse_expr("A [=y]=B [=n]") == Compare(a, "=", b)


@pytest.mark.parametrize("text", ["", "A [=y] &&", "(A [=y]", "A [=y] B [=n]", "&& A", "A [=y]=", "A @ B", "! "])
def test_what_the_printer_never_writes(text: str) -> None:
    with pytest.raises(ValueError):
        parse_expr(text)


BLAMES = [
    ("NET [=y] && BRIDGE [=n] && INET [=n]", 1, ["BRIDGE (is n)", "INET (is n)"]),
    ("A [=m] && B [=y]", 2, ["A (is m)"]),
    ("A [=m] && B [=y]", 1, []),
    ("A [=n] || B [=n]", 1, ["one of A (is n), B (is n)"]),
    ("(A [=n] && C [=n] || B [=n]) && D [=y]", 1, ["one of A (is n) and C (is n), B (is n)"]),
    ("!COMPILE_TEST [=y]", 1, ["COMPILE_TEST to be n (is y)"]),
    ("!(A [=y] && B [=y])", 1, ["!(A [=y] && B [=y]) to be y"]),
    ("GCC_VERSION [=120200]>=130000", 1, ["GCC_VERSION>=130000 (is 120200)"]),
    ("S390", 1, ["S390 (not in this architecture)"]),
    ("A [=y] && n [=n]", 1, ["a constant n"]),
    ("IPV6 [=m]=n [=n]", 1, ["IPV6=n (is m)"]),
]


@pytest.mark.parametrize(("text", "target", "expected"), BLAMES)
def test_blame(text: str, target: int, expected: list[str]) -> None:
    assert [b.text for b in blame(parse_expr(text), target)] == expected


TEXT = """\
NET
BRIDGE
BRIDGE_NETFILTER
KERNEL_GZIP
KERNEL_LZ4
OVERLAY_FS
@choice KERNEL_GZIP=y KERNEL_LZ4=n | Kernel compression mode
@symbol BRIDGE_NETFILTER
Symbol: BRIDGE_NETFILTER [=n]
Type  : tristate
Defined at net/Kconfig:188
  Prompt: Bridged IP/ARP packets filtering
  Depends on: NET [=y] && BRIDGE [=n] && NETFILTER [=y] && INET [=y]
  Location:
    -> Networking support (NET [=y])
Selects: NETFILTER_FAMILY_BRIDGE [=n]


@symbol BRIDGE
Symbol: BRIDGE [=n]
Type  : tristate
Defined at net/bridge/Kconfig:6
  Prompt: 802.1d Ethernet Bridging
  Depends on: NET [=y]
  Location:
    -> Networking support (NET [=y])
Selects: LLC [=n] && STP [=n]


@symbol KERNEL_LZ4
Symbol: KERNEL_LZ4 [=n]
Type  : bool
Defined at init/Kconfig:327
  Prompt: LZ4
  Depends on: <choice> && HAVE_KERNEL_LZ4 [=y]
  Location:
    -> General setup
      -> Kernel compression mode (<choice> [=y])


@symbol KERNEL_GZIP
Symbol: KERNEL_GZIP [=y]
Type  : bool
Defined at init/Kconfig:284
  Prompt: Gzip
  Depends on: <choice> && HAVE_KERNEL_GZIP [=y]


@symbol CRC32
Symbol: CRC32 [=y]
Type  : tristate
Defined at lib/Kconfig:178
  Prompt: CRC32/CRC32c functions
  Location:
    -> Library routines
Selects: BITREVERSE [=y]
Selected by [y]:
  - ACPI [=y] && ARCH_SUPPORTS_ACPI [=y]
  - JBD2 [=y] && BLOCK [=y]
Selected by [n]:
  - BTRFS_FS [=n] && BLOCK [=y]


@symbol CRYPTO
Symbol: CRYPTO [=y]
Type  : tristate
Defined at crypto/Kconfig:16
  Prompt: Cryptographic API
Selected by [m]:
  - IPSEC [=m]


@symbol SYSVIPC
Symbol: SYSVIPC [=n]
Type  : bool
Defined at init/Kconfig:377
  Prompt: System V IPC


@symbol ZLIB_INFLATE
Symbol: ZLIB_INFLATE [=n]
Type  : tristate
Defined at lib/Kconfig:314
Selected by [n]:
  - BNX2X [=n] && NETDEVICES [=n]
  - PPP_DEFLATE [=n]


@symbol MODIFY_LDT_SYSCALL
Symbol: MODIFY_LDT_SYSCALL [=y]
Type  : bool
Defined at arch/x86/Kconfig:2499
  Prompt: Enable the LDT (local descriptor table)
  Visible if: EXPERT [=n]


@symbol NR_CPUS
Symbol: NR_CPUS [=64]
Type  : integer
Range : [NR_CPUS_RANGE_BEGIN [=2] 512]
Defined at arch/x86/Kconfig:1024
  Prompt: Maximum number of CPUs
  Visible if: SMP [=y] && !MAXSMP [=n]


@symbol GCC_PLUGINS
Symbol: GCC_PLUGINS [=n]
Type  : bool
Defined at scripts/gcc-plugins/Kconfig:8
  Prompt: GCC plugins
  Depends on: HAVE_GCC_PLUGINS [=y] && CC_IS_GCC [=y] && n [=n]


@symbol NEWER
Symbol: NEWER [=n]
Type  : bool
Defined at arch/Kconfig:900
  Prompt: Newer
  Depends on: GCC_VERSION [=120200]>=130000


@symbol WIREGUARD
Symbol: WIREGUARD [=m]
Type  : tristate
Defined at drivers/net/Kconfig:70
  Prompt: WireGuard
  Depends on: NETDEVICES [=y] && INET [=m]


@symbol CMDLINE
Symbol: CMDLINE [=]
Type  : string
Defined at arch/x86/Kconfig:2450
  Prompt: Built-in kernel command string
  Depends on: CMDLINE_BOOL [=n]


@symbol PHYSICAL_ALIGN
Symbol: PHYSICAL_ALIGN [=0x200000]
Type  : hex
Range : [0x200000 0x1000000]
Defined at arch/x86/Kconfig:2200
  Prompt: Alignment value


@symbol NO_SUCH
@symbol OVERLAY_FSS
@symbol ARM_LPAE
"""
FINAL = {
    "NET": "y",
    "KERNEL_GZIP": "y",
    "KERNEL_LZ4": "n",
    "CRC32": "y",
    "CRYPTO": "y",
    "MODIFY_LDT_SYSCALL": "y",
    "NR_CPUS": "64",
    "MODULES": "y",
    "PHYSICAL_ALIGN": "0x200000",
    "WIREGUARD": "m",
}

WHY = [
    ("CONFIG_BRIDGE_NETFILTER=m", "depends on BRIDGE (is n); nobody asks for BRIDGE"),
    ("CONFIG_BRIDGE_NETFILTER=y\nCONFIG_BRIDGE=n", "depends on BRIDGE (is n); f.config:2 sets BRIDGE to n"),
    ("CONFIG_NO_SUCH=y", "this tree has no such option"),
    ("CONFIG_OVERLAY_FSS=y", "this tree has no such option; did you mean OVERLAY_FS?"),
    ("CONFIG_ARM_LPAE=y", "no option of this architecture; arch/arm/mm/Kconfig:663 has it for another one"),
    ("CONFIG_KERNEL_LZ4=y", 'only one of the choice "Kernel compression mode" can be y, and KERNEL_GZIP won'),
    (
        "CONFIG_KERNEL_LZ4=y\nCONFIG_KERNEL_GZIP=y",
        'only one of the choice "Kernel compression mode" can be y, and KERNEL_GZIP won, asked for by f.config:2',
    ),
    (
        "CONFIG_KERNEL_GZIP=n",
        'the choice "Kernel compression mode" needs one of its members: ask for another one with =y',
    ),
    ("CONFIG_CRC32=n", "selected by ACPI, JBD2"),
    ("CONFIG_CRC32=m", "selected by ACPI, JBD2"),
    ("CONFIG_SYSVIPC=m", "SYSVIPC is of type bool: it takes y or n (init/Kconfig:377)"),
    (
        "CONFIG_ZLIB_INFLATE=y",
        "has no prompt, cannot be asked for (lib/Kconfig:314): selected by BNX2X, PPP_DEFLATE, which are off",
    ),
    ("CONFIG_MODIFY_LDT_SYSCALL=n", "cannot be changed: its prompt needs EXPERT (is n)"),
    ("CONFIG_NR_CPUS=1000", "out of range [2 512] (arch/x86/Kconfig:1024)"),
    ("CONFIG_NR_CPUS=y", "NR_CPUS is of type integer: it takes a number (arch/x86/Kconfig:1024)"),
    ("CONFIG_PHYSICAL_ALIGN=0x100", "out of range [0x200000 0x1000000] (arch/x86/Kconfig:2200)"),
    (
        "CONFIG_PHYSICAL_ALIGN=4096",
        "PHYSICAL_ALIGN is of type hex: it takes a number such as 0x10 (arch/x86/Kconfig:2200)",
    ),
    (
        "CONFIG_GCC_PLUGINS=y",
        "a compiler or tool of this machine lacks what it asks for: depends on $(success,test -e plugin.h) "
        "(scripts/gcc-plugins/Kconfig:8)",
    ),
    (
        "CONFIG_NEWER=y",
        "depends on GCC_VERSION>=130000 (is 120200); needs a newer or another compiler or tool (arch/Kconfig:900)",
    ),
    ("CONFIG_WIREGUARD=y", "depends on INET (is m)"),
    ('CONFIG_CMDLINE="quiet"', "depends on CMDLINE_BOOL (is n)"),
    ("CONFIG_CRYPTO=m\nCONFIG_CRYPTO=y", "overridden by f.config:2, which asks for y"),
]


@pytest.mark.parametrize(("fragment", "expected"), WHY)
def test_why(fragment: str, expected: str) -> None:
    known = read_knowledge(TEXT)
    merged = merge([], [parse(fragment, "f.config")], [])
    asker = Asker(
        known,
        merged,
        FINAL,
        macros=lambda place: ["depends on $(success,test -e plugin.h)"] if "gcc-plugins" in place else [],
        elsewhere={"ARM_LPAE": "arch/arm/mm/Kconfig:663"},
    )
    unmet = prove(merged, FINAL)
    assert asker.why(unmet[0]) == expected


def test_without_modules_there_is_no_m() -> None:
    text = "CRYPTO\n@symbol CRYPTO\nSymbol: CRYPTO [=y]\nType  : tristate\nDefined at crypto/Kconfig:16\n  Prompt: C\n"
    merged = merge([], [parse("CONFIG_CRYPTO=m", "f")], [])
    final = {"CRYPTO": "y"}
    asker = Asker(read_knowledge(text), merged, final)
    assert asker.why(prove(merged, final)[0]) == "there are no modules: MODULES is n"


def test_what_a_reason_would_name_is_asked_for_next() -> None:
    merged = merge([], [parse("CONFIG_BRIDGE_NETFILTER=m", "f")], [])
    unmet = prove(merged, FINAL)[0]
    assert Asker(read_knowledge(TEXT), merged, FINAL).blamed(unmet) == ("BRIDGE",)
    assert Asker(Knowledge(frozenset(), (), {}), merged, FINAL).blamed(unmet) == ()


def test_unreadable_dependencies_are_shown_as_they_are() -> None:
    text = "A\n@symbol A\nSymbol: A [=n]\nType  : bool\nDefined at a/Kconfig:1\n  Prompt: A\n  Depends on: B ?? C\n"
    merged = merge([], [parse("CONFIG_A=y", "f")], [])
    assert Asker(read_knowledge(text), merged, {}).why(prove(merged, {})[0]) == "depends on B ?? C"


def test_knowledge() -> None:
    known = read_knowledge(TEXT)
    assert known.names == {"NET", "BRIDGE", "BRIDGE_NETFILTER", "KERNEL_GZIP", "KERNEL_LZ4", "OVERLAY_FS"}
    assert [(c.prompt, dict(c.members)) for c in known.choices] == [
        ("Kernel compression mode", {"KERNEL_GZIP": "y", "KERNEL_LZ4": "n"})
    ]
    assert known.symbols["CRC32"].selected == {"y": ("ACPI", "JBD2"), "n": ("BTRFS_FS",)}
    assert known.symbols["NR_CPUS"].value == "64"
    assert "NO_SUCH" not in known.symbols
