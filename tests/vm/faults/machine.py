"""A VM whose power can be cut in earnest: its disk loses what it had not flushed (disk.py)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab import ready, vm, vm_image
from kbuild_tasks.lab.lab import Lab
from kbuild_tasks.lab.session import holder
from tests.vm.faults.moments import TELLING, TOLD
from tests.vm.machines import root

KIND = "systemd-boot"
PATIENCE = 600  # seconds for a boot; two at once take 30 to 45 where nothing else runs


class Machine:
    def __init__(self, lab: Lab, node: str, kept: Path) -> None:
        """kept: a directory for disks that somebody should look at."""
        self.lab, self.node, self.kept = lab, node, kept
        self.place = Path(lab.places.disks) / vm.directory(node, KIND)
        self.disk, self.socket = self.place / "served.raw", self.place / vm.SERVED
        self.variables, self.own = self.place / "vars.fd", self.place / "vars.own"
        self.console = Path(lab.places.logs) / f"{node}-console.log"
        self.server: subprocess.Popen[str] | None = None

    def fresh(self) -> None:
        """On, as new from the base image."""
        self.off()
        image = vm_image.ensure(self.lab.places, [KIND], print).path(KIND)
        subprocess.run(["qemu-img", "convert", "-O", "raw", image, self.disk], check=True)
        if not self.own.exists():
            shutil.copyfile(self.variables, self.own)
        shutil.copyfile(vm.firmware(KIND)[1], self.variables)
        self._serve()
        self.on()
        # A machine that has much else to do takes longer for a boot than systemd waits for a device.
        patient = "sed -i '/ .boot /s/umask=0022/&,x-systemd.device-timeout=10min/' /etc/fstab\n"
        telling = patient + "".join(f"ln -sf .telling /usr/local/bin/{name}\n" for name in TOLD)
        # Left where they are by hard links, a script's own name is the link's.
        root(self.lab, self.node, f"cat >/usr/local/bin/.telling <<'END'\n{TELLING}END\n"
             f"chmod 0755 /usr/local/bin/.telling\n{telling}/usr/bin/sync")  # fmt: skip

    def _serve(self) -> None:
        self._end_server()
        argv = [sys.executable, "-m", "tests.vm.faults.disk", str(self.disk), str(self.socket)]
        self.server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not self.socket.exists():
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise KbuildError(f"the disk of {self.node} is not served")
            time.sleep(0.01)

    def off(self) -> None:
        self.lab.stop(self.node)

    def on(self, hopeless: str = "") -> float:
        """Seconds until it answers. Raises KbuildError: it does not, or its console has `hopeless` (a pattern)."""
        began, since = time.monotonic(), self.length()

        def lost() -> list[str]:
            return [self.node] if hopeless and re.search(hopeless, self.said(since)) else []

        self.lab.start(self.node, wait=False)
        places = self.lab.places
        ready.wait_for_ssh(holder(places), [self.node], places, PATIENCE, lost)
        return round(time.monotonic() - began, 1)

    def switch_off(self) -> None:
        """In peace: everything is written."""
        self.lab.exec(self.node, ["systemctl", "poweroff"], user="root", check=False, timeout=120)
        deadline = time.monotonic() + PATIENCE
        while next(node for node in self.lab.status() if node.name == self.node).state == "on":
            assert time.monotonic() < deadline, f"{self.node} does not switch itself off"
            time.sleep(0.2)

    def cut(self, probability: float, seed: int) -> tuple[int, int]:
        """The power goes; of what its disk had not flushed, how many pieces of how many are lost."""
        self.lab.stop(self.node)
        return self._ask(f"{probability} {seed}")

    def picture(self, name: str, probability: float, seed: int) -> tuple[int, int]:
        """Keep, under that name, what a cut would leave now; the VM goes on."""
        self.kept.mkdir(parents=True, exist_ok=True)
        told = self._ask(f"{probability} {seed} {self.kept / name}.raw")
        shutil.copyfile(self.variables, self.kept / f"{name}.vars")
        return told

    def _ask(self, line: str) -> tuple[int, int]:
        assert self.server is not None and self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(f"{line}\n")
        self.server.stdin.flush()
        lost, total = self.server.stdout.readline().split()
        return int(lost), int(total)

    def said(self, since: int) -> str:
        """What the console says behind its first `since` bytes."""
        with open(self.console, "rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def length(self) -> int:
        return self.console.stat().st_size

    def keep(self, name: str) -> None:
        """Its disk and NVRAM as they are, for whoever wants to look. It is off."""
        self.kept.mkdir(parents=True, exist_ok=True)
        for source, kind in ((self.disk, "raw"), (self.variables, "vars")):
            subprocess.run(["cp", "--sparse=always", source, self.kept / f"{name}.{kind}"], check=True)

    def load(self, name: str) -> None:
        """The other way."""
        for target, kind in ((self.disk, "raw"), (self.variables, "vars")):
            subprocess.run(["cp", "--sparse=always", self.kept / f"{name}.{kind}", target], check=True)
        self._serve()

    def forget(self, name: str) -> None:
        for kind in ("raw", "vars"):
            (self.kept / f"{name}.{kind}").unlink(missing_ok=True)

    def _end_server(self) -> None:
        if self.server is not None:
            assert self.server.stdin is not None
            self.server.stdin.close()
            self.server.wait(20)
            self.server = None
        if self.socket.exists():
            self.socket.unlink()

    def close(self) -> None:
        """The lab's own disk again; off."""
        self.off()
        self._end_server()
        if self.own.exists():
            os.replace(self.own, self.variables)
        self.disk.unlink(missing_ok=True)
