"""Options of a final .config with which no two clean builds are the same bytes, by name, and what to do instead.

What is not here is pinned: time, user, host and build number (effects/makepkg.py), also in what IKHEADERS and an
initramfs pack; paths, for the tree lies at one place; debug information, whoever compiles (effects/text.sh). Sources:
Documentation/kbuild/reproducible-builds.rst, certs/Makefile, scripts/gen-randstruct-seed.sh,
scripts/gcc-plugins/latent_entropy_plugin.c, pahole(1); gcov measured with gcc 12.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

GENERATED_KEY = '"certs/signing_key.pem"'
SEED = "scripts/gen-randstruct-seed.sh"
PAHOLE = ("scripts/pahole-flags.sh", "scripts/Makefile.btf")
READ = (SEED, *PAHOLE)  # files of the tree that decide whether an option is one of these
RANDSTRUCT = ("RANDSTRUCT_FULL", "RANDSTRUCT_PERFORMANCE", "GCC_PLUGIN_RANDSTRUCT")


@dataclass(frozen=True)
class Obstacle:
    """symbol without CONFIG_; why builds differ; hint: what to write instead."""

    symbol: str
    why: str
    hint: str

    @property
    def line(self) -> str:
        return f"{self.symbol}: {self.why}; {self.hint}"


def obstacles(final: Mapping[str, str], tree: Mapping[str, str]) -> list[Obstacle]:
    """Of a final .config (symbol -> value as kconfig writes it).

    tree  text of those of READ that the source has: a patch may have pinned a seed, another version may not need it
    """
    found = []
    if final.get("MODULE_SIG_KEY") == GENERATED_KEY:
        why = "each clean build makes a key of its own, which is in the kernel and signs the modules"
        found.append(Obstacle("MODULE_SIG_KEY", why, "name a key of yours (an absolute path), or set MODULE_SIG to n"))
    seeds = [symbol for symbol in RANDSTRUCT if final.get(symbol) == "y"]
    if seeds and "/dev/urandom" in tree.get(SEED, "/dev/urandom"):
        why = "each clean build draws a seed, which orders the members of structures"
        found.append(Obstacle(seeds[0], why, f"a patch that lets {SEED} write a constant, or RANDSTRUCT_NONE=y"))
    if final.get("GCC_PLUGIN_LATENT_ENTROPY") == "y":
        why = "the plugin puts random numbers into the objects"
        found.append(Obstacle("GCC_PLUGIN_LATENT_ENTROPY", why, "set it to n"))
    if final.get("DEBUG_INFO_BTF") == "y":
        flags = "\n".join(tree.get(path, "") for path in PAHOLE)
        if re.search(r"(^|[\s\"])-j\b", flags) and "reproducible_build" not in flags:
            why = "pahole -j numbers types in the order in which its threads end"
            found.append(Obstacle("DEBUG_INFO_BTF", why, f"a patch that takes -j from {PAHOLE[0]}, or set it to n"))
    if final.get("GCOV_KERNEL") == "y":
        found.append(Obstacle("GCOV_KERNEL", "gcc puts the time of day into each profiled object", "set it to n"))
    return found
