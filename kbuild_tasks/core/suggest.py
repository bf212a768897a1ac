"""What a user may have meant: a near name, or a small repair of a value that then fits its rule.

A suggestion is only made when it would be accepted: repairs are tried against the rule itself. Used on the way to an
error only, so difflib is imported there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_LONGEST = 64  # difflib's time grows with the square of the length
_SAME: Mapping[str, str] = {  # what other tools call it -> what it is called here
    "amd64": "x86_64",
    "x86-64": "x86_64",
    "x64": "x86_64",
    "arm64": "aarch64",
    "armv8": "aarch64",
    "arm": "armv7h",
    "armhf": "armv7h",
    "armv7": "armv7h",
    "armv7l": "armv7h",
    "host": "address",
    "hostname": "address",
    "ip": "address",
    "ansible_host": "address",
    "ansible_port": "port",
    "ansible_user": "user",
    "ansible_connection": "connection",
    "private_key": "identity",
    "identity_file": "identity",
    "timeout": "connect_timeout",
    "hosts": "nodes",
    "servers": "nodes",
    "workers": "nodes",
    "machines": "nodes",
    "jobs": "slots",
    "cores": "slots",
    "cpus": "slots",
    "master": "coordinator",
    "builder": "coordinator",
    "defconfig": "config",
    "series": "patches",
    "options": "require",
    "uboot": "extlinux",
    "u-boot": "extlinux",
    "rpi": "raspberrypi",
    "systemd": "systemd-boot",
    "sdboot": "systemd-boot",
    "grub2": "grub",
}
_YES = ("yes", "on", "y", "true", "1")
_NO = ("no", "off", "n", "false", "0")


def closest(name: str, options: Sequence[str]) -> str | None:
    """The option that a name is most like, or None where none is like it."""
    import difflib

    wanted = name.strip().lower()[:_LONGEST]
    if _SAME.get(wanted) in options:
        return _SAME[wanted]
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(wanted, list(by_lower), n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


def repaired(value: Any, rule: Mapping[str, Any], fits: Callable[[Any], bool]) -> str | None:
    """A small change of a value that `fits` accepts, as the user would write it; None where none was found.

    >>> repaired("3GB", {"type": "string"}, lambda v: v == "3G")
    '3G'
    """
    for candidate in _candidates(value, rule):
        if candidate != value and _simple(candidate) and fits(candidate):
            return _written(candidate)
    if rule.get("type") == "array" and isinstance(value, str | int) and _simple(value):
        return f"[{_written(value)}]"
    required = rule.get("required", ())
    if rule.get("type") == "object" and isinstance(value, str) and len(required) == 1 and _simple(value):
        return f"{{{required[0]}: {_written(value)}}}"
    return None


def _simple(value: Any) -> bool:
    """Whether a value needs no quotes in YAML (but for what _written() quotes) and cannot disturb a terminal."""
    return re.fullmatch(r"\w[\w./:@%+~-]*|[/.~][\w./@%+~-]+", str(value), re.ASCII) is not None


def _candidates(value: Any, rule: Mapping[str, Any]) -> Iterator[Any]:
    if isinstance(value, bool):
        yield from (("on", "auto") if value else ("off", "0%"))
    elif isinstance(value, int | float):
        yield from (f"{value}%", f"{value}s", f"{value}M", str(value))
    elif isinstance(value, str) and len(value) <= 1000:
        yield from _texts(value.strip(), rule)


def _texts(text: str, rule: Mapping[str, Any]) -> Iterator[Any]:
    low = text.lower()
    near = closest(text, rule["enum"]) if "enum" in rule else None
    if near:
        yield near
    if low in _YES or low in _NO:
        yield low in _YES
    if text.isascii() and text.isdigit() and len(text) < 10:
        yield int(text)
    yield text
    yield low
    if text[:1].isdigit():
        short = low.replace(" ", "")
        yield re.sub(r"b(its|ytes)?$", "", short).upper()  # 3 GB -> 3G
        yield re.sub(r"(econds?|ecs|inutes?|ours?|rs?|ins|utes)$", "", short)  # 10 minutes -> 10m
        yield text.partition("/")[0]  # 10.0.0.1/24 -> 10.0.0.1
        yield text.replace(" ", "").removeprefix("0x")  # a fingerprint in groups of four
    if text.endswith(".ko"):
        yield text.removesuffix(".ko").rpartition("/")[2]
    if "@" in text:
        yield text.rpartition("@")[2]  # root@10.0.0.1 -> 10.0.0.1
    yield text.partition("://")[2].partition("/")[0]
    yield text.removeprefix("CONFIG_").partition("=")[0]  # CONFIG_VXLAN=y -> VXLAN
    yield text.rstrip("/")
    yield text.strip("/").replace("../", "").removeprefix("~/")
    yield re.sub(r"[\s_:@/]+", "-", low).strip("-.")
    yield re.sub(r"[^A-Za-z0-9_/.+-]+", "_", text)


def _written(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and re.fullmatch(r"[0-9]*\.?[0-9]+", value):
        return f'"{value}"'
    return value if isinstance(value, str) else str(value)
