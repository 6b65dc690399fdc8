"""Every study uses the public parts of estbench only, and takes the options of the cards that name it."""

from __future__ import annotations

import ast
import importlib
import types

import pytest
from shipped_studies import FOLDER

from estbench.options import validated
from estbench.reproduce import find_cards, load_study
from estbench.reproduce.studies import find_study

FILES = sorted(FOLDER.glob("*.py"))
CARDS = find_cards((), ("seconds", "minutes", "gpu", "cluster"))
PUBLIC = {
    "estbench",
    "estbench.estimators",
    "estbench.experiment",
    "estbench.latents",
    "estbench.measure",
    "estbench.options",
    "estbench.problems",
    "estbench.randomness",
    "estbench.reproduce",
    "estbench.stats",
    "estbench.training",
}


def complaints(name: str, imported: list[str]) -> list[str]:
    """Names that a module of estbench does not offer to everybody."""
    if name not in PUBLIC:
        return [name]
    module = importlib.import_module(name)
    offered = getattr(module, "__all__", [each for each in vars(module) if not each.startswith("_")])
    return [f"{name}.{each}" for each in imported if each not in offered]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_imports_what_is_public(path):
    wrong = []
    faces = {}  # what the file calls a package of estbench, and the package
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "estbench":
            wrong += complaints(node.module, [alias.name for alias in node.names])
            faces |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names if node.module == "estbench"}
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.partition(".")[0] == "estbench"]
            wrong += [name for name in names if name not in PUBLIC]
            faces |= {name: name for name in names if "." not in name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in faces:
            face = faces[node.value.id]
            if isinstance(importlib.import_module(face) if face in PUBLIC else None, types.ModuleType):
                wrong += complaints(face, [node.attr])
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            wrong.append(node.attr)
    assert wrong == []


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_study_takes_the_options_of_its_card(card):
    study = load_study(find_study(card))
    validated(study.options, card.options, card.name)


def test_every_study_has_a_card():
    assert {f"{card.study}.py" for card in CARDS} == {path.name for path in FILES if not path.name.startswith("_")}
