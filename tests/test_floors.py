"""The house stands: a room of `src` uses only rooms beneath it, and no file uses one that uses it.

The floors are those of the list in docs/architecture.md, the lowest first. A room is a module of
`src/lib.rs`; an arrow goes from a file to each file that it names in `use crate::`, `use super::` or
anywhere else in a path. Unit tests may use what they like.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIST = re.compile(r"^\d+\. `(\w+)`", re.M)
USE = re.compile(r"^ *(?:pub(?:\(\w+\))? )?use ((?:crate|super|self)::[^;]+);", re.M)
PATH = re.compile(r"\b((?:crate|super)(?:::\w+)+)")


def read_floors(text):
    """The rooms, the lowest first."""
    _, _, after = text.partition("## Floors")
    section, _, _ = after.partition("\n## ")
    return LIST.findall(section)


def read_files(source):
    """The text of each module without comments and unit tests, by its path in the crate."""
    files = {}
    for path in sorted(source.rglob("*.rs")):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1] == "tests" or parts == ("lib",):
            continue
        is_folder = parts[-1] == "mod"
        text = re.sub(r"//.*", "", path.read_text())
        text, _, _ = text.partition("#[cfg(test)]\nmod tests")
        files["::".join(parts[:-1] if is_folder else parts)] = text
    return files


def expand(tree):
    """`a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`."""
    depth, items, item = 0, [], ""
    for char in tree + ",":
        if char == "," and depth == 0:
            items.append(item.strip())
            item = ""
            continue
        depth += (char == "{") - (char == "}")
        item += char
    for item in filter(None, items):
        if match := re.match(r"(.*?)::\{(.*)\}$", item, re.S):
            yield from (f"{match[1]}::{rest}" for rest in expand(match[2]))
        else:
            yield item.partition(" as ")[0]


def resolve(name, path, files):
    """The file that a path of the file `name` leads to, if it is one of ours."""
    parts = path.split("::")
    if parts[0] == "crate":
        parts = parts[1:]
    else:
        base = name.split("::")
        while parts and parts[0] in ("self", "super"):
            if parts.pop(0) == "super":
                base.pop()
        parts = base + parts
    while parts and "::".join(parts) not in files:
        parts.pop()
    return "::".join(parts)


def read_arrows(files):
    """Which files each file names."""
    arrows = {}
    for name, text in files.items():
        paths = [path for tree in USE.findall(text) for path in expand(tree)]
        paths += PATH.findall(USE.sub("", text))
        found = {resolve(name, path, files) for path in paths}
        arrows[name] = sorted(found - {"", name})
    return arrows


def room(name):
    return name.partition("::")[0]


def upward(arrows, floors):
    """The arrows that go to a room that is not beneath."""
    height = {name: number for number, name in enumerate(floors)}
    return [
        f"{a} -> {b}"
        for a, names in arrows.items()
        for b in names
        if room(a) != room(b) and height[room(a)] <= height[room(b)]
    ]


def circles(arrows):
    """The groups of files that each lead to all others of the group (Tarjan)."""
    order, low, stack, found = {}, {}, [], []

    def visit(name):
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in arrows.get(name, ()):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in arrows:
        if name not in order:
            visit(name)
    return sorted(found)


@pytest.fixture(scope="module")
def floors():
    return read_floors((ROOT / "docs" / "architecture.md").read_text())


@pytest.fixture(scope="module")
def arrows():
    return read_arrows(read_files(ROOT / "src"))


def test_every_room_has_its_floor(arrows, floors):
    assert sorted(floors) == sorted({room(name) for name in arrows})


def test_a_room_uses_only_rooms_beneath_it(arrows, floors):
    assert upward(arrows, floors) == []


def test_no_file_uses_one_that_uses_it(arrows):
    assert circles(arrows) == []


def test_these_tests_can_fail(arrows, floors):
    lowest, highest = floors[0], floors[-1]
    names = [name for name in arrows if room(name) == highest]
    wrong = {**arrows, lowest: [*arrows[lowest], names[0]]}
    assert upward(wrong, floors) == [f"{lowest} -> {names[0]}"]
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c"]]
    text = "use crate::{a, b::{self, C}};\nuse super::d as e;\nfn f() { crate::g::h() }\n"
    files = {"x::y": text, "a": "", "b": "", "x::d": "", "g": ""}
    assert read_arrows(files)["x::y"] == ["a", "b", "g", "x::d"]
