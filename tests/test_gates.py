"""Rules that a person cannot keep in mind: which way imports go, who may import what, how long a module may be,
and that the docs name what the code has."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kbuild_tasks"
MODULES = sorted(PACKAGE.rglob("*.py"))
LAYERS = {  # what a layer may import of ours
    "core": {"core"},
    "bootloader": {"bootloader"},  # sh, parts of the node's helper
    "node": {"node"},
    "effects": {"core", "effects", "node"},
    "stages": {"core", "effects", "node", "stages"},
    "lab": {"core", "effects", "lab"},
    "report": {"core", "report"},  # pure, as core
    "plugin": {"core", "effects", "node", "stages", "lab", "report", "plugin"},
}
ONLY = {  # third party -> where it may be imported
    "doit": lambda path: path.parent.name == "plugin",
    "plumbum": lambda path: path == PACKAGE / "effects" / "shell.py",
}
MAX_LINES = 300
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_one_way(path: Path) -> None:
    layer = path.parent.name
    if layer == "kbuild_tasks":
        return  # the face
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "kbuild_tasks" and len(parts) > 1 and parts[1] in LAYERS:
            assert parts[1] in LAYERS[layer], f"{name(path)} imports {module}"
        if layer == "stages" and parts[:2] == ["kbuild_tasks", "stages"]:
            pytest.fail(f"{name(path)} imports another stage: {module}")
        if layer in ("core", "report") and parts[0] != "kbuild_tasks":
            assert parts[0] in sys.stdlib_module_names, f"{name(path)}: {layer} is stdlib only, not {module}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_third_parties_have_one_door(path: Path) -> None:
    for module in imports(path):
        allowed = ONLY.get(module.split(".")[0])
        assert allowed is None or allowed(path), f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_dodo_reads_as_a_sentence() -> None:
    assert len((ROOT / "dodo.py").read_text().splitlines()) <= 40


def test_readme_names_every_task_and_command() -> None:
    from kbuild_tasks.plugin.rollout import TASKS
    from kbuild_tasks.plugin.tasks import STAGES

    readme = (ROOT / "README.md").read_text()
    for word in [*STAGES, *TASKS, "prepare", "sync", "release"]:
        assert f"`{word}" in readme, f"README.md does not name the task {word}"
    pyproject = (ROOT / "pyproject.toml").read_text()
    commands = re.search(r'entry-points\."doit.COMMAND"\]\n((?:[\w-]+ = .*\n)+)', pyproject)
    assert commands
    ours = [line for line in commands.group(1).splitlines() if "plugin.run:" not in line]  # those are doit's own words
    assert len(ours) >= 3
    for line in ours:
        assert f"doit {line.split()[0]}" in readme, f"README.md does not name doit {line.split()[0]}"


OURS = re.compile(r"\b(?:fence|dead[ -]man)\b", re.IGNORECASE)  # words of the inside


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_messages_use_no_word_of_the_inside(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs:
            assert " " not in node.value.strip() or not OURS.search(node.value), f"{name(path)}:{node.lineno}"


def test_words_that_a_newcomer_meets_are_explained() -> None:
    from kbuild_tasks.plugin.reporter import COLOURS
    from kbuild_tasks.plugin.rollout_status import WORDS

    told = (ROOT / "docs/words.md").read_text()
    for word in ("trial", "dead man", "fence", "known-good", "previous", "lease", "default", "build", "release"):
        assert f"| {word} |" in told, word
    for word in COLOURS:
        assert f"| `{word}` |" in told, word
    for word in ("installed", "drained", "armed", "on trial", "verified", "fell back", "held", "rolled back"):
        assert word in WORDS.values() and f"| {word} |" in told, word
    assert "docs/words.md" in (ROOT / "README.md").read_text()
    for doc in sorted((ROOT / "docs").glob("*.md")):
        if "dead man" in (text := doc.read_text()):
            assert doc.name == "words.md" or "[dead man](words.md" in text, f"{doc.name} does not say what that is"


def test_links_in_the_docs_lead_somewhere() -> None:
    for doc in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", doc.read_text()):
            assert (doc.parent / target).exists(), f"{doc.name} links to {target}"


def test_nothing_of_one_machine_is_in_the_files() -> None:
    """Paths under somebody's home, temporary directories of a session, addresses of a registry mirror."""
    bad = re.compile(r"/root/|/tmp/w/|/home/(?!builder|ansible)[a-z]+/")
    for path in [*MODULES, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "script").iterdir()]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not bad.search(line), f"{name(path)}:{number}: {line.strip()}"
