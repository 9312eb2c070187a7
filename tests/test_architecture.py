"""Imports point down, and what is confined stays where it is.

The rooms are those of the package's directory listing, lowest first. A module may import from its
own room and from lower ones; imports for type checkers alone count for nothing at run time, but no
cycle may hide in the others. `tree` and `handle` stand side by side and never meet.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "storefs"

# Lowest first; rooms of one line do not import each other.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("units",),
    ("errors",),
    ("config", "threads"),
    ("notify", "log", "mounttable"),
    ("control",),
    ("drivers",),
    ("store",),
    ("cache",),
    ("handle", "tree"),
    ("fuse",),
    ("report",),
    ("mount",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

# What one place alone may import.
CONFINED = {
    "pyfuse3": ("fuse/", "mount.py"),
    "boto3": ("drivers/s3",),
    "botocore": ("drivers/s3",),
    "s3transfer": ("drivers/s3",),
    "oss2": ("drivers/oss",),
    "click": ("cli/",),
    "rich": ("cli/",),
}
MAX_LINES = 400

MODULES = sorted(PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path) for path in MODULES}


def room_of(name: str) -> str | None:
    """The second part of a module's name; None for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else None


def is_for_types(node: ast.If) -> bool:
    return "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, *, lazy: bool = True, types: bool = True) -> set[str]:
    """Modules that this one imports: also inside functions if `lazy`, for types if `types`."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and is_for_types(node) and not types:
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(path, node)
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if not name.startswith("storefs") or name in NAMES}


def absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def test_every_room_has_its_level() -> None:
    """A new room is put into the table before it is built."""
    rooms = {room_of(name) for name in NAMES} - {None}
    assert rooms <= set(LEVEL), f"without a level: {sorted(str(r) for r in rooms - set(LEVEL))}"


@each_module
def test_imports_point_down(path: Path) -> None:
    room = room_of(module_name(path))
    if room is None:
        return
    for name in imports(path, types=False):
        other = room_of(name) if name.startswith("storefs.") else None
        if other is not None and other != room:
            assert LEVEL[other] < LEVEL[room], f"{path.name} imports {name}, which is not below it"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module_name(path): {
            name
            for name in imports(path, lazy=False, types=False)
            if name in NAMES
            and name != module_name(path)
            # `from package import module` names the package too; importing it is no use of it
            and not module_name(path).startswith(f"{name}.")
        }
        for path in MODULES
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as exc:
        pytest.fail(f"a circle of imports: {' -> '.join(exc.args[1])}")


@each_module
def test_tree_and_handle_never_meet_even_for_types(path: Path) -> None:
    room = room_of(module_name(path))
    other = {"tree": "storefs.handle", "handle": "storefs.tree"}.get(room or "")
    if other is not None:
        assert not {name for name in imports(path) if name == other or name.startswith(f"{other}.")}


@each_module
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    for name in imports(path):
        allowed = CONFINED.get(name.split(".")[0])
        if allowed is not None:
            assert relative.startswith(allowed), f"{relative} imports {name}"


@each_module
def test_calls_cross_to_threads_in_one_place_only(path: Path) -> None:
    if path.name != "threads.py":
        assert "to_thread" not in path.read_text(encoding="utf-8")


@each_module
def test_modules_stay_small_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert not text or ast.get_docstring(ast.parse(text)), "a module opens with what it is for"


def test_the_command_line_starts_without_the_layers() -> None:
    """`storefs --help` and a daemon's parent load neither trio nor what mounts."""
    heavy = ("trio", "pyfuse3", "boto3", "storefs.mount", "storefs.store", "storefs.drivers")
    for path in (PACKAGE / "cli").glob("*.py"):
        eager = imports(path, lazy=False, types=False)
        assert not {
            name for name in eager if name.startswith(heavy) and name != "storefs.mounttable"
        }
    for room in ("config", "control", "log", "notify", "mounttable", "errors", "units"):
        assert "trio" not in imports(PACKAGE / f"{room}.py", lazy=False, types=False)
