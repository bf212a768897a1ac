"""One patched kernel for the whole cluster. `doit list` names the tasks, `doit plan` says what would run and why."""

from pathlib import Path

from kbuild_tasks import Pipeline

pipeline = Pipeline(Path(__file__).with_name("cluster.yaml"))
DOIT_CONFIG = pipeline.doit_config()


def task_kernel():
    """From cluster.yaml, patches/, the PKGBUILD and the .config to packages in artifacts/."""
    yield from pipeline.tasks()
