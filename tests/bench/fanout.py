"""Preparing and syncing 1, 3 and 8 workers, beside Ansible doing the same work from the same place.

Ours is `doit prepare sync` as typed: with doit's own start, and with build mode left again at the end. The plays do the
same and are told in full below: `idiomatic` is a module a step, `tuned` one archive and one script. Both run with
pipelining, 8 forks, ssh's ControlPersist and without gathering facts. `floor` is what nobody goes below: no Python,
nothing checked, two ssh a node, all at once, with the tuned play's archive and scripts on their stdin; `start` is
`python -c "import doit"`, which whatever doit drives has before it. Every run's end state is looked at on the nodes;
between first runs they are put back. The nodes share the controller's cores, which is hard on Ansible.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

from kbuild_tasks.lab.lab import Lab

COUNTS = (1, 3, 8)
COORDINATOR = "kubenode1"
WORKDIR, PLACE = "/home/builder/buildbench", "/var/lib/bench"

IDIOMATIC = """\
- hosts: workers
  gather_facts: false
  become: true
  tasks:
    - {name: compiler, command: gcc -dumpfullversion, changed_when: false}
    - {name: machine, command: gcc -dumpmachine, changed_when: false}
    - {name: binutils, command: as --version, changed_when: false}
    - {name: memory, command: cat /proc/meminfo, changed_when: false}
    - {name: distcc, command: distccd --version, changed_when: false}
    - {name: clock, command: date +%s, changed_when: false}
    - {name: directory, file: {path: PLACE, state: directory, mode: "0755"}}
    - {name: workdir, file: {path: WORKDIR, state: directory, mode: "0755"}}
    - {name: kernel, copy: {src: kernel/, dest: PLACE/kernel/, mode: preserve}}
    - {name: patches, copy: {src: patches/, dest: PLACE/patches/, mode: preserve}}
    - {name: cluster, copy: {src: cluster.yaml, dest: PLACE/cluster.yaml, mode: preserve}}
    - {name: mounted, command: mountpoint -q WORKDIR, register: mounted, failed_when: false, changed_when: false}
    - {name: tmpfs, command: mount -t tmpfs -o size=128m tmpfs WORKDIR, when: mounted.rc != 0}
    - {name: active, command: systemctl is-active bench-distccd, register: active, failed_when: false,
       changed_when: false}
    - {name: distccd, command: "DISTCCD", when: active.rc != 0}
- hosts: workers
  gather_facts: false
  become: true
  tasks:
    - {name: no distccd, systemd: {name: bench-distccd, state: stopped}}
    - {name: no tmpfs, command: umount WORKDIR}
"""
TUNED = """\
- hosts: workers
  gather_facts: false
  become: true
  tasks:
    - {name: there, stat: {path: PLACE/SUM}, register: there}
    - {name: directory, file: {path: PLACE, state: directory}, when: not there.stat.exists}
    - {name: archive, unarchive: {src: all.tar, dest: PLACE}, when: not there.stat.exists}
    - name: all the rest
      shell: |
REST
- hosts: workers
  gather_facts: false
  become: true
  tasks:
    - {name: leave, shell: LEAVE}
"""
REST = """\
set -e
gcc -dumpfullversion; gcc -dumpmachine; as --version | head -1; cat /proc/meminfo; distccd --version; date +%s
touch PLACE/SUM
mkdir -p WORKDIR
mountpoint -q WORKDIR || mount -t tmpfs -o size=128m tmpfs WORKDIR
systemctl -q is-active bench-distccd || DISTCCD
"""
LEAVE = "systemctl stop bench-distccd && umount WORKDIR"
FLOOR = """\
here=ADDRESS
[ -e PLACE/SUM ] || { mkdir -p PLACE; tar -x -C PLACE -f -; }
"""
FAN = r"""for what in floor leave; do
	for address in $(sed -n 's/^[0-9].*/&/p' hosts); do
		sed "s/ADDRESS/$address/" $what.sh >$what.$address
		{ cat $what.$address all.tar; } |
			ssh -o ControlMaster=auto -o ControlPersist=60s -o ControlPath=~/.ssh/floor-%C ansible@$address \
				"sudo -n sh -c 'eval \"\$(head -c $(stat -c %s $what.$address))\"'" >told.$address &
		started="$started $!"
	done
	for child in $started; do wait $child || exit 1; done
	started=
done
"""
DISTCCD = (
    "systemd-run -q --unit=bench-distccd distccd --no-detach --daemon --user distccd --listen {{ inventory_hostname }} "
    "--allow 10.77.0.11 --jobs 2 --port 3632"
)
WORDS = {"DISTCCD": DISTCCD, "LEAVE": LEAVE, "WORKDIR": WORKDIR, "PLACE": PLACE, "SUM": "sum-of-this-set"}
CONFIG = """\
[defaults]
forks = 8
host_key_checking = true
[ssh_connection]
pipelining = true
ssh_args = -o ControlMaster=auto -o ControlPersist=60s
"""
RESET = f"""
systemctl stop bench-distccd kbuild-distccd 2>/dev/null
umount {WORKDIR} 2>/dev/null
rm -rf {PLACE} {WORKDIR} /var/lib/kbuild-tasks
journalctl -q --rotate --vacuum-time=1s
true
"""


class Bench:
    def __init__(self, root: Path) -> None:
        self.root, self.project = root, root / "build" / "bench"
        self.lab = Lab(root)
        self.lab.up(max(COUNTS) + 1)

    def workers(self, count: int) -> dict[str, str]:
        return {f"kubenode{n}": f"10.77.0.{10 + n}" for n in range(2, count + 2)}

    def make(self, count: int) -> None:
        """The example project with so many workers, and the plays for them."""
        self.shell(f"rm -rf {self.project}; mkdir -p {self.project}")
        for name in ("kernel", "patches"):
            shutil.copytree(self.root / name, self.project / name)
        shutil.copy(self.root / "dodo.py", self.project)
        head = (self.root / "cluster.yaml").read_text().partition("\nnodes:")[0]
        nodes = "".join(
            f"  {name}: {{address: {address}, rollout: false}}\n" for name, address in self.workers(count).items()
        )
        head = head.replace("/home/builder/buildtmp", WORKDIR)
        own = f"  {COORDINATOR}: {{address: 10.77.0.11, connection: local, slots: 1, rollout: false}}\n"
        (self.project / "cluster.yaml").write_text(f"{head}\nnodes:\n{own}{nodes}")
        for file, text in (
            ("idiomatic.yml", IDIOMATIC),
            ("tuned.yml", TUNED.replace("REST\n", textwrap.indent(REST, " " * 8))),
            ("floor.sh", FLOOR + REST.replace("DISTCCD", DISTCCD.replace("{{ inventory_hostname }}", "$here"))),
            ("leave.sh", "LEAVE"),
            ("fan.sh", FAN),
        ):
            text = (
                text.replace("DISTCCD", DISTCCD)
                .replace("LEAVE", LEAVE)
                .replace("WORKDIR", WORKDIR)
                .replace("PLACE", PLACE)
            )
            (self.project / file).write_text(text.replace("SUM", "sum-of-this-set"))
        hosts = "".join(f"{address}\n" for address in self.workers(count).values())
        (self.project / "hosts").write_text(f"[workers]\n{hosts}[workers:vars]\nansible_user=ansible\n")
        (self.project / "ansible.cfg").write_text(CONFIG)
        subprocess.run(["tar", "cf", "all.tar", "kernel", "patches", "cluster.yaml"], cwd=self.project, check=True)
        self.shell(f"chown -R builder: {self.project}", "root")

    def shell(self, script: str, user: str = "builder", node: str = COORDINATOR) -> str:
        return self.lab.exec(node, ["sh", "-c", script], user, timeout=600).out

    def reset(self, count: int) -> None:
        """Nodes as new, no connection kept."""
        for name in self.workers(count):
            self.shell(RESET, "root", name)
        self.shell(f"rm -rf {self.project}/build /var/lib/kbuild-tasks ~/.ansible; pkill -x ssh; true", "root")

    def timed(self, command: str) -> float:
        """Seconds of a command in the coordinator, timed there."""
        script = f"cd {self.project} && date +%s.%N && {command} >out 2>&1 && date +%s.%N || {{ cat out; exit 1; }}"
        began, ended = self.shell(script).split()
        return float(ended) - float(began)

    def check(self, count: int, ours: bool) -> None:
        """Whether what was timed did happen, on every node."""
        files = "/var/lib/kbuild-tasks/sync/current" if ours else PLACE
        want = self.shell(f"sha256sum < {self.project}/kernel/PKGBUILD").split()[0]
        for name in self.workers(count):
            assert want in self.shell(f"sha256sum {files}/kernel/PKGBUILD", "root", name), name
            if not ours:
                said = self.shell("journalctl -q -o cat -u bench-distccd", "root", name)
                assert said.count("Started bench-distccd") == said.count("Stopped bench-distccd") == 2, said
                self.shell(f"! mountpoint -q {WORKDIR}", "root", name)
        if ours:
            for name in self.workers(count):
                facts = json.loads((self.project / f"build/facts/{name}.json").read_text())
                assert facts["state"] == "ready" and facts["mode"]["tmpfs"], facts


def measure(root: Path) -> dict[str, Any]:
    """{"seconds": {count: {what: {"first", "again"}}}, "ratios", "goals"}."""
    bench = Bench(root)
    venv = root / ".venv/bin"
    commands = {
        "ours": f"{venv}/doit prepare sync",
        "idiomatic": f"{venv}/ansible-playbook -i hosts idiomatic.yml",
        "tuned": f"{venv}/ansible-playbook -i hosts tuned.yml",
        "floor": "sh fan.sh",
        "start": f"{venv}/python -c 'import doit'",
    }
    seconds: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    goals: dict[str, float] = {}
    for count in COUNTS:
        bench.make(count)
        told = seconds.setdefault(str(count), {})
        for what, command in commands.items():
            bench.reset(count)
            time.sleep(1)
            told[what] = {"first": bench.timed(command), "again": bench.timed(command)}
            if what != "start":
                bench.check(count, what == "ours")
        for what, goal in (("idiomatic", 10), ("tuned", 8)):
            for run in ("first", "again"):
                ratios[f"{what} / ours, {count} nodes, {run}"] = told[what][run] / told["ours"][run]
                goals[f"{what} / ours, {count} nodes, {run}"] = goal
        for run in ("first", "again"):
            bound = told["floor"][run] + told["start"]["again"]
            ratios[f"tuned / (floor + start), {count} nodes, {run}"] = told["tuned"][run] / bound
        bench.reset(count)
    return {"seconds": seconds, "ratios": ratios, "goals": goals}
