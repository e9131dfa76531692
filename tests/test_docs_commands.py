"""Every `calipose ...` line in a block of the documents, and every example of `--help`, is run, or said why not."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import typer.main
from typer.testing import CliRunner

from calipose.cli import app
from calipose.config.recipe import recipe_names
from documents import ROOT, Command, prepare, shell_commands

if TYPE_CHECKING:
    from calipose.model.checkpoint import Checkpoint

PAGES = [
    "README.md", "CONTRIBUTING.md", "src/calipose/weights/README.md", "examples/browser/README.md",
    "examples/serve/README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]  # fmt: skip
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PYTHON = [
    "docs/formats.md",
    "docs/other-models.md",
    "docs/second-look.md",
]  # tests/test_docs.py runs that of the others
HELP = [f"calipose {name} --help" for name in COMMANDS]  # the examples at the end of a help screen count as a page

# Pages of measurements: their commands take minutes to hours and name data that the repository does not carry.
# They are parsed, and their recipes and scripts exist.
MEASUREMENTS = {"docs/decisions.md", "docs/default-model.md"}

# Commands that are not run: a pattern of the line (as of fnmatch), and the reason.
NOT_RUN = {
    "calipose bulk 's3://*": "needs a bucket and a cluster; tests/bulk runs it against a local S3",
    "calipose bulk * --provider cuda *": "needs a GPU",
    "calipose predict * --provider cuda": "needs a GPU",
    "calipose serve * --device cuda *": "needs a GPU",
    "calipose predict webcam:0": "needs a webcam",
    "calipose predict https:*": "needs the network",
    "calipose predict holiday/ --out - '|' *": "a pipe of the shell",
    "calipose train-demo*": "trains for minutes; tests/cli runs a short one",
    "calipose predict photo.jpg --model runs/first --queries": "a network of three steps finds nobody",
    "calipose report results.json --data val.json=val2017 --out report": "docs/report.md has a line like it",
    "calipose calibrate runs/first *": "a network of three steps finds nobody; docs/scores.md has the same line",
    "calipose * movenet.tflite *": "Google's file is not in the repository; tests/inference has a graph like it",
}

# Commands that need Ray, which `make test` does not install and CI does.
WITH_RAY = ("calipose bulk *", "calipose convert poses *")
RAY = find_spec("ray") is not None and find_spec("pyarrow") is not None

# Commands that are run in a short form: a pattern, and what is added to the line. The first that fits counts.
SHORTER = {
    "calipose train finetune *": "--set epochs=1 --set batch_size=2 --set size=64 --set evaluate_every=1",
    "calipose train photo *": "--set epochs=1 --set batch_size=4 --set size=64 --set evaluate_every=1",
    "calipose train synthetic *": "--set epochs=1 --set batch_size=4 --set size=64 --set predict.short_side=64",
    "calipose synthesize *": "--images 2",
    "calipose evaluate accurate *": "--bootstrap 20 --short-side 64",
    "calipose calibrate accurate *": "--short-side 192",
    "calipose evaluate runs/first *": "--bootstrap 20 --short-side 64",
    "calipose evaluate *": "--bootstrap 20",
    "calipose compare *": "--bootstrap 100",
    "calipose report accurate *": "--bootstrap 0 --short-side 64",
    "calipose report *": "--bootstrap 0",
}

TO_DO = (
    "Mend the command; or write the files that it names in tests/documents.py (`prepare`); or, where it cannot run in "
    "a test, add it with the reason to NOT_RUN, or with shorter options to SHORTER, in tests/test_docs_commands.py."
)


def commands(page: str) -> list[Command]:
    """The command lines of a document, or of a help screen."""
    if page not in HELP:
        return shell_commands(page, (ROOT / page).read_text(encoding="utf-8"), "calipose")
    epilog = re.sub(r"\[/?(?:bold|cyan)\]", "", COMMANDS[page.split()[1]].epilog or "")
    return shell_commands(page, textwrap.indent(epilog, "    "), "calipose")


def reason(command: Command) -> str:
    """Why a command is not run, or nothing."""
    if not RAY and any(fnmatch(command.line, pattern) for pattern in WITH_RAY):
        return "Ray is not installed"
    return next((why for pattern, why in NOT_RUN.items() if fnmatch(command.line, pattern)), "")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Path:
    """A folder with all files that the documents name; copy it."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder, tiny_onnx)
    return folder


@pytest.fixture
def place(prepared: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a page.

    What serves, starts Ray or exports a checkpoint is only begun: tests/serve, tests/bulk and tests/export do it.
    """
    import calipose.export.onnx
    import calipose.serve.run

    def export(_: object, path: Path, *__: object) -> object:
        path.unlink(missing_ok=True)
        shutil.copyfile(tiny_onnx, path)
        return SimpleNamespace(poses=1, pixels=0.0, scores=0.0)

    monkeypatch.setattr(calipose.export.onnx, "export_onnx", export)
    monkeypatch.setattr(calipose.serve.run, "run", lambda *_: None)
    if RAY:
        from calipose.bulk import run as bulk

        monkeypatch.setattr(bulk, "predict_bulk", lambda *_, **__: bulk.Summary())
    folder = tmp_path / "place"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def failure(command: Command, make_run: Callable[[Path], None]) -> str:
    """Run a command in the current folder; what went wrong, or nothing."""
    more = next((added.split() for pattern, added in SHORTER.items() if fnmatch(command.line, pattern)), [])
    for before, word in zip(command.words, command.words[1:], strict=False):
        if word.startswith(("runs/", "CHECKPOINT")) and before != "--out" and not Path(word).exists():
            make_run(Path(word))
    if command.words[1] == "synthesize":  # refuses a folder that is there
        shutil.rmtree(command.words[2])
    done = CliRunner().invoke(app, [*command.words[1:], *more], env=command.environment)
    if done.exit_code == 0:
        return ""
    return f"{command}\n    exit code {done.exit_code}: {done.output.strip() or repr(done.exception)}\n"


@pytest.mark.parametrize("page", [page for page in (*PAGES, *HELP) if page not in MEASUREMENTS and commands(page)])
def test_the_commands_run(page: str, place: Path, tiny_checkpoint: Checkpoint) -> None:
    """In their order, in one folder: a later command may need what an earlier one wrote."""
    from calipose.model.checkpoint import save_checkpoint

    def make_run(folder: Path) -> None:
        folder.mkdir(parents=True)
        save_checkpoint(folder / "last.safetensors", tiny_checkpoint)

    failures = [failure(command, make_run) for command in commands(page) if not reason(command)]
    assert not any(failures), "".join(failures) + TO_DO


def test_what_is_not_run_is_in_a_document() -> None:
    lines = [command.line for page in (*PAGES, *HELP) for command in commands(page)]
    for pattern in [*NOT_RUN, *SHORTER]:
        assert any(fnmatch(line, pattern) for line in lines), f"no document has {pattern} any more: remove the row"


@pytest.mark.parametrize("page", sorted(MEASUREMENTS))
def test_commands_of_measurements_are_understood(page: str) -> None:
    shown = commands(page)
    assert shown
    for command in shown:
        name, *arguments = command.words[1:]
        context = COMMANDS[name].make_context(name, arguments)
        if name == "train":
            assert context.params["recipe"] in recipe_names(), command


def test_the_scripts_have_the_options_that_documents_give() -> None:
    """Every `python benchmarks/x.py --option` of a document, and of a script's own description."""
    scripts = [path for folder in ("benchmarks", "experiments", "tools") for path in (ROOT / folder).glob("*.py")]
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in (*PAGES, "benchmarks/RESULTS.md")}
    texts |= {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in scripts}
    for page, text in texts.items():  # in the middle of a sentence, too
        texts[page] = text + "".join(
            f"\n    {' '.join(line.split())}" for line in re.findall(r"`(python [^`]+)`", text)
        )
    shown = [command for page, text in texts.items() for command in shell_commands(page, text, "python")]
    shown = [command for command in shown if re.match("(benchmarks|experiments|tools)/", command.words[1])]
    assert len(shown) > 30
    for command in shown:
        assert (ROOT / command.words[1]).is_file(), command
        source = texts[command.words[1]]
        for option in (word.partition("=")[0] for word in command.words[2:] if word.startswith("--")):
            known = (option, option.replace("--no-", "--"))  # the second of argparse.BooleanOptionalAction
            assert any(f'"{name}"' in source for name in known), f"{command}: {option}"


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_runs(page: str, place: Path) -> None:
    """It runs; tests/test_docs.py also looks at what comes out of the other documents' Python."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names


def test_all_python_of_documents_is_run() -> None:
    others = (ROOT / "tests" / "test_docs.py").read_text(encoding="utf-8")
    for page in PAGES:
        if "\n```python\n" in (ROOT / page).read_text(encoding="utf-8"):
            assert page in PYTHON or f'snippets("{page}")' in others, f"add {page} to PYTHON, or a test to test_docs.py"
