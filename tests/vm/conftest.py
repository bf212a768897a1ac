"""VMs for tests: two that boot with systemd-boot, beside the three containers of the project's lab.

Other tests use the fixture `vms`: a Lab with VMS up. What they do to a VM they may leave, as long as it answers by
ssh; a test that needs one as new asks for it with `as_new`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kbuild_tasks.lab.lab import Lab
from tests.lab.conftest import breakable, lab  # noqa: F401 - fixtures
from tests.vm.machines import VMS


@pytest.fixture(scope="session")
def vms(lab: Lab) -> Iterator[Lab]:  # noqa: F811
    """The project's lab with kubenode7 and kubenode8 up. The first run makes the image (about two minutes)."""
    lab.up(3, vms=len(VMS))
    yield lab
    for node in lab.status():
        if node.kind != "container" and node.state == "on":
            lab.stop(node.name)
