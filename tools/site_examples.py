"""For the reference: the code under "Example:" in a docstring becomes a block of code."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object

BLOCK = re.compile(r"^( *)Example:\n((?:(?:\1 +.*)?\n)+)", re.MULTILINE)


class FencedExamples(Extension):
    """Puts a fence around examples; a first line of prose, which ends in a colon, stays outside of it."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change a docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = BLOCK.sub(_fenced, f"{obj.docstring.value}\n").rstrip()


def _fenced(found: re.Match[str]) -> str:
    code = textwrap.dedent(found[2]).strip("\n")
    first, _, rest = code.partition("\n")
    prose = ""
    if first.endswith(":") and not first.startswith((">>>", "for ", "with ", "class ", "def ", "if ")):
        prose, code = f"{first.rstrip(':')}:\n\n", textwrap.dedent(rest).strip("\n")
    return textwrap.indent("Example:\n" + textwrap.indent(f"{prose}```python\n{code}\n```\n", "    "), found[1]) + "\n"
