"""No option without effect: what reads a key of a config reads it indeed."""

import ast
import dataclasses
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = {path: path.read_text() for path in (ROOT / "src").rglob("*.py")}
CONF = "\n".join(path.read_text() for path in (ROOT / "conf").rglob("*.yaml"))


def nodes(value):
    """All nodes of a YAML value that name a target."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and "_target_" in value:
        yield value
    for item in items:
        yield from nodes(item)


def own_keys():
    """Each target of this package in conf/, with the keys that some file gives it."""
    found = {}
    for path in (ROOT / "conf").rglob("*.yaml"):
        for node in nodes(yaml.safe_load(path.read_text())):
            if node["_target_"].startswith("sempa_lightning."):
                keys = {key for key in node if not key.startswith("_") and key != "defaults"}
                found[node["_target_"]] = found.get(node["_target_"], set()) | keys
    return found


def loads(tree):
    """Names and attributes that a tree reads."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load))
    return names, {node.attr for node in attributes}


def read_by(target, key):
    """Whether the class, a base of it, or the function reads what the key is bound to."""
    if key not in inspect.signature(target).parameters:
        return True  # passed on to a base; whether that has it is for `check_config`
    if dataclasses.is_dataclass(target) or hasattr(target, "_fields"):
        return any(re.search(rf"\.{key}\b", text) for text in SOURCES.values())
    bases = [base for base in getattr(target, "__mro__", [target]) if base.__module__.startswith("sempa_lightning")]
    text = "\n".join(textwrap.dedent(inspect.getsource(base)) for base in bases)
    names, attributes = loads(ast.parse(text))
    return key in names and (f"self._{key} = {key}" not in text or f"_{key}" in attributes)


@pytest.mark.parametrize(("target", "keys"), sorted(own_keys().items()))
def test_a_component_reads_each_key_that_a_file_gives_it(target, keys):
    made = pkgutil.resolve_name(target)
    idle = {key for key in keys if not read_by(made, key) and not re.search(rf"\$\{{[\w.]*\b{key}\b[\w.]*\}}", CONF)}
    assert idle == set()


def test_enough_components_were_looked_at():
    assert len(own_keys()) > 50


@pytest.mark.parametrize("command", ["train", "evaluate", "embed", "mine", "synthesize", "export"])
def test_a_command_reads_each_of_its_keys(compose, command):
    """By name in the code of entry points, or by an interpolation in conf/."""
    text = "".join(SOURCES[ROOT / "src" / "sempa_lightning" / f"{name}.py"] for name in (command, "entry", "preflight"))
    text = re.sub(r"\ndef (subject_)?fields\(\).*?\n\n\n", "\n", text, flags=re.DOTALL)
    # Groups that another group refers to only, and that a model brings for training.
    dropped = {"objective", "optimizer", "sweep", "hydra", "trainer", "data"} if command != "train" else {"sweep"}
    keys = set(compose(command, *(["model=tiny_random"] if command != "export" else []))) - dropped
    read = {key for key in keys if re.search(rf'cfg\.{key}\b|"{key}"', text) or re.search(rf"\$\{{{key}[.}}]", CONF)}
    assert keys - read == set()
