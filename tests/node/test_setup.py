"""The script that puts the helper on a node: into place whole, again without a change, and with a sudoers line that
sudo itself understands."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kbuild_tasks.node import by_hand, helper_text, setup_text

pytestmark = pytest.mark.real


def place(top: Path, user: str = "ansible", data: bytes | None = None) -> subprocess.CompletedProcess[str]:
    helper = helper_text().encode()
    values = {"helper_sha256": hashlib.sha256(helper).hexdigest(), "user": user, "sudoers": "1", "setup_root": str(top)}
    script = "".join(f"{key}='{value}'\n" for key, value in values.items()) + "set -u\numask 022\n" + setup_text()
    done = subprocess.run(["sh", "-c", script], input=helper if data is None else data, capture_output=True)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def top(tmp_path: Path) -> Path:
    if os.geteuid() != 0 or not shutil.which("visudo"):
        pytest.skip("needs root and visudo")
    for folder in ("usr/local/lib", "etc/sudoers.d", "etc/systemd/system", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)
    return tmp_path


def test_twice_is_once(top: Path) -> None:
    done = place(top)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '{"helper": "new", "units": "new", "sudoers": "new", "signatures": "optional"}\n'
    helper = top / "usr/local/lib/kbuild-tasks/helper"
    assert helper.read_text() == helper_text()
    assert (helper.stat().st_mode & 0o7777, helper.stat().st_uid) == (0o755, 0)
    line = top / "etc/sudoers.d/kbuild-tasks"
    assert line.read_text() == 'ansible ALL=(root) NOPASSWD: /usr/local/lib/kbuild-tasks/helper ""\n'
    assert line.stat().st_mode & 0o7777 == 0o440
    times = {path: path.stat().st_mtime_ns for path in top.rglob("*") if path.is_file()}
    assert place(top).stdout == '{"helper": "fresh", "units": "fresh", "sudoers": "fresh", "signatures": "optional"}\n'
    assert {path: path.stat().st_mtime_ns for path in top.rglob("*") if path.is_file()} == times


def test_the_admin_runs_it_by_hand(top: Path) -> None:
    """One script with all in it: what sync sends, and the sudoers line; cut short it does nothing."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh"], input=script.replace("set -u\n", f"set -u\nsetup_root={top}\n", 1),
                              capture_output=True, text=True)  # fmt: skip

    script = subprocess.run([sys.executable, "-m", "kbuild_tasks.node", "kube"], capture_output=True, text=True).stdout
    assert script == by_hand("kube")
    for length in (len(script) // 2, len(script) - 30, len(script) - 2000):
        run(script[:length])
        assert not (top / "usr/local/lib/kbuild-tasks/helper").exists()
        assert not (top / "etc/sudoers.d/kbuild-tasks").exists()
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '{"helper": "new", "units": "new", "sudoers": "new", "signatures": "optional"}\n'
    assert (top / "usr/local/lib/kbuild-tasks/helper").read_text() == helper_text()
    assert (top / "etc/sudoers.d/kbuild-tasks").read_text().startswith("kube ALL=(root) NOPASSWD: /usr/local/lib/")
    for name in ("kbuild-modules.service", "kbuild-deadman.service"):
        assert (top / "etc/systemd/system/sysinit.target.wants" / name).exists()
    for user in ("a b", "", "ALL", "x; reboot"):
        with pytest.raises(ValueError):
            by_hand(user)


def test_bytes_that_changed_on_the_way(top: Path) -> None:
    place(top)
    helper = top / "usr/local/lib/kbuild-tasks/helper"
    for bad in (b"", helper_text().encode()[:-1], helper_text().encode().replace(b"fence", b"fance", 1)):
        done = place(top, data=bad)
        assert done.returncode == 3 and "other bytes" in done.stderr
        assert helper.read_text() == helper_text()
    assert sorted(path.name for path in helper.parent.iterdir()) == ["helper"]


def test_a_helper_that_was_changed_by_hand_is_put_right(top: Path) -> None:
    place(top)
    helper = top / "usr/local/lib/kbuild-tasks/helper"
    helper.chmod(0o777)
    assert '"helper": "new"' in place(top).stdout
    assert helper.stat().st_mode & 0o7777 == 0o755


def test_a_directory_that_others_may_write_to(top: Path) -> None:
    (top / "usr/local/lib").chmod(0o777)
    assert "may write" in place(top).stderr
    assert not (top / "usr/local/lib/kbuild-tasks/helper").exists()


@pytest.mark.parametrize("user", ["", "Ann", "a b", "a ALL=(ALL) NOPASSWD: ALL\\n", "#0", "%wheel", "ALL", "-x", "a,b"])
def test_users_that_are_none(top: Path, user: str) -> None:
    assert place(top, user).returncode == 3
    assert list((top / "etc/sudoers.d").iterdir()) == []


def test_sudo_allows_the_helper_and_nothing_else(top: Path) -> None:
    """The line as cvtsudoers understands it: one command, with an empty list of arguments."""
    place(top)
    done = subprocess.run(
        ["cvtsudoers", "-f", "json", top / "etc/sudoers.d/kbuild-tasks"], capture_output=True, text=True, check=True
    )
    assert '"command": "/usr/local/lib/kbuild-tasks/helper \\"\\""' in done.stdout
    assert done.stdout.count('"command"') == 1


def test_units_are_what_systemd_can_read(top: Path) -> None:
    place(top)
    for name in ("kbuild-modules.service", "kbuild-deadman.service"):
        unit = top / "etc/systemd/system" / name
        text = unit.read_text()
        assert "\t" not in text
        copy = top / name
        copy.write_text(text.replace("/usr/local/lib/kbuild-tasks/helper", "/bin/true"))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
        assert name not in done.stderr, done.stderr
        link = top / f"etc/systemd/system/sysinit.target.wants/{name}"
        assert link.resolve() == unit
