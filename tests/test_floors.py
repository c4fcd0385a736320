"""The floors of DESIGN.md hold: imports go down only, every door to the outside has its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mmapp"

# A room may import from rooms on lower floors and from itself. The lowest floor is made of single
# files, which may see each other; what is not listed stands on top: app.py, __main__ and what else
# the command line is made of, and mmapp/__init__ with its public names.
FLOORS = {
    "errors": 0,
    "settings": 0,
    "choices": 0,
    "knobs": 0,
    "sources": 0,
    "data": 1,
    "models": 1,
    "device": 1,
    "quiet": 1,
    "evaluation": 2,
    "storage": 2,
    "training": 3,
    "inference": 3,
    "runs": 4,
    "ui": 5,
}
TOP = 6
OF_SINGLE_FILES = (0, TOP)

# A library: the rooms (or modules) that alone may import it.
DOORS = {
    "gradio": ("ui", "app"),
    "huggingface_hub": ("storage",),
    "typer": ("__main__", "options"),
    "peft": ("models.tuning",),
    "optuna": ("runs.proposals",),
}

# Opened by the page and by `--help`, so they must not wait seconds for torch.
LIGHT = [
    "errors", "knobs", "settings", "sources", "runs.run", "runs.queue", "ui.*",
    *(f"data.{name}" for name in ("pairs", "ingest", "findings", "splits", "archive", "tables",
                                  "columns", "layouts", "finder", "images", "samples", "labels")),
]  # fmt: skip
HEAVY = {"torch", "torchvision", "transformers", "accelerate", "peft"}

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*sorted(PACKAGE.rglob("*.py")), ROOT / "app.py"]
    if path.exists()
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def room(module: str) -> str:
    """ "mmapp.data.ingest" -> "data"; the room of a module outside the package is its own name."""
    parts = module.split(".")
    return parts[1] if parts[0] == "mmapp" and len(parts) > 1 else parts[0]


def floor(module: str) -> int:
    return FLOORS.get(room(module), TOP)


def imported(module: str, nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """Dotted names of what these nodes import, with the line; relative imports made absolute."""
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            stem = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*stem, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield (name if name in FILES else base), node.lineno


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: no function bodies, nothing for types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import_time(child)


@cache
def loads(module: str) -> frozenset[str]:
    """Everything, ours or not, that importing this module imports by its own top-level lines."""
    found = {name for name, _ in imported(module, at_import_time(tree(module)))}
    # Importing a.b.c runs a and a.b as well.
    for name in [module, *found]:
        parts = name.split(".")
        found |= {".".join(parts[:n]) for n in range(1, len(parts))}
    return frozenset(found)


def route_to(module: str, libraries: set[str]) -> list[str]:
    """The chain of imports by which a module pulls in one of the libraries; empty if none."""
    seen, routes = {module}, [[module]]
    while routes:
        route = routes.pop()
        for name in sorted(loads(route[-1])):
            if name.split(".")[0] in libraries:
                return [*route, name]
            if name in FILES and name not in seen:
                seen.add(name)
                routes.append([*route, name])
    return []


def light_modules() -> list[str]:
    prefixes = [f"mmapp.{name.removesuffix('*')}" for name in LIGHT]
    return [m for m in FILES if any(m == p or (p[-1] == "." and m.startswith(p)) for p in prefixes)]


@pytest.mark.parametrize("module", FILES)
def test_imports_go_down_only(module: str) -> None:
    """Imports hidden in functions count too: that is where a broken floor usually hides."""
    upwards = [
        f"line {line}: {name}"
        for name, line in imported(module, ast.walk(tree(module)))
        if name.split(".")[0] in ("mmapp", "app")
        and room(name) != room(module)
        and not floor(name) < floor(module)
        and not floor(name) == floor(module) in OF_SINGLE_FILES
    ]

    assert upwards == []


@pytest.mark.parametrize(("one", "other"), [("data", "models"), ("training", "inference")])
def test_two_rooms_of_one_floor_do_not_know_each_other(one: str, other: str) -> None:
    """Said of these two pairs in so many words, so it holds even if the numbers above change."""
    for module in FILES:
        if room(module) in (one, other):
            met = {room(name) for name, _ in imported(module, ast.walk(tree(module)))}
            assert not met & {one, other} - {room(module)}, module


@pytest.mark.parametrize("module", light_modules())
def test_what_must_open_quickly_pulls_in_no_torch(module: str) -> None:
    assert route_to(module, HEAVY) == []


def test_the_modules_that_must_open_quickly_are_there() -> None:
    assert {f"mmapp.{name}" for name in LIGHT if "*" not in name} <= set(light_modules())


@pytest.mark.parametrize("library", DOORS)
def test_a_door_to_the_outside_opens_in_its_own_rooms_only(library: str) -> None:
    elsewhere = [
        f"{module} line {line}"
        for module in FILES
        for name, line in imported(module, ast.walk(tree(module)))
        if name.split(".")[0] == library
        and not any(
            f"{module.removeprefix('mmapp.')}.".startswith(f"{own}.") for own in DOORS[library]
        )
    ]

    assert elsewhere == []


@pytest.mark.parametrize("module", FILES)
def test_no_mistake_is_met_by_an_assert_or_swallowed(module: str) -> None:
    found = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert vanishes under python -O; raise an error")
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append(f"line {node.lineno}: a bare except catches Ctrl-C as well")
            if all(is_nothing(statement) for statement in node.body):
                found.append(f"line {node.lineno}: an error is swallowed")

    assert found == []


def is_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def test_importing_the_package_and_reading_data_loads_no_torch() -> None:
    """The same asked of Python itself, third-party modules included."""
    code = (
        "import sys, mmapp, mmapp.settings, mmapp.data.ingest; "
        f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert run.stdout.split() == []
