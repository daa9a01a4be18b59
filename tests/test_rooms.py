"""The rooms of the package: imports run one way, from the front rooms down to `functional`, and nothing lies loose in the root."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bigr_features"

# from the ground up; a room may import itself and those before it
ROOMS = [
    "functional", "data", "storage", "nearest", "evaluate", "plots", "sampling", "models", "checkpoints", "backbones", "train", "features",
    "gallery", "web", "cli",
]  # fmt: skip
ARRAYS_ONLY = {"evaluate", "plots"}  # they take arrays: neither models nor data
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def module_of(path: Path) -> str:
    """Dotted name of a file below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Modules of this package that a file imports, each with whether it stands inside a function."""
    tree = ast.parse(path.read_text())
    package = list(path.relative_to(PACKAGE).parent.parts)
    found = []
    late = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            elif node.module and node.module.split(".")[0] == "bigr_features":
                base = node.module.split(".")[1:]
            else:
                continue
            targets = [".".join([*base, name.name]) for name in node.names]
            found += [(target if target in MODULES else ".".join(base), id(node) in late) for target in targets]
        elif isinstance(node, ast.Import):
            names = [name.name.split(".")[1:] for name in node.names if name.name.split(".")[0] == "bigr_features"]
            found += [(".".join(name), id(node) in late) for name in names if name]
    return [(target, is_late) for target, is_late in found if target]


def room_of(module: str) -> str:
    return module.split(".")[0]


def test_the_root_holds_nothing_but_the_rooms():
    loose = [path.name for path in PACKAGE.iterdir() if path.is_file() and path.suffix == ".py"]
    assert loose == ["__init__.py"]
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms <= set(ROOMS), f"rooms without a floor: {rooms - set(ROOMS)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_down_only(path):
    here = room_of(module_of(path))
    for target, _ in imports_of(path):
        there = room_of(target)
        assert ROOMS.index(there) <= ROOMS.index(here), f"{here} imports {target}, which stands above it"
        assert not (here in ARRAYS_ONLY and there in {"models", "data"}), f"{here} takes arrays, but imports {target}"


def test_no_circle_among_modules():
    graph = {module_of(path): {target for target, _ in imports_of(path)} for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        assert module not in trail, "circle: " + " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for target in graph.get(module, ()):
            if target != module and not module.startswith(f"{target}."):  # a module of a room does not need the room's front
                visit(target, [*trail, module])
        done.add(module)

    for module in graph:
        visit(module, [])


def test_no_late_import_of_the_package_outside_the_command_line():
    """A late import would hide an arrow or a circle; only commands import their work when they run."""
    late = [
        (module_of(path), target)
        for path in FILES
        if room_of(module_of(path)) not in {"cli"}
        for target, is_late in imports_of(path)
        if is_late
    ]
    assert late == []
