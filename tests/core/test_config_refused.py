"""cluster.yaml that is refused: the line, the key and the suggestion of each message, and that nothing else escapes."""

# ruff: noqa: E501 - a table is read by its rows

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import schema, suggest
from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.effects.cluster_file import load_cluster
from kbuild_tasks.effects.yaml_tree import parse
from tests.core.test_config import DESIGN, SMALLEST, project

# Line numbers are counted by hand; keep the table below in step.
BASE = """\
version: 1
kernel:
  pkgbuild: kernel/PKGBUILD
  arch: x86_64
  config: kernel/config
  fragments: [kernel/config.d/10-k3s.config]
  patches: patches
  require:
    - BRIDGE_NETFILTER
    - OVERLAY_FS
  waivers:
    - {symbol: VXLAN, until: 2027-01-31, why: later}
build:
  coordinator: kubenode1
  workdir:
    path: /home/builder/buildtmp
    tmpfs: auto
  fail_local_share: 50%
ssh: {user: ansible, identity: ~/.ssh/id_ed25519}
defaults: {slots: auto, memory_per_job: 200M}
nodes:
  kubenode1: {address: 10.0.0.11, connection: local}
  kubenode2: {address: 10.0.0.12}
  kubenode3:
    address: 10.0.0.13
    slots: 4
rollout:
  canary: [kubenode3]
  panic_timeout: 10s
"""

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nversion: *c\n"

# name: (what is replaced, by what, line of the message, what it says)
REFUSED: dict[str, tuple[str, str, int, str]] = {
    # not YAML, or not YAML as it is read here
    "syntax": ("  arch: x86_64", "  arch: [x86_64", 5, "is not YAML: "),
    "tab": ("  arch: x86_64", "\tarch: x86_64", 4, "is not YAML: found a tab character that violates indentation"),
    "colon": ("patches: patches", "patches: patches: more", 7, "is not YAML: mapping values are not allowed"),
    "control character": ("x86_64", "x86_64\x07", 4, "is not YAML: the character '\\x07' may not stand in it"),
    "empty": (BASE, "", 1, "is empty"),
    "only a comment": (BASE, "# cluster\n", 1, "is empty"),
    "a list": (BASE, "- a\n", 1, "must be a mapping (key: value), not a list"),
    "a word": (BASE, "cluster\n", 1, "must be a mapping (key: value), not cluster"),
    "second document": ("rollout:\n", "---\nrollout:\n", 27, "a second document begins here"),
    "alias": ("slots: 4", "slots: *x", 26, "nodes.kubenode3.slots: an alias (*x) is not read here"),
    "bomb": (BASE, BOMB, 2, "b: an alias (*a) is not read here"),
    "merge key": ("10.0.0.12}", "10.0.0.12, <<: {slots: 1}}", 23, "nodes.kubenode2.'<<': unknown key"),
    "tag": ("10.0.0.12}", "!!python/name:os.system x}", 23, "nodes.kubenode2.address: a tag ('tag:yaml.org,2002:python/name:os.system')"),
    "list as key": ("  arch: x86_64", "  [x]: x86_64", 4, "kernel: a key must be plain text"),
    "deep": ("slots: 4", "slots: " + "[" * 40 + "]" * 40, 26, "more than 20 levels deep"),
    # keys
    "unknown key": ("    slots: 4", "    slot: 4", 26, "nodes.kubenode3.slot: unknown key, did you mean slots?"),
    "unknown key at the top": ("rollout:", "roll_out:", 27, "roll_out: unknown key, did you mean rollout?"),
    "unknown key of Ansible": (
        "{address: 10.0.0.12}",
        "{ansible_host: 10.0.0.12}",
        23,
        "nodes.kubenode2.ansible_host: unknown key, did you mean address?",
    ),
    "key at the wrong place": ("version: 1", "version: 1\ncanary: [a]", 2, "canary: unknown key, did you mean rollout.canary?"),
    "key like nothing": ("    slots: 4", "    zzz: 4", 26, "zzz: unknown key; known here: address, connection, port"),
    "duplicate key": ("  arch: x86_64", "  arch: x86_64\n  arch: armv7h", 5, "kernel.arch: is given twice, first in line 4"),
    "duplicate node": ("  kubenode3:", "  kubenode2: {}\n  kubenode3:", 24, "nodes.kubenode2: is given twice, first in line 23"),
    "duplicate section": ("rollout:", "kernel: {}\nrollout:", 27, "kernel: is given twice, first in line 2"),
    "duplicate, spelt otherwise": ("  arch: x86_64", '  "arch": x86_64\n  arch: x86_64', 5, "is given twice, first in line 4"),
    "missing section": ("build:\n", "rollout: {}\nzuild:\n", 14, "zuild: unknown key, did you mean build?"),
    "missing key": ("  arch: x86_64\n", "", 2, "kernel.arch: is missing: x86_64, aarch64 or armv7h"),
    "missing address": ("{address: 10.0.0.12}", "{slots: 1}", 23, "nodes.kubenode2.address: is missing: an IP address"),
    # types
    "empty value": ("  arch: x86_64", "  arch:", 4, "kernel.arch: is empty"),
    "empty node": ("  kubenode2: {address: 10.0.0.12}", "  kubenode2:", 23, "nodes.kubenode2: is empty"),
    "no nodes": ("nodes:", "nodes: {}\nx:", 21, "nodes: is empty"),
    "text for a list": ("[kernel/config.d/10-k3s.config]", "kernel/f", 6, "must be a list, not kernel/f, did you mean [kernel/f]?"),
    "list for text": ("x86_64", "[x86_64]", 4, "kernel.arch: must be x86_64, aarch64 or armv7h, not a list"),
    "text for a mapping": (
        "  workdir:\n    path: /home/builder/buildtmp\n    tmpfs: auto\n",
        "  workdir: /home/builder/buildtmp\n",
        15,
        "build.workdir: must be a mapping (key: value), not /home/builder/buildtmp, "
        "did you mean {path: /home/builder/buildtmp}?",
    ),
    "yes for true": ("10.0.0.12}", "10.0.0.12, hold: yes}", 23, "hold: must be true or false, not yes, did you mean true?"),
    "text for a number": ("slots: 4", "slots: '4'", 26, "not 4, did you mean 4?"),
    "too many slots": ("slots: 4", "slots: 5000", 26, "must be a number of compile jobs (0 to 1024), or auto, not the number 5000"),
    "negative slots": ("slots: 4", "slots: -1", 26, "nodes.kubenode3.slots: must be a number of compile jobs (0 to 1024)"),
    "true slots": ("slots: 4", "slots: true", 26, "or auto, not true"),
    "fraction of a slot": ("slots: 4", "slots: 1.5", 26, "or auto, not the number 1.5"),
    "bad port": ("10.0.0.12}", "10.0.0.12, port: 70000}", 23, "port: must be a whole number from 1 to 65535, not the number 70000"),
    "bad version": ("version: 1", "version: 2", 1, "version: must be 1, not the number 2"),
    "quoted version": ("version: 1", "version: '1'", 1, "version: must be 1, not 1, did you mean 1?"),
    # values
    "bad arch": ("x86_64", "amd64", 4, "kernel.arch: must be x86_64, aarch64 or armv7h, not amd64, did you mean x86_64?"),
    "arch of Raspbian": ("x86_64", "armhf", 4, "not armhf, did you mean armv7h?"),
    "size without unit": ("200M", "200", 20, "defaults.memory_per_job: must be a size such as 200M, 3G or 1.5GiB, "
                          "not the number 200, did you mean 200M?"),
    "size in GB": ("tmpfs: auto", "tmpfs: 3GB", 17, "build.workdir.tmpfs: must be auto, off, or a size such as 3G, not 3GB, "
                   "did you mean 3G?"),
    "size of nothing": ("200M", "0M", 20, "defaults.memory_per_job: must be more than 0M"),
    "bad size": ("200M", "lots", 20, "must be a size such as 200M, 3G or 1.5GiB, not lots"),
    "duration without unit": ("10s", "10", 29, "rollout.panic_timeout: must be a duration such as 10s, 10min or 1h, "
                              "not the number 10, did you mean 10s?"),
    "duration in words": ("10s", "10 seconds", 29, "not '10 seconds', did you mean 10s?"),
    "panic for ever": ("10s", "0s", 29, "rollout.panic_timeout: must not be 0"),
    "half a second": ("10s", "1.5s", 29, "rollout.panic_timeout: must be whole seconds, 1s to 3600s, not 1.5s"),
    "share of 50": ("50%", "50", 18, "build.fail_local_share: must be a share: 0% to 100%, or 0 to 1, not the number 50, "
                    "did you mean 50%?"),
    "share of 150%": ("50%", "150%", 18, "build.fail_local_share: must be a share"),
    "bootloader": ("canary: [kubenode3]", "bootloader: u-boot", 28, "not u-boot, did you mean extlinux?"),
    "no batches": ("canary: [kubenode3]", "batches: []", 28, "rollout.batches: is an empty list"),
    "batch of none": ("canary: [kubenode3]", "batches: [1, 0]", 28, "rollout.batches[1]: must be a whole number from 1 to 1000"),
    "module with path": ("canary: [kubenode3]", "verify: {modules: [net/overlay.ko]}", 28, "did you mean overlay?"),
    "command of two": ("canary: [kubenode3]", 'verify: {commands: ["a\\u001bb"]}', 28, "without control characters, not 'a\\x1bb'"),
    "window of no time": ("canary: [kubenode3]", 'window: {from: "1:00", to: "05:00"}', 28, "rollout.window.from: must be a time of day in "
                          "UTC, such as 01:00, not 1:00"),
    "window at 24": ("canary: [kubenode3]", 'window: {from: "24:00", to: "05:00"}', 28, "rollout.window.from: must be a time of day"),
    "window without end": ("canary: [kubenode3]", 'window: {from: "01:00"}', 28, "rollout.window.to: is missing"),
    "window of one minute": ("canary: [kubenode3]", 'window: {from: "01:00", to: "01:00"}', 28, "rollout.window: opens and closes at 01:00"),
    "window on a day": ("canary: [kubenode3]", 'window: {from: "01:00", to: "05:00", days: [monday]}', 28, "rollout.window.days[0]: must be "
                        "mon, tue, wed, thu, fri, sat or sun, not monday"),
    "window on no day": ("canary: [kubenode3]", 'window: {from: "01:00", to: "05:00", days: []}', 28, "days: is an empty list"),
    "drain without end": ("canary: [kubenode3]", "drain_timeout: 0s", 28, "rollout.drain_timeout: must be whole seconds, 1s to 86400s"),
    "signature": ("canary: [kubenode3]", "signature: never", 28, "rollout.signature: must be auto, required or off, not never"),
    "kubeconfig": ("canary: [kubenode3]", "kubeconfig: ~bob/config", 28, "rollout.kubeconfig: must be a path such as"),
    "sudo": ("user: ansible", "user: ansible, sudo: none", 19, "ssh.sudo: must be all or helper, not none"),
    "rollout of a node": ("10.0.0.12}", "10.0.0.12, rollout: later}", 23, "nodes.kubenode2.rollout: must be true or false, not later"),
    "canary without rollout": ("    slots: 4", "    rollout: false", 28, "rollout.canary[0]: kubenode3 has rollout: false"),
    "ignore all": ("canary: [kubenode3]", "verify: {ignore: [a]}", 28, "rollout.verify.ignore[0]: must be a part of a kernel message"),
    "key id": ("50%", "50%\n  sign_key: DEADBEEF", 19, "build.sign_key: must be the whole fingerprint of a key"),
    "fingerprint in groups": (
        "50%",
        "50%\n  sign_key: 0123 4567 89AB CDEF 0123  4567 89AB CDEF 0123 4567",
        19,
        "did you mean 0123456789ABCDEF0123456789ABCDEF01234567?",
    ),
    "symbol with value": ("- OVERLAY_FS", "- CONFIG_OVERLAY_FS=y", 10, "kernel.require[1]: must be the name of a configuration "
                          "option such as OVERLAY_FS, not 'CONFIG_OVERLAY_FS=y', did you mean OVERLAY_FS?"),
    "symbol with a line": ("- OVERLAY_FS", '- "OVERLAY_FS\\n"', 10, "not 'OVERLAY_FS\\n', did you mean OVERLAY_FS?"),
    "waiver without reason": (", why: later", "", 12, "kernel.waivers[0].why: is missing: text, not empty"),
    "waiver without end": ("2027-01-31", "soon", 12, "kernel.waivers[0].until: must be a day such as 2027-01-31, not soon"),
    "waiver until no day": ("2027-01-31", "2027-02-30", 12, "kernel.waivers[0].until: 2027-02-30 is no day"),
    "user": ("user: ansible", "user: -oProxyCommand=x", 19, "ssh.user: must be the name of an account"),
    "identity": ("~/.ssh/id_ed25519", '"~/a\\nProxyCommand x"', 19, "ssh.identity: must be a path such as ~/.ssh/id_ed25519"),
    "identity of another": ("~/.ssh/id_ed25519", "~bob/.ssh/id", 19, "ssh.identity: must be a path such as ~/.ssh/id_ed25519"),
    # nodes
    "unknown coordinator": ("coordinator: kubenode1", "coordinator: kubenod1", 14, "build.coordinator: there is no node kubenod1, "
                            "did you mean kubenode1?"),
    "coordinator like none": ("coordinator: kubenode1", "coordinator: zz", 14, "there is no node zz; nodes are kubenode1, kubenode2, "),
    "unknown canary": ("[kubenode3]", "[kubenode3, kubenode4]", 28, "rollout.canary[1]: there is no node kubenode4, did you mean kubenode"),
    "canary twice": ("[kubenode3]", "[kubenode3, kubenode3]", 28, "rollout.canary[1]: kubenode3 is listed twice"),
    "canary on hold": ("    slots: 4", "    hold: true", 28, "rollout.canary[0]: kubenode3 has hold: true"),
    "coordinator on hold": ("10.0.0.11, connection: local}", "10.0.0.11, hold: true}", 14, "build.coordinator: kubenode1 has hold"),
    "two local nodes": ("10.0.0.12}", "10.0.0.12, connection: local}", 23, "nodes.kubenode2.connection: local is this machine"),
    "name in capitals": ("  kubenode3:", "  KubeNode_3:", 24, "nodes.KubeNode_3: must be a node name (lower-case letters, digits, "
                         "'-' and '.', at most 63, as in RFC 1123), did you mean kubenode-3?"),
    "name with colon": ("  kubenode3:", "  a:b:", 24, "nodes.a:b: must be a node name"),
    "name for a shell": ("  kubenode3:", '  "$(reboot)":', 24, "nodes.'$(reboot)': must be a node name"),
    "name as option": ("  kubenode3:", "  -n:", 24, "nodes.-n: must be a node name"),
    "name with a line": ("  kubenode3:", '  "a\\n":', 24, "nodes.'a\\n': must be a node name"),
    "name too long": ("  kubenode3:", f"  {'a' * 64}:", 24, "must be a node name"),
    "name of a directory": ("  kubenode3:", "  ..:", 24, "nodes...: must be a node name"),
    "address twice": ("10.0.0.13", "10.0.0.12", 25, "nodes.kubenode3.address: 10.0.0.12 is already the address of kubenode2"),
    "address and default port twice": ("10.0.0.12}", "10.0.0.13, port: 22}", 25, "10.0.0.13 is already the address of kubenode2"),
    "address twice in IPv6": (
        "{address: 10.0.0.12}\n  kubenode3:\n    address: 10.0.0.13",
        '{address: "fd00::1"}\n  kubenode3:\n    address: "fd00:0:0::1"',
        25,
        "fd00:0:0::1 is already the address of kubenode2",
    ),
    "address with port": ("10.0.0.12", "10.0.0.12:2222", 23, "did you mean address: 10.0.0.12, port: 2222?"),
    "address with user": ("10.0.0.12", "root@10.0.0.12", 23, "did you mean 10.0.0.12?"),
    "address with net": ("10.0.0.12", "10.0.0.12/24", 23, "did you mean 10.0.0.12?"),
    "address as option": ("10.0.0.12", "-oProxyCommand=reboot", 23, "nodes.kubenode2.address: must be an IP address or a host name"),
    "address with space": ("10.0.0.12", "10.0.0.12 -v", 23, "nodes.kubenode2.address: must be an IP address or a host name"),
    "address too high": ("10.0.0.12", "10.0.0.256", 23, "10.0.0.256 is no IPv4 address: 255 is the highest number"),
    "address too short": ("10.0.0.12", "10.0.12", 23, "10.0.12 is no IPv4 address"),
    "address in octal": ("10.0.0.12", "10.0.0.012", 23, "10.0.0.012 is no IPv4 address"),
    "address as number": ("10.0.0.12", "10.5", 23, "address: must be an IP address or a host name, without user, port or path, "
                          "not the number 10.5"),
    "address without label": ("10.0.0.12", "a..b", 23, "a..b is no host name"),
    # paths
    "absolute path": ("kernel/PKGBUILD", "/etc/PKGBUILD", 3, "kernel.pkgbuild: must be a path inside the project, relative to its "
                      "directory and without '..', not /etc/PKGBUILD, did you mean etc/PKGBUILD?"),
    "path that escapes": ("patches: patches", "patches: ../patches", 7, "not ../patches, did you mean patches?"),
    "path that escapes later": ("kernel/config\n", "kernel/../../x\n", 5, "kernel.config: must be a path inside the project"),
    "path of a home": ("kernel/config\n", "~/config\n", 5, "not ~/config, did you mean config?"),
    "path as option": ("kernel/PKGBUILD", "-PKGBUILD", 3, "kernel.pkgbuild: must be a path inside the project"),
    "no PKGBUILD": ("kernel/PKGBUILD", "kernel/PKGBULID", 3, "kernel.pkgbuild: there is no file kernel/PKGBULID in the project, "
                    "did you mean kernel/PKGBUILD?"),
    "no config": ("kernel/config\n", "kernel/confg\n", 5, "(and the tree's own are allnoconfig, allyesconfig, allmodconfig and names that end in 'defconfig'), "
                  "did you mean kernel/config?"),
    "no fragment": ("10-k3s.config", "10-k3.config", 6, "kernel.fragments[0]: there is no file kernel/config.d/10-k3.config in the "
                    "project, did you mean kernel/config.d/10-k3s.config?"),
    "no patches": ("patches: patches", "patches: patch", 7, "kernel.patches: there is no directory patch in the project, "
                   "did you mean patches?"),
    "file for a directory": ("patches: patches", "patches: kernel/config", 7, "kernel.patches: kernel/config is not a directory"),
    "directory for a file": ("kernel/PKGBUILD", "kernel", 3, "kernel.pkgbuild: kernel is not a regular file"),
    "path below a file": ("kernel/PKGBUILD", "kernel/config/PKGBUILD", 3, "cannot be read: Not a directory"),
    "fragment twice": ("[kernel/config.d/10-k3s.config]", "[kernel/config, kernel/config]", 6, "kernel/config is listed twice"),
    "workdir relative": ("/home/builder/buildtmp", "buildtmp", 16, "build.workdir.path: must be an absolute path"),
    "workdir of the root": ("/home/builder/buildtmp", "/", 16, "build.workdir.path: must be an absolute path"),
    "workdir of the system": ("/home/builder/buildtmp", "/var", 16, "/var is a directory of the system"),
    "workdir below the system": ("/home/builder/buildtmp", "/usr/src/x", 16, "/usr/src/x is a directory of the system"),
    "workdir over our state": ("/home/builder/buildtmp", "/var/lib/kbuild-tasks", 16, "build.workdir.path: /var/lib/kbuild-tasks is where "
                               "each node remembers what was done to it, and a tmpfs would hide that"),
    "workdir in our state": ("/home/builder/buildtmp", "/var/lib/kbuild-tasks/tmp", 16, "/var/lib/kbuild-tasks/tmp is where each node remembers"),
    "workdir in /run": ("/home/builder/buildtmp", "/run/kbuild", 16, "/run/kbuild is a directory of the system"),
    "workdir in /var/run": ("/home/builder/buildtmp", "/var/run/kbuild", 16, "/var/run/kbuild is a directory of the system"),
    "workdir in /lib32": ("/home/builder/buildtmp", "/lib32/x", 16, "/lib32/x is a directory of the system"),
    "workdir of keys": ("/home/builder/buildtmp", "/home/builder/.ssh", 16, "/home/builder/.ssh is where programs keep their own "
                        "files, and a tmpfs may be mounted there"),
    "workdir of root's keys": ("/home/builder/buildtmp", "/root/.ssh", 16, "/root/.ssh is where programs keep their own files"),
    "workdir of a home": ("/home/builder/buildtmp", "/home/builder", 16, "/home/builder is a home directory"),
    "workdir that climbs": ("/home/builder/buildtmp", "/home/b/../..", 16, "must be written without '.' and '..'"),
    "workdir with a space": ("/home/builder/buildtmp", "/srv/build tmp", 16, "not '/srv/build tmp', did you mean /srv/build_tmp?"),
    "workdir for a shell": ("/home/builder/buildtmp", "'/srv/$(reboot)'", 16, "build.workdir.path: must be an absolute path"),
    "workdir with slash": ("/home/builder/buildtmp", "/srv/kbuild/", 16, "did you mean /srv/kbuild?"),
}  # fmt: skip


def refused(root: Path, text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_cluster(project(root, text))
    return caught.value


def test_the_base_of_the_table_is_good(tmp_path: Path) -> None:
    assert len(load_cluster(project(tmp_path, BASE)).nodes) == 3


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    old, new, line, says = REFUSED[name]
    assert old in BASE
    error = refused(tmp_path, BASE.replace(old, new, 1))
    assert error.message.startswith(f"cluster.yaml:{line}: "), error.message
    assert says in error.message
    assert error.hint
    assert error.message.isprintable()


JUNK = [
    *("yes", "off", "on", "No", "3GB", "10 minutes", "root@10.0.0.1", "10.0.0.1/24", "ssh://a/", "/etc/x", "../x", "~/x", "-x"),
    *("a b", "A_B", "a:b", "amd64", "CONFIG_X=y", "x.ko", "a/b.ko", "50 %", "0x12", "5", "1.5", "", " ", "\n", "x\n", "' \"#: {"),
    *(True, False, 0, 7, -1, 200, 99999, 1.5, None, [], {}),
]  # fmt: skip


def leaves(rule: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in rule:
        rule = schema.schema()["$defs"][rule["$ref"].rpartition("/")[2]]
    yield rule
    below = [*rule.get("properties", {}).values(), *(rule[key] for key in ("items", "propertyNames") if key in rule)]
    if isinstance(rule.get("additionalProperties"), dict):
        below.append(rule["additionalProperties"])
    for inner in below:
        yield from leaves(inner)


def test_what_is_suggested_is_accepted_when_it_is_typed() -> None:
    suggested = 0
    for rule in leaves(dict(schema.schema())):
        for value in JUNK:
            better = suggest.repaired(value, rule, lambda v, rule=rule: schema.fits(rule, v))
            if schema.fits(rule, value) or better is None:
                continue
            tree, problems = parse(f"a: {better}\n".encode())
            assert tree is not None, (value, better)
            assert not problems
            assert schema.fits(rule, tree[1]["a"][1]), (rule, value, better)
            suggested += 1
    assert suggested > 200


def test_nobody_compiles(tmp_path: Path) -> None:
    text = BASE.replace("slots: auto", "slots: 0").replace("    slots: 4\n", "")
    error = refused(tmp_path / "none", text)
    assert error.message == (
        "cluster.yaml:20: defaults.slots: no worker lends slots and the coordinator has none: nobody would compile"
    )
    error = refused(tmp_path / "each", SMALLEST.replace("192.0.2.1}", "192.0.2.1, slots: 0}"))
    assert error.message.startswith("cluster.yaml:4: nodes: no worker lends slots")
    assert load_cluster(project(tmp_path / "one", text.replace("connection: local", "slots: 1"))).coordinator.slots == 1


def test_not_utf_8(tmp_path: Path) -> None:
    error = refused(tmp_path, BASE.encode().replace(b"later", b"sp\xe4ter"))
    assert error.render() == "cluster.yaml:12: is not UTF-8 (byte 0xe4)\nhint: save the file as UTF-8"


def test_all_problems_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = BASE.replace("x86_64", "amd64").replace("    slots: 4", "    slot: 4").replace("kubenode3]", "kubenode9]")
    error = refused(tmp_path, text.replace("kernel/PKGBUILD", "kernel/PKGBULD").replace("10.0.0.12", "10.0.0.11"))
    assert error.message.startswith("cluster.yaml:3: kernel.pkgbuild: there is no file")
    assert [line.partition(": ")[0] for line in error.evidence] == [f"cluster.yaml:{n}" for n in (4, 23, 26, 28)]
    assert error.hint == "create kernel/PKGBULD, or correct line 3 of cluster.yaml"


def test_ten_more_problems_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    error = refused(tmp_path, BASE + "".join(f"  extra{i}: 1\n" for i in range(15)))
    assert error.message.startswith("cluster.yaml:30: rollout.extra0: unknown key")
    assert len(error.evidence) == 10
    assert error.evidence[-1] == "and 5 more"
    assert "extra9" in error.evidence[8]


def test_a_message_cannot_steer_a_terminal(tmp_path: Path) -> None:
    error = refused(tmp_path, BASE.replace("  arch: x86_64", '  "\\e]0;x\\a": 1\n  arch: "\\e[31m' + "x" * 500 + '"'))
    rendered = error.render()
    assert "\x1b" not in rendered
    assert "\x07" not in rendered
    assert all(len(line) < 300 for line in rendered.splitlines())


@pytest.mark.parametrize("key", ["pkgbuild: kernel/PKGBUILD", "config: kernel/config", "patches: patches"])
def test_symbolic_link_that_leaves_the_project(key: str, tmp_path: Path) -> None:
    path = project(tmp_path / "project", BASE)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    target = tmp_path / "project" / key.partition(": ")[2]
    target.rmdir() if target.is_dir() else target.unlink()
    target.symlink_to(outside if key.startswith("patches") else outside / "file")
    with pytest.raises(ConfigError, match="is a symbolic link that leaves the project, to ") as caught:
        load_cluster(path)
    assert f"kernel.{key.partition(':')[0]}: " in caught.value.message


def test_symbolic_link_inside_the_project_is_good(tmp_path: Path) -> None:
    path = project(tmp_path / "real", BASE)
    (tmp_path / "real/kernel/config").unlink()
    (tmp_path / "real/kernel/config").symlink_to("PKGBUILD")
    (tmp_path / "link").symlink_to("real")
    assert load_cluster(path).kernel.config == "kernel/config"
    assert load_cluster(tmp_path / "link/cluster.yaml").kernel.config == "kernel/config"


def test_symbolic_link_to_itself(tmp_path: Path) -> None:
    path = project(tmp_path, BASE)
    (tmp_path / "kernel/config").unlink()
    (tmp_path / "kernel/config").symlink_to("config")
    with pytest.raises(ConfigError, match=r"cluster.yaml:5: kernel.config: kernel/config cannot be read"):
        load_cluster(path)


def test_workdir_that_holds_the_project(tmp_path: Path) -> None:
    for workdir in (tmp_path, tmp_path.parent):
        text = BASE.replace("/home/builder/buildtmp", str(workdir))
        error = refused(tmp_path / f"{len(str(workdir))}", text)
        assert "holds the project itself" in error.message
    for number, name in enumerate(("build", "patches", "a/b")):
        root = tmp_path / f"in{number}"
        error = refused(root, BASE.replace("/home/builder/buildtmp", f"{root}/{name}"))
        assert "lies in the project" in error.message
    error = refused(tmp_path / "x.state", BASE.replace("/home/builder/buildtmp", str(tmp_path / "x")))
    assert "holds the project itself" in error.message


def test_ccache_in_the_workdir(tmp_path: Path) -> None:
    text = BASE.replace("{path: /home/builder/buildtmp", "{path: /home/builder/buildtmp", 1)
    text = text.replace("build:\n", "build:\n  ccache: 5G\n  ccache_dir: /home/builder/buildtmp/ccache\n", 1)
    error = refused(tmp_path, text)
    assert "build.ccache_dir" in error.message and "lies in the workdir" in error.message


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no cluster.yaml in "):
        load_cluster(tmp_path / "cluster.yaml")
    with pytest.raises(ConfigError, match=r"cluster.yaml cannot be read: Not a directory"):
        (tmp_path / "file").touch()
        load_cluster(tmp_path / "file/cluster.yaml")
    (tmp_path / "cluster.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"cluster.yaml is (a directory|not a regular file)"):
        load_cluster(tmp_path / "cluster.yaml")
    os.mkfifo(tmp_path / "fifo.yaml")
    with pytest.raises(ConfigError, match=r"fifo.yaml is not a regular file"):
        load_cluster(tmp_path / "fifo.yaml")


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    error = refused(tmp_path, b"a: " + b"[" * (5 << 20))
    assert error.message == "cluster.yaml:1: is larger than 4 MiB: this is no cluster.yaml"


def test_the_slow_parser_refuses_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    for name in ("bomb", "tag", "deep", "control character", "duplicate key", "second document", "empty", "colon"):
        old, new, line, says = REFUSED[name]
        error = refused(tmp_path / name, BASE.replace(old, new, 1))
        assert error.message.startswith(f"cluster.yaml:{line}: "), error.message
        assert says in error.message


SNIPPETS = [
    *(
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\t",
        "#",
        "&a ",
        "*a",
        "!!str ",
        "!",
        "|",
        ">",
        "%",
        "'",
        '"',
    ),
    *("---\n", "...\n", "<<: ", "? ", "null", "~", "true", "0", "-1", "1e999", ".nan", "9" * 30, "0x1", "2027-02-30"),
    *(
        "\x00",
        "\x1b",
        "\u2028",
        "\ufeff",
        "é",
        "😀",
        "..",
        "/",
        "$(id)",
        "local",
        "auto",
        "0s",
        "0M",
        "[[]]",
        "{a: {}}",
    ),
    *("[1, a, {}]", "::", "10.0.0.1:1", "１２", "²", "10.0.0.²", "0.0.0.00001"),
]


def mutated(text: str, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        at, end = sorted(chance.randint(0, len(text)) for _ in range(2))
        end = min(end, at + 12)
        kind = chance.randrange(5)
        if kind == 0:
            text = text[:at] + chance.choice(SNIPPETS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[end:]
        elif kind == 2:
            text = text[:at] + chance.choice(SNIPPETS) + text[end:]
        else:  # a whole value, so that the later checks are reached as well
            lines = text.split("\n")
            number = chance.randrange(len(lines))
            head, colon, _ = lines[number].partition(": ")
            lines[number] = head + colon + chance.choice(SNIPPETS)
            text = "\n".join(lines)
    data = bytearray(text.encode())
    if chance.random() < 0.1 and data:
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("base", [BASE, DESIGN, SMALLEST], ids=["base", "design", "smallest"])
def test_mutations_raise_nothing_but_config_errors(base: str, tmp_path: Path) -> None:
    chance = random.Random(20270131)
    path = project(tmp_path, base)
    loaded = said = 0
    for _ in range(300):
        data = mutated(base, chance)
        path.write_bytes(data)
        try:
            load_cluster(path)
            loaded += 1
        except ConfigError as error:
            assert error.message.startswith("cluster.yaml:"), data
            for line in (error.message, *error.evidence):
                assert line.isprintable(), (line, data)
            said += 1
        except Exception as error:
            raise AssertionError(f"{error!r} of {data!r}") from error
    assert loaded > 2
    assert said > 150


@pytest.mark.parametrize("name", ["a\nb", "tab\there", "esc\x1b[2J", "del\x7f"])
def test_a_path_that_no_line_can_hold_is_refused_first(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="holds a line end or another control character: '") as caught:
        load_cluster(tmp_path / name / "cluster.yaml")
    assert name not in caught.value.render()
