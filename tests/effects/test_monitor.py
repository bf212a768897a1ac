"""The monitor of one compilation: its times are those of the compilation, whenever it was made."""

from __future__ import annotations

import time
from pathlib import Path

from kbuild_tasks.core.hosts import HostPlan
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.distcc import Client
from kbuild_tasks.effects.monitor import Monitor


def test_seconds_count_from_the_beginning_of_the_compilation(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "work", tmp_path / "state")
    client = Client(paths, HostPlan("", 1, {}), tmp_path)
    before = time.monotonic()
    client.start()
    assert before <= client.started <= time.monotonic()
    monitor = Monitor(client, "n1", tmp_path, lambda *_: None, clock=lambda: 10.0, began=3.0)
    monitor.on_line("  CC      fs/a.o")
    monitor.close()
    client.close()
    assert monitor.phases == [(0.0, "prepare"), (7.0, "compile")]
