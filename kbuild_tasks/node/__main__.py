"""Prints the script with which the admin of a node puts the helper there, with its units and the sudoers line
(ssh.sudo: helper; docs/rollout.md).

    python -m kbuild_tasks.node [USER]    USER: who may call it, ssh.user of cluster.yaml; "ansible" if not said
"""

import sys

from kbuild_tasks.node import by_hand

if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
    print(__doc__.strip())
    sys.exit(len(sys.argv) > 2)
try:
    print(by_hand(*sys.argv[1:]), end="")
except ValueError as error:
    sys.exit(f"{error}\nhint: python -m kbuild_tasks.node ansible")
