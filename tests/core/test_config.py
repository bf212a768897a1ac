"""cluster.yaml that is good: what it becomes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from kbuild_tasks.core import config, model, schema, units
from kbuild_tasks.effects.cluster_file import load_cluster
from kbuild_tasks.effects.yaml_tree import parse

REPOSITORY = Path(__file__).parent.parent.parent

DESIGN = """\
# yaml-language-server: $schema=kbuild_tasks/schema.json
version: 1
kernel:
  pkgbuild: kernel/PKGBUILD         # used unchanged
  arch: x86_64                      # x86_64 | aarch64 | armv7h
  config: kernel/config             # base: a file, or the name of a defconfig
  fragments: [kernel/config.d/10-k3s.config]
  patches: patches                  # series file if there is one, else *.patch in name order
  require: [BRIDGE_NETFILTER, OVERLAY_FS]       # must end up y or m
build:
  coordinator: kubenode1
  workdir: {path: /home/builder/buildtmp, tmpfs: auto}   # auto | off | size; never more than the node can hold
  max_jobs: auto
  fail_local_share: 50%             # more local fallbacks than this fails the build
ssh: {user: ansible, identity: ~/.ssh/id_ed25519, known_hosts: ~/.ssh/known_hosts}
defaults: {slots: auto, memory_per_job: 200M}
nodes:
  kubenode1: {address: 127.0.0.1, connection: local, slots: 2, k3s: server}
  kubenode2: {address: 10.0.0.12, k3s: agent}
  kubenode7: {address: 10.0.0.17, slots: 0}     # gets the kernel, compiles nothing
  kubenode8: {address: 10.0.0.18, hold: true}
rollout:
  canary: [kubenode7]
  batches: [1]
  bootloader: auto                  # systemd-boot | grub | extlinux | raspberrypi
  panic_timeout: 10s
  reboot_timeout: 10min
  settle: 20s
  verify: {modules: [overlay, br_netfilter], commands: []}
"""

SMALLEST = """\
version: 1
kernel: {pkgbuild: kernel/PKGBUILD, arch: aarch64, config: defconfig}
build: {coordinator: one, workdir: {path: /srv/kbuild}}
nodes:
  one: {address: 192.0.2.1}
"""


def project(root: Path, text: str | bytes) -> Path:
    """A project directory with all that the examples name; returns its cluster.yaml."""
    (root / "kernel/config.d").mkdir(parents=True)
    (root / "patches").mkdir()
    for name in ("PKGBUILD", "config", "config.d/10-k3s.config"):
        (root / "kernel" / name).touch()
    path = root / "cluster.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_example_of_the_design_loads_as_it_is(tmp_path: Path) -> None:
    assert load_cluster(project(tmp_path, DESIGN)) == model.Cluster(
        root=tmp_path,
        source="cluster.yaml",
        kernel=model.Kernel(
            pkgbuild="kernel/PKGBUILD",
            arch="x86_64",
            config="kernel/config",
            fragments=("kernel/config.d/10-k3s.config",),
            patches="patches",
            require=("BRIDGE_NETFILTER", "OVERLAY_FS"),
            require_lines={"BRIDGE_NETFILTER": 9, "OVERLAY_FS": 9},
            waivers=(),
        ),
        build=model.Build(
            coordinator="kubenode1",
            workdir=model.Workdir("/home/builder/buildtmp", "auto"),
            max_jobs=None,
            fail_local_share=0.5,
            k3s="leave",
            sign_key=None,
        ),
        ssh=model.Ssh("ansible", "~/.ssh/id_ed25519", "~/.ssh/known_hosts", connect_timeout=5),
        nodes={
            "kubenode1": model.Node("kubenode1", "127.0.0.1", "local", 2, 209715200, "server", False, 22, 18),
            "kubenode2": model.Node("kubenode2", "10.0.0.12", "ssh", None, 209715200, "agent", False, 22, 19),
            "kubenode7": model.Node("kubenode7", "10.0.0.17", "ssh", 0, 209715200, None, False, 22, 20),
            "kubenode8": model.Node("kubenode8", "10.0.0.18", "ssh", None, 209715200, None, True, 22, 21),
        },
        rollout=model.Rollout(
            canary=("kubenode7",),
            batches=(1,),
            bootloader="auto",
            panic_timeout=10,
            reboot_timeout=600,
            settle=20,
            verify_modules=("overlay", "br_netfilter"),
            verify_commands=(),
        ),
    )


def test_nodes_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = SMALLEST + "".join(f"  n{i}: {{address: 192.0.2.{i}}}\n" for i in (9, 3, 7))
    assert list(load_cluster(project(tmp_path, text)).nodes) == ["one", "n9", "n3", "n7"]


def test_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    cluster = load_cluster(project(tmp_path, SMALLEST))
    assert cluster.kernel == model.Kernel("kernel/PKGBUILD", "aarch64", "defconfig")
    assert cluster.ssh == model.Ssh()
    assert cluster.rollout == model.Rollout()
    assert cluster.build == model.Build("one", model.Workdir("/srv/kbuild"))
    assert cluster.coordinator == model.Node("one", "192.0.2.1", connection="local", line=5)


def test_the_coordinator_is_local_unless_it_says_ssh(tmp_path: Path) -> None:
    text = SMALLEST.replace("192.0.2.1}", "192.0.2.1, connection: ssh}")
    assert load_cluster(project(tmp_path, text)).coordinator.connection == "ssh"


def test_the_defaults_told_to_editors_are_the_loaders(tmp_path: Path) -> None:
    """Every "default" of schema.json, written into a file, changes nothing."""
    defaults: dict[str, dict[str, object]] = {}

    def collect(rule: dict, section: str) -> None:  # type: ignore[type-arg]
        for key, below in rule.get("properties", {}).items():
            if "default" in below:
                defaults.setdefault(section, {})[key] = below["default"]

    rules = schema.schema()["$defs"]
    for section in ("build", "kernel", "ssh", "defaults", "rollout"):
        collect(rules[section], section)
    collect(rules["build"]["properties"]["workdir"], "workdir")
    collect(rules["rollout"]["properties"]["verify"], "verify")
    node = {key: below["default"] for key, below in rules["node"]["properties"].items() if "default" in below}
    document = {
        "version": 1,
        "kernel": {"pkgbuild": "kernel/PKGBUILD", "arch": "aarch64", "config": "defconfig", **defaults["kernel"]},
        "build": {"coordinator": "one", "workdir": {"path": "/srv/kbuild", **defaults["workdir"]}, **defaults["build"]},
        "ssh": defaults["ssh"],
        "defaults": defaults["defaults"],
        "nodes": {"one": {"address": "192.0.2.1", **node}},
        "rollout": {**defaults["rollout"], "verify": defaults["verify"]},
    }
    assert len(defaults) == 7
    plain = load_cluster(project(tmp_path / "plain", SMALLEST))
    said = load_cluster(project(tmp_path / "said", json.dumps(document)))
    nodes = {name: dataclasses.replace(node, line=5) for name, node in said.nodes.items()}
    assert dataclasses.replace(said, root=plain.root, nodes=nodes) == plain


def test_what_nodes_share_goes_under_defaults(tmp_path: Path) -> None:
    text = SMALLEST + "  two: {address: 192.0.2.2, slots: auto, memory_per_job: 1G, port: 22}\n"
    text += "defaults: {slots: 3, memory_per_job: 300M, port: 2222}\n"
    nodes = load_cluster(project(tmp_path, text)).nodes
    assert (nodes["one"].slots, nodes["one"].memory_per_job, nodes["one"].port) == (3, 300 << 20, 2222)
    assert (nodes["two"].slots, nodes["two"].memory_per_job, nodes["two"].port) == (None, 1 << 30, 22)


def test_symbols_may_carry_config_and_keep_their_lines(tmp_path: Path) -> None:
    text = SMALLEST.replace(
        "kernel: {pkgbuild: kernel/PKGBUILD, arch: aarch64, config: defconfig}",
        "kernel:\n  pkgbuild: ./kernel/PKGBUILD\n  arch: armv7h\n  config: bcm2709_defconfig\n  patches: patches/\n"
        "  require:\n    - CONFIG_VXLAN\n    - OVERLAY_FS\n    - 9P_FS\n    - VXLAN\n"
        "  waivers:\n    - symbol: CONFIG_VXLAN\n      until: 2027-01-31\n      why: no driver yet\n",
    )
    kernel = load_cluster(project(tmp_path, text)).kernel
    assert kernel == model.Kernel(
        pkgbuild="kernel/PKGBUILD",
        arch="armv7h",
        config="bcm2709_defconfig",
        patches="patches",
        require=("VXLAN", "OVERLAY_FS", "9P_FS"),
        require_lines={"VXLAN": 8, "OVERLAY_FS": 9, "9P_FS": 10},
        waivers=(model.Waiver("VXLAN", "2027-01-31", "no driver yet", 13),),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3G", 3221225472),
        ("200M", 209715200),
        ("200m", 209715200),
        ("1.5GiB", 1610612736),
        ("64K", 65536),
        ("512KiB", 524288),
        ("1T", 1099511627776),
    ],
)
def test_sizes_are_powers_of_1024(text: str, expected: int) -> None:
    assert units.size(text) == expected
    assert schema.matcher(schema.schema()["$defs"]["size"]["pattern"]).fullmatch(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("10s", 10), ("90sec", 90), ("10min", 600), ("2m", 120), ("1h", 3600), ("1.5h", 5400)]
)
def test_durations_are_seconds(text: str, expected: int) -> None:
    assert units.duration(text) == expected
    assert schema.matcher(schema.schema()["$defs"]["duration"]["pattern"]).fullmatch(text)


@pytest.mark.parametrize(("value", "expected"), [("50%", 0.5), ("12.5%", 0.125), ("100%", 1.0), (0.25, 0.25), (1, 1.0)])
def test_shares(value: str | float, expected: float, tmp_path: Path) -> None:
    text = SMALLEST.replace("coordinator: one,", f"coordinator: one, fail_local_share: {value},")
    assert load_cluster(project(tmp_path, text)).build.fail_local_share == expected


@pytest.mark.parametrize(
    ("written", "expected"), [("off", "off"), ("auto", "auto"), ("3G", 3 << 30), ("1.5GiB", 3 << 29), ("'off'", "off")]
)
def test_tmpfs(written: str, expected: str | int, tmp_path: Path) -> None:
    """off is text, as in YAML 1.2, not YAML 1.1's false."""
    text = SMALLEST.replace("path: /srv/kbuild", f"path: /srv/kbuild, tmpfs: {written}")
    assert load_cluster(project(tmp_path, text)).build.workdir.tmpfs == expected


@pytest.mark.parametrize("address", ["10.0.0.1", "node.example.org", "fd00::12", "::1", "3com", "xn--bcher-kva", "a"])
def test_addresses(address: str, tmp_path: Path) -> None:
    text = SMALLEST.replace("192.0.2.1", f'"{address}"')
    assert load_cluster(project(tmp_path, text)).coordinator.address == address


def test_one_address_with_two_ports_is_two_nodes(tmp_path: Path) -> None:
    text = SMALLEST + "  two: {address: 192.0.2.1, port: 2222}\n  three: {address: 192.0.2.1, port: 2223}\n"
    assert [n.port for n in load_cluster(project(tmp_path, text)).nodes.values()] == [22, 2222, 2223]


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        ("a: 12:30", "12:30"),
        ("a: 010", 10),
        ("a: yes", "yes"),
        ("a: on", "on"),
        ("a: 2027-01-31", "2027-01-31"),
        ("a: 10.0.0.1", "10.0.0.1"),
        ("a: 1.5", 1.5),
        ("a: -3", -3),
        ("a: 1e3", 1000.0),
        ("a: '5'", "5"),
        ("a: ~", None),
        ("a:", None),
        ("a: True", True),
        ("a: .", "."),
        ("a: 1_000", "1_000"),
        ("a: 99999999999999999999999", "99999999999999999999999"),
        ("a: .inf", ".inf"),
        ("a: nan", "nan"),
        ("a: |\n  x\n  y\n", "x\ny\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(yaml: str, value: object) -> None:
    tree, problems = parse(yaml.encode())
    assert not problems
    assert tree == [1, {"a": [1, value]}]
    assert type(tree[1]["a"][1]) is type(value)


def test_lines_are_those_of_keys_and_items() -> None:
    tree, problems = parse(b"\xef\xbb\xbf---\r\na:\r\n  - x\r\n  - y: {z: 1,\r\n        w: [2]}\r\nb:\r\n  c\r\n")
    assert not problems
    assert tree == [2, {"a": [2, [[3, "x"], [4, {"y": [4, {"z": [4, 1], "w": [5, [[5, 2]]]}]}]]], "b": [6, "c"]}]


def test_both_parsers_give_the_same_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    with_libyaml = parse(DESIGN.encode())
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert parse(DESIGN.encode()) == with_libyaml
    assert with_libyaml[1] == []


@pytest.mark.parametrize("name", sorted(p.name for p in (REPOSITORY / "docs/examples").glob("*.yaml")))
def test_the_examples_load(name: str, tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/examples" / name).read_text()
    tree, problems = parse(text.encode())
    assert tree is not None
    assert problems == []
    for file in config.project_files(tree):
        path = tmp_path / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if file.directory else path.touch()
    (tmp_path / name).write_text(text)
    assert load_cluster(tmp_path / name).workers or name == "one-machine.yaml"


def test_there_are_three_examples_and_each_points_editors_to_the_schema() -> None:
    examples = sorted((REPOSITORY / "docs/examples").glob("*.yaml"))
    assert [path.name for path in examples] == [
        "one-machine.yaml",
        "seven-cm3-and-x86.yaml",
        "seven-cm3.yaml",
        "three-x86.yaml",
    ]
    for path in [*examples, REPOSITORY / "cluster.yaml"]:
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (path.parent / first.partition("=")[2]).resolve() == schema.SCHEMA


def test_the_shipped_cluster_loads_where_it_lies() -> None:
    cluster = load_cluster(REPOSITORY / "cluster.yaml")
    assert [(node.name, node.address, node.connection) for node in cluster.nodes.values()] == [
        ("kubenode1", "10.77.0.11", "local"),
        ("kubenode2", "10.77.0.12", "ssh"),
        ("kubenode3", "10.77.0.13", "ssh"),
        ("kubenode7", "10.77.0.17", "ssh"),
        ("kubenode8", "10.77.0.18", "ssh"),
    ]
    assert [name for name, node in cluster.nodes.items() if node.rollout] == ["kubenode7", "kubenode8"]
    assert cluster.rollout.canary == ("kubenode7",)
    assert cluster.build.coordinator == "kubenode1"
    assert cluster.build.fail_local_share == 0.5


def test_a_thousand_nodes(tmp_path: Path) -> None:
    lines = [f"  node{i}: {{address: 10.{i >> 8}.{i & 255}.9, k3s: agent}}\n" for i in range(1000)]
    cluster = load_cluster(project(tmp_path, SMALLEST + "".join(lines)))
    assert len(cluster.nodes) == 1001
    assert cluster.nodes["node999"] == model.Node("node999", "10.3.231.9", k3s="agent", line=1005)


def test_a_window_is_minutes_and_days(tmp_path: Path) -> None:
    text = SMALLEST + 'rollout:\n  window: {from: "23:00", to: "04:30", days: [thu, mon]}\n'
    assert load_cluster(project(tmp_path, text)).rollout.window == model.Window(23 * 60, 4 * 60 + 30, (0, 3))
    text = SMALLEST + 'rollout:\n  window: {from: "01:00", to: "05:00"}\n'
    assert load_cluster(project(tmp_path / "two", text)).rollout.window == model.Window(60, 300)
