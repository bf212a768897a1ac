"""What may be asked: the table and the sh made from it say the same, and nothing that is asked is ever run."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks import node
from kbuild_tasks.node import PATTERNS, VERBS, helper_text, spoken

from .world import World, hashes

pytestmark = pytest.mark.real

HOSTILE = [
    "$(touch {canary})", "`touch {canary}`", "; touch {canary}", "| touch {canary}", "&& touch {canary}",
    "\" ; touch {canary}; \"",
    "'; touch {canary}; '", "../../../{canary}", "/etc/passwd", "..", ".",
    "-rf", "--root=/", "*", "?", "[a-z]*", "~root", "$HOME",
    "${{IFS}}touch", "a b", "a\tb", "a\\nb", "\x00", "\x1b[2J", "ü", "a=b=c",
    "=", " lead", "trail ", "%s%n", "A" * 20000,
    "$((a[$(touch {canary})]))", "x\rtouch {canary}", "<(touch {canary})", "#", "!",
    "0x10", "010", "-1", "1e3", "9" * 30,
]  # fmt: skip
HARMLESS = (b"observe", b"baseline", b"probe", b"stage-list", b"journal", b"boot-modules", b"dead-man", b"deny",
            b"allow", b"lease")  # fmt: skip


def functions(extra: str) -> str:
    return helper_text("/nowhere").replace('\nmain "$@"\nexit\n', "\n") + extra


@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"]], ids=lambda words: words[0])
def test_the_sh_checks_are_the_table(shell: list[str]) -> None:
    choice = random.Random(7)
    pieces = ["a", "0", "9", "f", "g", "Z", "-", ".", "_", "/", "+", "=", " ", "@", ":", "~", "*", "$", "'", "\\", "é"]
    values = [
        "",
        *pieces,
        *(c.replace("{canary}", "x") for c in HOSTILE if len(c) < 100 and "\0" not in c and "\r" not in c),
    ]
    values += ["".join(choice.choices(pieces, k=choice.randint(2, 9))) for _ in range(300)]
    values += [
        choice.choice("0af") * size for size in (11, 12, 13, 15, 16, 17, 35, 36, 37, 63, 64, 65, 200, 201, 8192, 8193)
    ]
    cases = [(name, value) for name in PATTERNS for value in values]
    script = functions(
        "\nwhile IFS= read -r name && IFS= read -r value; do"
        ' if fits $name "$value"; then echo 1; else echo 0; fi; done\n'
    )
    asked = "".join(f"{name}\n{value}\n" for name, value in cases)
    done = subprocess.run([*shell, "-c", script], input=asked.encode(), capture_output=True, check=True)
    got = done.stdout.decode().split()
    assert len(got) == len(cases)
    for (name, value), answer in zip(cases, got, strict=True):
        wanted = bool(re.fullmatch(PATTERNS[name].regex, value.encode().decode("latin-1"), re.ASCII))
        assert (answer == "1") == wanted, (name, value)


def test_every_verb_has_a_function_and_a_place_in_the_docs() -> None:
    text = helper_text()
    docs = (Path(node.__file__).parents[2] / "docs" / "helper.md").read_text()
    for verb in VERBS:
        function = re.search(rf"^\t{verb}\) (\w+) ;;$", text, re.MULTILINE)
        assert function, verb
        assert re.search(rf"^{function[1]}\(\) \{{", text, re.MULTILINE), verb
        assert f"`{verb}`" in docs, f"docs/helper.md does not name {verb}"


def test_the_version_is_the_hash_of_the_rest() -> None:
    import hashlib

    first, second, rest = helper_text().split("\n", 2)
    assert first == "#!/bin/sh"
    assert second == f"version={hashlib.sha256(rest.encode()).hexdigest()}" == f"version={node.VERSION}"


@pytest.mark.parametrize("shell", [["dash", "-n"], ["bash", "--posix", "-n"]], ids=lambda words: words[0])
def test_shells_read_it(shell: list[str]) -> None:
    assert subprocess.run(shell, input=helper_text().encode(), capture_output=True).stderr == b""


def test_shellcheck_has_nothing_to_say() -> None:
    # 2015: A && B || die is meant so; 2016: programs for awk and GRUB; 2018, 2019: LC_ALL is C; 2030, 2031: answers are
    # collected in subshells on purpose; 2317: the loaders' functions are called by name; 2034, 2154: parts share
    # variables
    left_out = "2015,2016,2018,2019,2030,2031,2317,2034,2154"
    package = Path(node.__file__).parents[1]
    parts = [*sorted(package.glob("node/*.sh")), *sorted(package.glob("bootloader/*.sh"))]
    done = subprocess.run(["shellcheck", "-s", "dash", "-e", left_out, *parts], text=True, capture_output=True)
    assert done.stdout == ""


def questions(canary: str) -> list[bytes]:
    """200 and more: hostile values under every key, hostile keys and verbs, headers that are no headers."""
    choice = random.Random(11)
    good = {"build": "0" * 12, "name": "a.pkg", "size": 1, "sha256": "0" * 64, "offset": 0, "fence": 1, "panic": 1,
            "why": "", "who": "", "action": "stop", "boot": "current"}  # fmt: skip
    asked = []
    for verb, keys in VERBS.items():
        for key in [*keys, "nokey", "PATH", "root", "state", "version"]:
            value = choice.choice(HOSTILE).replace("{canary}", canary).replace("{{", "{").replace("}}", "}")
            values = {k: good[k] for k, pattern in keys.items() if not pattern.endswith("?")} | {key: value}
            lines = "".join(f"{k}={v}\n" for k, v in values.items())
            asked.append(f"{verb}\n{lines}\n".encode())
    for word in HOSTILE:
        word = word.replace("{canary}", canary)
        asked += [f"{word}\n\n".encode(), f"observe\n{word}=1\n\n".encode(), f"observe\nframe={word}\n\n".encode()]
        asked.append(
            f"stage-put\nbuild={'0' * 12}\nname={word}\nsize=1\nsha256={'0' * 64}\noffset=0\nfence=1\n\nX".encode()
        )
    asked += [
        b"",
        b"\n",
        b"observe",
        b"observe\nframe=",
        b"\xff\xfe\n\n",
        b"observe\n\nobserve\n",
        b"arm\n\n",
        b"observe\nframe\n\n",
    ]
    asked.append(b"deny\nbuild=000000000000\nbuild=000000000000\nwhy=\nfence=1\n\n")
    return asked


def test_hostile_questions_are_refused_and_touch_nothing(world: World, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    world.systemd_boot()
    world.helper  # noqa: B018 - written before the hashes are taken
    before = hashes(world.root)
    asked = questions(str(canary))
    assert len(asked) >= 200
    allowed = 0
    for number, question in enumerate(asked):
        world.shell = "bash" if number % 5 == 0 else "dash"
        done = world.raw(question)
        if done.returncode == 0:  # a few are good words for their key: then only the state may have changed
            assert question.startswith(HARMLESS), question
            allowed += 1
            continue
        assert done.returncode == 3, (question, done)
        assert done.stderr.decode("utf-8", "replace").startswith("refused: "), (question, done)
        assert done.stdout == b"" or b"@@" in done.stdout, question
    assert allowed < 20
    assert not canary.exists()
    after = {k: v for k, v in hashes(world.root).items() if "/var/lib/kbuild-tasks/rollout/" not in k}
    assert after == before


def test_arguments_are_refused(world: World, tmp_path: Path) -> None:
    for words in (["observe"], ["--help"], ["-c", "touch x"], [""]):
        done = world.raw(b"observe\n\n", *words)
        assert done.returncode == 3 and b"arguments" in done.stderr


def test_the_environment_is_not_believed(world: World, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("cat", "sed", "od", "uname", "tr"):
        (evil / name).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (evil / name).chmod(0o755)
    world.env = {
        "PATH": f"{evil}:/usr/bin",
        "IFS": "/",
        "ENV": str(evil / "cat"),
        "BASH_ENV": str(evil / "cat"),
        "root": "/",
        "state": "/etc",
    }
    for world.shell in ("dash", "bash"):
        assert world.good("observe")["release"] == "6.1.1-old"
    assert not canary.exists()


def test_a_frame_stands_around_the_answer(world: World) -> None:
    done = world.raw(spoken("observe", {"frame": "0123456789abcdef"}))
    assert re.fullmatch(rb"\n@@0123456789abcdef start\n\{.*\}\n\n@@0123456789abcdef end 0\n", done.stdout, re.DOTALL)
    done = world.raw(spoken("journal", {"frame": "0123456789abcdef", "boot": "next"}))
    assert done.stdout.endswith(b"\n@@0123456789abcdef end 3\n")


def test_spoken_refuses_what_the_helper_would() -> None:
    assert spoken("deny", {"build": "0" * 12, "why": "", "fence": 1}) == b"deny\nbuild=000000000000\nwhy=\nfence=1\n\n"
    for values in (
        {"build": "0" * 11, "why": "", "fence": 1},
        {"build": "0" * 12, "fence": 1},
        {"nokey": 1},
        {"fence": "01"},
    ):
        with pytest.raises(ValueError):
            spoken("deny", values)
    with pytest.raises(ValueError):
        spoken("deny", {"build": "0" * 12 + "\n", "why": "", "fence": 1})
