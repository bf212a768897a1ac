"""Prints the helper, for the admin of a node who installs it by hand (ssh.sudo: helper)."""

from kbuild_tasks.node import helper_text

print(helper_text(), end="")
