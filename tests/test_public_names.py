"""The public names, frozen: adding or removing one is a decision, made by editing public_names.txt."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import calipose

FROZEN = Path(__file__).with_name("public_names.txt")


def public_names() -> list[str]:
    """`calipose.__all__`, and the public members that its classes define themselves."""
    names = []
    for name in calipose.__all__:
        names.append(name)
        value = getattr(calipose, name)
        if inspect.isclass(value):
            fields = getattr(value, "__annotations__", {})
            members = {*vars(value), *fields}
            names += sorted(f"{name}.{member}" for member in members if not member.startswith("_"))
    return names


def test_public_names_are_frozen() -> None:
    assert public_names() == FROZEN.read_text(encoding="utf-8").split()


def test_public_names_are_documented() -> None:
    for name in public_names():
        value = calipose
        for part in name.split("."):
            value = getattr(value, part, None)
        if callable(value):
            assert value.__doc__, name


def test_import_and_command_line_need_no_torch() -> None:
    code = "import sys, calipose, calipose.cli; sys.exit(bool({'torch', 'accelerate'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_docstring_sections_are_blocks() -> None:
    """Args, Returns and Raises stand on lines of their own, so that documentation tools read them."""
    section = re.compile(r'^\s*("""|.*\. )?(Args|Returns|Raises|Attributes|Yields): *\S')
    for path in sorted(Path(calipose.__file__).parent.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not section.match(line), f"{path.name}, line {number}"
