"""Options of a final .config that stop distcc or take from it what it gains.

They are legal and may be wanted, so they are warned of by name and nothing else. Sources: distcc 3.4 src/arg.c
(dcc_scan_args: what is never sent away), distcc issues, scripts/Makefile.* and scripts/link-vmlinux.sh of the kernel,
and our own measurements on 6.1 with gcc 12.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Hazard:
    symbol: str
    effect: str
    source: str


HAZARDS = (
    Hazard(
        "X86_NATIVE_CPU", "-march=native: every object is compiled here, none is sent", "distcc src/arg.c; Linux 6.16"
    ),
    Hazard("MNATIVE_INTEL", "-march=native: every object is compiled here, none is sent", "distcc src/arg.c"),
    Hazard("MNATIVE_AMD", "-march=native: every object is compiled here, none is sent", "distcc src/arg.c"),
    Hazard("MNATIVE", "-march=native: every object is compiled here, none is sent", "distcc src/arg.c"),
    Hazard(
        "DEBUG_INFO_SPLIT",
        "-gsplit-dwarf: distcc brings the .o back and loses its .dwo; debug information is incomplete",
        "distcc issue 225; measured",
    ),
    Hazard(
        "GCOV_KERNEL",
        "-fprofile-arcs -ftest-coverage: these objects are compiled here",
        "distcc src/arg.c; scripts/Makefile.lib",
    ),
    Hazard(
        "DEBUG_INFO_BTF",
        "pahole works on the whole vmlinux, on this node alone, at each link, and modules wait for it",
        "scripts/link-vmlinux.sh",
    ),
    Hazard(
        "KERNEL_ZSTD",
        "zstd -22 takes some 25 s and 700 MB at each link; KERNEL_LZ4 or KERNEL_GZIP take few",
        "scripts/Makefile.lib; measured",
    ),
    Hazard("KERNEL_XZ", "xz is slow at each link; KERNEL_LZ4 or KERNEL_GZIP are not", "scripts/Makefile.lib"),
    Hazard(
        "LTO_CLANG",
        "code is generated at the link, on this node alone; workers only parse",
        "scripts/Makefile.modpost, scripts/link-vmlinux.sh",
    ),
    Hazard(
        "MODVERSIONS",
        "each object with exports is preprocessed once more on this node for genksyms",
        "scripts/Makefile.build",
    ),
)

_PLUGIN = "GCC_PLUGIN_"
# Options that use a plugin without having it in their name (security/Kconfig.hardening).
_PLUGIN_USERS = ("RANDSTRUCT_FULL", "RANDSTRUCT_PERFORMANCE")


def plugins(final: Mapping[str, str]) -> list[str]:
    """The gcc plugins in use, by the names of their options. GCC_PLUGINS alone adds nothing to a command line."""
    if final.get("GCC_PLUGINS") != "y":
        return []
    named = [s for s, v in final.items() if s.startswith(_PLUGIN) and v == "y" and not s.endswith("_VERBOSE")]
    return sorted(named) or [s for s in _PLUGIN_USERS if final.get(s) == "y"]


def warnings(final: Mapping[str, str]) -> list[str]:
    """One line for each option that is on in a final .config and hinders the distribution."""
    found = []
    if used := plugins(final):
        names = ", ".join(name.removeprefix(_PLUGIN) for name in used)
        found.append(
            f"GCC_PLUGINS ({names}): distccd drops each compile with -fplugin=, and distcc then avoids the node; "
            "every object is compiled here"
        )
    if final.get("KCOV") == "y" and any("SANCOV" in name for name in used):
        found.append("KCOV uses the plugin SANCOV: this compiler is too old for -fsanitize-coverage=trace-pc")
    found += [f"{h.symbol}: {h.effect}" for h in HAZARDS if final.get(h.symbol) == "y"]
    return found
