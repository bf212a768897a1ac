"""schema.json, docs/cluster-yaml.md and the validator say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import schema
from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.effects.cluster_file import load_cluster
from kbuild_tasks.effects.yaml_tree import parse
from tests.core.test_config import DESIGN, SMALLEST, project
from tests.core.test_config_refused import BASE

DOCUMENT = Path(__file__).parent.parent.parent / "docs/cluster-yaml.md"
# What the validator reads, and what is for editors only. Another keyword would be ignored silently: refused here.
READ = {"type", "enum", "const", "pattern", "minimum", "maximum", "minLength", "maxLength", "properties", "required"}
READ |= {"additionalProperties", "propertyNames", "items", "uniqueItems", "minItems", "minProperties", "$ref", "$defs"}
SHOWN = {"$schema", "title", "description", "default", "patternErrorMessage"}


def rules(rule: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every rule of the schema, as written ($ref not followed)."""
    yield rule
    for below in (*rule.get("properties", {}).values(), *rule.get("$defs", {}).values()):
        yield from rules(below)
    for key in ("items", "propertyNames", "additionalProperties"):
        if isinstance(rule.get(key), dict):
            yield from rules(rule[key])


ALL = list(rules(dict(schema.schema())))


def test_only_keywords_that_the_validator_reads() -> None:
    for rule in ALL:
        assert set(rule) <= READ | SHOWN, rule
        if "$ref" in rule:  # draft 7: what stands beside it does not count
            assert set(rule) <= SHOWN | {"$ref"}, rule
            assert rule["$ref"].rpartition("/")[2] in schema.schema()["$defs"]


def test_every_mapping_refuses_unknown_keys_and_every_pattern_is_whole_and_explained() -> None:
    for rule in ALL:
        if rule.get("type") == "object":
            assert "additionalProperties" in rule, rule
            assert rule["additionalProperties"] is False or "propertyNames" in rule, rule
        if "pattern" in rule:
            assert rule["pattern"].startswith("^"), rule
            assert rule["pattern"].endswith("$"), rule
            assert rule["patternErrorMessage"].startswith("must be "), rule
        if "enum" in rule:
            assert all(isinstance(value, str) for value in rule["enum"]), rule
        if "minimum" in rule or "maximum" in rule:
            assert {"minimum", "maximum"} <= set(rule), rule


def test_patterns_take_no_final_newline() -> None:
    """Python's $ would; "kubenode1\\n" must not be a node's name."""
    good = {"node": "kubenode1", "size": "3G", "duration": "10s", "symbol": "VXLAN", "path": "kernel/config"}
    names = schema.schema()["properties"]["nodes"]["propertyNames"]
    for name, text in good.items():
        rule = names if name == "node" else schema.schema()["$defs"][name]
        assert schema.fits(rule, text)
        assert not schema.fits(rule, text + "\n")
        assert not schema.fits(rule, "\n" + text)


def documented() -> dict[str, str]:
    """Key -> text of its default column, from the tables of the document."""
    rows = re.findall(r"^\| `([^`]+)` \| .+? \| ([^|]+) \| [^|]+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a key is documented twice"
    return dict(rows)


def test_the_document_has_every_key_and_no_other() -> None:
    assert sorted(documented()) == sorted(schema.keys())


def told(key: str) -> str:
    """The default column of a key, from the schema."""
    rule: dict[str, Any] = dict(schema.schema())
    for step in re.findall(r"<name>|\[\]|[^.\[\]<>]+", key):
        if step == "<name>":
            rule = rule["additionalProperties"]
        elif step == "[]":
            rule = rule["items"]
        else:
            required = step in rule.get("required", ())
            written = rule["properties"][step]
            rule = written
        if "$ref" in rule:
            rule = schema.schema()["$defs"][rule["$ref"].rpartition("/")[2]]
    if required:
        return "required"
    if "default" not in written:
        return "none"
    return f"`{written['default'] if isinstance(written['default'], str) else json.dumps(written['default'])}`"


@pytest.mark.parametrize("key", sorted(schema.keys()))
def test_the_document_tells_the_default(key: str) -> None:
    assert documented()[key] == told(key)


def test_the_examples_of_the_document_load(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 7
    assert load_cluster(project(tmp_path / "smallest", blocks[0])).coordinator.name == "one"
    path = project(tmp_path / "whole", "version: 1\n" + "".join(blocks[1:]))
    (tmp_path / "whole/kernel/config.d/20-site.config").touch()
    assert list(load_cluster(path).nodes) == ["kubenode1", "kubenode2", "kubenode7", "kubenode8"]


def test_the_refusal_of_the_document_is_what_is_said(tmp_path: Path) -> None:
    shown = re.search(r"```\n(cluster.yaml:14: .*?)\n```", DOCUMENT.read_text(), re.DOTALL)
    assert shown
    text = BASE.replace("coordinator: kubenode1", "coordinator: kubenod1").replace("200M", "200")
    text = text.replace("connection: local", "slots: 2").replace("    slots: 4", "    slot: 4")
    with pytest.raises(ConfigError) as caught:
        load_cluster(project(tmp_path, text))
    assert caught.value.render() == shown[1]


@pytest.mark.parametrize("text", [DESIGN, SMALLEST, BASE], ids=["design", "smallest", "base"])
def test_the_good_ones_are_valid(text: str) -> None:
    tree, _ = parse(text.encode())
    assert tree is not None
    assert schema.validate(tree) == []
