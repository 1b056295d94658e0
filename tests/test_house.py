"""The plan of the house: imports point down a list of rooms, never up, and nothing outgrows its room."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
PACKAGES = {"distractor_data": HOUSE, "masklam": HOUSE, "dmask_cards": HOUSE / "cards"}  # and where it lies
# From the roof to the ground. A room is a module or a package; of two that fit, the longer name counts.
ROOMS = """
masklam.cli
masklam.study  masklam.publish  masklam.info  masklam.view
masklam.plots  masklam.results  masklam.plan
masklam.train
masklam.card
masklam.scenes
masklam.evaluate  masklam.stages  masklam.external
masklam.probes  masklam.rollouts
masklam.loop  masklam.job
masklam.run
masklam.models
masklam.measures  masklam.settings
masklam.methods
masklam.supervision  masklam.consistency  masklam.reconstruction
masklam.objectives
masklam
distractor_data.cli
distractor_data.commands
distractor_data.doctor
distractor_data.terminal  distractor_data.options  distractor_data.application  distractor_data.progress
distractor_data.pipeline  distractor_data.resume  distractor_data.imports  distractor_data.exports
distractor_data.publish_lerobot
distractor_data.publish_bucket
distractor_data.publish  distractor_data.pull  distractor_data.info
distractor_data.repair  distractor_data.remake  distractor_data.edit  distractor_data.viewer
distractor_data.masks
distractor_data.generate  distractor_data.gymnasium
distractor_data.rollout
distractor_data.shards
distractor_data.engines
distractor_data.policies.training
distractor_data.policies
distractor_data.envs
distractor_data.torch_dataset
distractor_data.arrays
distractor_data.sources
dmask_cards
distractor_data.hub
distractor_data.media  distractor_data.clips
distractor_data.dataset
distractor_data.untrusted
distractor_data.events  distractor_data.episode  distractor_data.spec  distractor_data.schema  distractor_data.device
distractor_data.errors
distractor_data.signals
distractor_data
"""
FLOOR = {room: floor for floor, line in enumerate(ROOMS.split("\n")) for room in line.split()}


def modules() -> dict[str, Path]:
    """Dotted name → file of every module."""
    found = {}
    for package, place in PACKAGES.items():
        for file in sorted((place / package).rglob("*.py")):
            parts = file.relative_to(place).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imports(name: str, for_types: bool = False) -> set[str]:
    """The modules of ours that a module imports, wherever in it; those for the type checker alone where asked for."""
    tree = ast.parse(MODULES[name].read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if not for_types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {str(node.module)} - {f"{node.module}.{alias.name}".rpartition(".")[0] for alias in node.names}
            found |= {str(node.module) for alias in node.names if f"{node.module}.{alias.name}" not in MODULES}
    return (found & MODULES.keys()) - {name}


def room(name: str) -> str:
    fitting = [room for room in FLOOR if name == room or name.startswith(f"{room}.")]
    assert fitting, f"{name} has no room in the plan"
    return max(fitting, key=len)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    upward = [
        other for other in imports(name) if FLOOR[room(other)] < FLOOR[room(name)] and room(name) != room(other)
    ]
    assert not upward, f"{name} ({room(name)}) imports from above: {', '.join(upward)}"


def test_there_is_no_circle() -> None:
    TopologicalSorter({name: imports(name, for_types=True) for name in MODULES}).prepare()


def test_only_its_command_knows_the_doctor() -> None:
    assert [name for name in MODULES if "distractor_data.doctor" in imports(name)] == [
        "distractor_data.commands.look"
    ]


def test_the_toolkit_knows_no_trainer() -> None:
    for name in MODULES:
        if not name.startswith("masklam"):
            assert not [other for other in imports(name) if other.startswith("masklam")], name


@pytest.mark.parametrize(
    "file", [*MODULES.values(), *(HOUSE / "scripts").glob("*.py"), *(HOUSE / "tests").glob("*.py")]
)
def test_nothing_outgrows_its_room(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= 400, f"{file.name} wants another file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if file.name == "cli.py" or file.parent.name == "commands":
                lines -= node.body[0].lineno - node.lineno  # a command's signature is its list of options
            assert lines <= 60, f"{file.name}: {node.name} has {lines} lines"


def test_no_two_files_of_one_name_but_twins() -> None:
    """A name says one thing: where two packages have the same, it is the same part of each."""
    twins = {"cli.py", "publish.py", "evaluate.py", "train.py", "settings.py", "info.py", "__init__.py"}
    names: dict[str, list[str]] = {}
    for name, file in MODULES.items():
        names.setdefault(file.name, []).append(name)
    double = {name: found for name, found in names.items() if len(found) > 1 and name not in twins}
    assert not double
