"""The help screens, as a newcomer meets them on a terminal of 80 columns."""

import inspect
import re

import pytest
import typer
from typer.testing import CliRunner

from calipose.cli import app

COMMANDS = {command.name: command for command in app.registered_commands}
HOUSE_JARGON = ("passed over", "whence", "go on where", "somebody", "of nobody", "wish")


def screen(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0
    return done.output


def test_commands_stand_in_the_order_in_which_a_newcomer_needs_them() -> None:
    text = screen()
    order = ["predict", "demo", "evaluate", "calibrate", "report", "convert", "export", "serve", "bulk", "train"]
    rows = [found[1] for line in text.splitlines() if (found := re.match(r"│ ([a-z][a-z-]+) ", line))]
    assert [name for name in rows if name in order] == order
    assert sorted(rows) == sorted(COMMANDS)
    panels = [line for line in text.splitlines() if line.startswith("╭─")]
    assert "Find poses" in panels[1]  # the first after the options
    assert "Train a model" in panels[-1]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_text_of_a_command_is_whole_sentences(name: str) -> None:
    """The help keeps line breaks after the first paragraph: one inside of a sentence shows as a ragged line."""
    text = inspect.getdoc(COMMANDS[name].callback)
    assert text is not None
    paragraphs = text.split("\n\n")
    assert paragraphs[0].endswith(".")
    for line in "\n".join(paragraphs[1:]).splitlines():
        assert line.endswith((".", ":")), f"{name}: {line!r} breaks off"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_narrow_and_plain(name: str) -> None:
    text = screen(name)
    assert max(map(len, text.splitlines())) <= 80
    for words in HOUSE_JARGON:
        assert words not in " ".join(text.split()).lower(), words
    assert "[[" not in text  # brackets around brackets


def test_one_option_means_one_thing() -> None:
    """An option of two commands takes the same kind of value; --out is a file here and a folder there."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for option in command.params:
            for flag in option.opts:
                if flag.startswith("--"):
                    kinds.setdefault(flag, {}).setdefault(option.metavar or "value", []).append(name)
    allowed = {"--out", "--skeleton", "--images", "--name"}
    several = {flag: values for flag, values in kinds.items() if len(values) > 1 and flag not in allowed}
    assert several == {}
