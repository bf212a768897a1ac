"""Which commands of a function run: bash's own `declare -f` text in, commands out."""

from __future__ import annotations

import subprocess

import pytest

from kbuild_tasks.core.shelltext import commands, decide

VALUES = {"on": "y", "off": "", "cpu": "zen3", "later": None}


def told(body: str) -> list[tuple[str, bool | None]]:
    script = f"f() {{\n{body}\n}}\ndeclare -f f"
    text = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    return [(c.text, c.runs) for c in commands(text, VALUES) if "MARK" in c.text]


@pytest.mark.parametrize(
    ("body", "runs"),
    [
        ("MARK", True),
        ("true; MARK", True),
        ("( MARK )", True),
        ("{ MARK; }", True),
        ("if [ -n \"$on\" ]; then MARK; fi", True),
        ("if [[ -n $off ]]; then MARK; fi", False),
        ("if [[ -n $off ]]; then :; else MARK; fi", True),
        ("if [[ -n $on ]]; then :; else MARK; fi", False),
        ("if [[ -n $later ]]; then :; else MARK; fi", None),
        ("if [[ $off ]]; then :; elif [[ $cpu = zen* ]]; then MARK; fi", True),
        ("if [[ $off ]]; then :; elif [[ $cpu = zen4 ]]; then MARK; fi", False),
        ("if [[ $on ]]; then if [[ $off ]]; then MARK; fi; fi", False),
        ("if [[ $on ]]; then if grep x y; then MARK; fi; fi", None),
        ("if [[ $off ]]; then if grep x y; then MARK; fi; fi", False),
        ("if [[ $off ]]; then true; fi; MARK", True),
        ("for a in b; do MARK; done", True),
        ("for a in b; do [[ $off ]] && MARK; done", False),
        ("while read a; do MARK; done", None),
        ("for a in b; do true; done; MARK", True),
        ("while read a; do true; done; MARK", True),
        ("case $cpu in x|y) MARK ;; esac", None),
        ("case $cpu in x) true ;; y) MARK ;; esac", None),
        ("case $cpu in x) true ;; esac; MARK", True),
        ("[ -n \"$on\" ] && MARK", True),
        ("[ -n \"$off\" ] && MARK", False),
        ("[ -z \"$off\" ] || MARK", False),
        ("[ -z \"$on\" ] || MARK", True),
        ("[[ $later ]] && MARK", None),
        ("[[ $on && $off ]] && MARK", None),
        ("[[ $off ]] && true || MARK", True),
        ("! [[ $off ]] && MARK", True),
        ("cd x && MARK", True),
        ("cd x || MARK", None),
        ("MARK || return 1", True),
        ("local a=$(nproc); MARK", True),
        ("make -j$(nproc)\nMARK", True),
        ("local a=(1 2)\nMARK", True),
        ("MARK & wait $!", True),
    ],
)  # fmt: skip
def test_whether_it_runs(body, runs):
    assert [state for _, state in told(body)] == ([] if runs is False else [runs])


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ('echo "MARK it"', []),
        ("printf '%s' MARK", []),
        ('msg2 "MARK" && true', []),
        ('echo "> MARK"', []),
        ("cat <<EOF\nMARK\nEOF", []),
        ("cat <<-'END' >x\n\tMARK\n\tEND\n", []),
        ("cat <<EOF\nx\nEOF\nMARK", ["MARK"]),
        ("echo x > MARK", ["> MARK"]),
        ('echo "$(MARK)"', ["$(MARK)"]),
        ("yes '' | MARK", ["yes '' | MARK"]),
        ("# MARK", []),
    ],
)
def test_what_is_only_said_is_no_command(body, left):
    assert [text for text, _ in told(body + "\ntrue")] == left


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ("[ $cpu == zen3 ]", True),
        ("[ $cpu == zen* ]", False),  # a pattern in [[ ]] alone
        ("[[ $cpu != zen* ]]", False),
        ("[[ ${cpu} ]]", True),
        ("[[ ${nothing:-x} = x ]]", True),
        ("[[ $nothing ]]", False),
        ("[[ $(uname) = x ]]", None),
        ("[[ -e $cpu ]]", None),
        ("[[ ${cpu%3} = zen ]]", None),
        ("! [[ $off ]]", True),
        ("[[ ! $on ]]", False),
        ('test -n "$on"', True),
        ("grep x y", None),
    ],
)
def test_what_is_known_of_a_test(condition, outcome):
    assert decide(condition, VALUES) is outcome
