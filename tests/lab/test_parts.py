"""The lab's pure parts: cgroup files, base recipe, what is written into nodes, command lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab import base, disks, enter, furnish, keys, nodes
from kbuild_tasks.lab.cgroups import Hierarchy, Tree, parse_mountinfo

MOUNTS = """\
25 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/freezer rw,relatime shared:5 - cgroup cgroup rw,freezer
33 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd ro,relatime - cgroup cgroup rw,name=systemd
35 30 0:31 / /sys/fs/cgroup/unified\\040two rw,relatime - cgroup2 cgroup2 rw
36 30 0:28 /inside /elsewhere rw,relatime - cgroup cgroup rw,freezer
"""


def test_hierarchies_are_the_writable_ones_that_we_use() -> None:
    top = Path("/sys/fs/cgroup")
    assert parse_mountinfo(MOUNTS) == (
        Hierarchy(top / "cpu,cpuacct", 1, frozenset({"cpu"})),
        Hierarchy(top / "freezer", 1, frozenset({"freezer"})),
        Hierarchy(top / "unified two", 2, frozenset()),
    )


def test_a_machine_without_cgroups_is_told() -> None:
    with pytest.raises(KbuildError, match="writable cgroup hierarchy"):
        Tree("kbuild-lab-x", ()).require()


def _member(top: Path, **files: str) -> Tree:
    """A picture of a cgroup: enough to see what is written where (the kernel itself is asked in test_lab.py)."""
    path = top / "kbuild-lab-x" / "kubenode1"
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return Tree("kbuild-lab-x", (Hierarchy(top, 2 if any("max" in f for f in files) else 1, frozenset()),))


@pytest.mark.parametrize(("cores", "quota"), [(0.5, "10000"), (2.0, "40000"), (0.05, "1000"), (None, "-1")])
def test_share_in_version_1(tmp_path: Path, cores: float | None, quota: str) -> None:
    tree = _member(tmp_path, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    tree.set_share("kubenode1", cores)
    path = tmp_path / "kbuild-lab-x/kubenode1"
    assert (path / "cpu.cfs_quota_us").read_text() == quota
    assert (path / "cpu.cfs_period_us").read_text() == "20000"
    assert tree.get_share("kubenode1") == cores


@pytest.mark.parametrize(("cores", "text"), [(0.5, "10000 20000"), (None, "max 20000")])
def test_share_in_version_2(tmp_path: Path, cores: float | None, text: str) -> None:
    tree = _member(tmp_path, cpu__max="max 100000")
    tree.set_share("kubenode1", cores)
    assert (tmp_path / "kbuild-lab-x/kubenode1/cpu.max").read_text() == text
    assert tree.get_share("kubenode1") == cores


def test_share_without_a_controller_is_an_error_and_no_limit_is_not(tmp_path: Path) -> None:
    tree = _member(tmp_path)
    tree.set_share("kubenode1", None)
    with pytest.raises(KbuildError, match="no cpu controller"):
        tree.set_share("kubenode1", 0.5)


DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'


def test_recipe_follows_the_machine() -> None:
    made = base.recipe(DEBIAN, "script", "x86_64")
    assert (made.distribution, made.release) == ("debian", "bookworm")
    assert {"systemd", "openssh-server", "distcc", "makepkg"} <= set(made.packages)
    arch = base.recipe("NAME=Manjaro\nID=manjaro\nID_LIKE=arch\n", "script", "x86_64")
    assert (arch.distribution, arch.release) == ("arch", "")
    with pytest.raises(KbuildError, match="Fedora Linux 40"):
        base.recipe('ID=fedora\nPRETTY_NAME="Fedora Linux 40"\n', "script", "x86_64")


def test_the_name_of_a_base_changes_with_all_that_makes_it() -> None:
    variants = [
        base.recipe(DEBIAN, "script", "x86_64"),
        base.recipe(DEBIAN, "script 2", "x86_64"),
        base.recipe(DEBIAN, "script", "aarch64"),
        base.recipe(DEBIAN.replace("bookworm", "trixie"), "script", "x86_64"),
    ]
    assert len({made.name for made in variants}) == len(variants)
    assert base.recipe(DEBIAN, "script", "x86_64").name == variants[0].name


def test_mirrors_are_those_of_the_machine() -> None:
    listing = (
        "http://mirror.test/debian/|bookworm|main|Debian|Packages\n"
        "http://mirror.test/debian/|bookworm|contrib|Debian|Packages\n"
        "http://mirror.test/debian/|bookworm|main|Debian|Translations\n"
        "http://mirror.test/security/|bookworm-security|main|Debian|Packages\n"
        "http://other.test/|bookworm|main|Somebody|Packages\n"
        "http://mirror.test/debian/|trixie|main|Debian|Packages\n"
    )
    assert base.sources(listing, "bookworm") == (
        "deb http://mirror.test/debian/ bookworm main contrib",
        "deb http://mirror.test/security/ bookworm-security main",
    )
    assert base.sources("", "bookworm") == ("deb http://deb.debian.org/debian bookworm main",)


def test_one_entry_of_a_name_and_first() -> None:
    text = "root:x:0:0:root:/root:/bin/bash\nbuilder:x:5:5::/old:/bin/sh\nbuilders:x:6:6::/:/bin/sh\n"
    assert furnish.with_entry(text, "builder", "builder:x:1000:1000::/home/builder:/bin/bash") == (
        "builder:x:1000:1000::/home/builder:/bin/bash\nroot:x:0:0:root:/root:/bin/bash\nbuilders:x:6:6::/:/bin/sh\n"
    )


def test_known_hosts_by_address_and_name() -> None:
    assert keys.known_hosts({"kubenode2": "ssh-ed25519 AAAA kubenode2\n"}) == (
        "10.77.0.12,kubenode2 ssh-ed25519 AAAA\n"
    )


def test_machine_ids_differ() -> None:
    ids = {keys.machine_id(Path(root), node) for root in ("/a", "/b") for node in ("kubenode1", "kubenode2")}
    assert len(ids) == 4
    assert all(len(i) == 32 for i in ids)


def test_nspawn_binds_escape_colons() -> None:
    furniture = furnish.Furniture("kubenode1", ("", ""), ("", ""), "", "", None, None)
    spec = nodes.NodeSpec("kubenode1", furniture, (("/a:b", True), ("/src\\x", False)), "/a:b/.lab")
    argv = nodes.nspawn_argv(spec, "/run/nodes/kubenode1")
    assert "--bind=/a\\:b:/a\\:b:norbind" in argv
    assert "--bind-ro=/src\\\\x:/src\\\\x:norbind" in argv
    assert "--tmpfs=/a\\:b/.lab:mode=0755" in argv
    assert nodes.NodeSpec.from_json(spec.as_json()) == spec


def test_the_command_line_of_an_entered_node() -> None:
    assert enter.command_line(["echo", "$HOME"], "builder", {"HOME": "/home/builder"}) == [
        *["/usr/bin/systemd-run", "--scope", "--quiet", "--collect", "--"],
        *["/usr/bin/env", "-i", "HOME=/home/builder"],
        *["/usr/bin/setpriv", "--reuid=builder", "--regid=builder", "--init-groups", "--pdeathsig=TERM", "--"],
        *["echo", "$HOME"],
    ]


def test_a_disk_moves_to_another_base_with_builders_home_alone(tmp_path: Path) -> None:
    disk = tmp_path / "kubenode1"
    disks._make_disk(disk, "base-1")
    (disk / "root/home/builder/tree").mkdir(parents=True)
    (disk / "root/etc").mkdir()
    disks._make_disk(disk, "base-1")
    assert (disk / "root/etc").exists()
    disks._make_disk(disk, "base-2")
    assert [str(p.relative_to(disk)) for p in sorted(disk.rglob("*"))] == [
        *["base", "root", "root/home", "root/home/builder", "root/home/builder/tree"]
    ]
    assert list(tmp_path.iterdir()) == [disk]


def test_a_move_that_was_killed_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "kubenode1"
    (tmp_path / "kubenode1.home/tree").mkdir(parents=True)
    (disk / "root/home").mkdir(parents=True)
    disks._make_disk(disk, "base-2")
    assert (disk / "root/home/builder/tree").is_dir()
    assert not (tmp_path / "kubenode1.home").exists()
