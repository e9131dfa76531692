"""Options: types that commands share, and those of `calipose predict`, in the panels of its help screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from calipose.errors import InputError
from calipose.formats.table import FORMATS, prefixed_formats, saved_formats, streamed_formats

INPUT, OUTPUT, POSES = "Input", "Output", "Poses"
VIDEOS, MODEL, MESSAGES = "Videos and webcams", "Model", "Messages"
MIN_SCORE = 0.3

# ---- shared by commands

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only, no progress.", rich_help_panel=MESSAGES)]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda, cuda:1, ...; by default a GPU where there is one (.onnx files: the CPU).",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Flip = Annotated[
    bool,
    typer.Option(
        "--flip",
        help="Also predict the mirrored image, and average both: twice the time. Not for .onnx files.",
        rich_help_panel=MODEL,
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        min=32,
        metavar="PIXELS",
        help="Length of an image's short side in the network; a longer one finds smaller people. "
        "By default the model's.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
As = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="FORM",
        help="Kind of another project's model (.onnx, .tflite): rtmo, yolo-pose, ... (docs/other-models.md). By "
        "default the model's inputs and outputs tell.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Scales = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Multiples of the short side, such as 0.5,1,2: predict at each size, and keep the best pose of each "
        "person. By default the model's.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]

# ---- of predict: input

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Images, videos, folders of them, patterns ('holiday/*.jpg'), http(s) URLs of images, webcam:0.",
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Also search the folders inside of folders.", rich_help_panel=INPUT)
]

# ---- of predict: output

Out = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder for the drawings and poses.jsonl. With - the poses go to standard output, and nothing is drawn.",
        rich_help_panel=OUTPUT,
    ),
]
Draw = Annotated[
    bool,
    typer.Option("--draw/--no-draw", help="Draw the poses into copies of images and videos.", rich_help_panel=OUTPUT),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Skip what is complete in DIR, and predict the rest.", rich_help_panel=OUTPUT),
]


def save_option() -> Any:
    """`--save`, as the table of formats stands when the command is built."""
    rows = "; ".join(f"{name}: {FORMATS[name].description} ({file})" for name, file in saved_formats().items())
    return typer.Option(
        "--save",
        metavar="FORMAT",
        parser=_one_of(list(saved_formats())),
        help=f"Write the poses in another format, too. {rows}. May be repeated.",
        rich_help_panel=OUTPUT,
    )


def image_prefix_option() -> Any:
    """`--image-prefix`, as the table of formats stands when the command is built."""
    return typer.Option(
        "--image-prefix",
        metavar="ADDRESS",
        help=f"With --save {_listed(prefixed_formats())}: the address that replaces the current folder in the paths of "
        "the images, such as '/data/local-files/?d=' or https://images.example.org/. docs/label-studio.md shows how.",
        show_default=False,
        rich_help_panel=OUTPUT,
    )


def format_option() -> Any:
    """`--format`, as the table of formats stands when the command is built."""
    return typer.Option(
        "--format",
        metavar="FORMAT",
        parser=_one_of(streamed_formats()),
        help=f"Format of the poses on standard output (--out -): {_listed(streamed_formats())}.",
        rich_help_panel=OUTPUT,
    )


# ---- of predict: poses

MinScore = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="SCORE",
        help=f"Leave out poses with a lower score; by default {MIN_SCORE:g}.",
        show_default=False,
        rich_help_panel=POSES,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="SHARE@OKS",
        help="Instead of --min-score: 0.95@0.75 keeps poses so that 95 % of them have OKS >= 0.75. The score threshold "
        "comes from the model's calibration images.",
        show_default=False,
        rich_help_panel=POSES,
    ),
]
MinKeypointScore = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="SCORE",
        help="Do not draw keypoints with a lower score, where the model scores keypoints.",
        rich_help_panel=POSES,
    ),
]
Regions = Annotated[
    float | None,
    typer.Option(
        "--regions",
        min=0.5,
        max=0.99,
        metavar="COVERAGE",
        help="Draw and write a circle around each keypoint; an annotator would put the keypoint inside with this "
        "probability, such as 0.9.",
        show_default=False,
        rich_help_panel=POSES,
    ),
]
Queries = Annotated[
    bool,
    typer.Option(
        "--queries",
        help="Draw the keypoint queries as yellow circles (the paper's Figure 2).",
        rich_help_panel=POSES,
    ),
]

# ---- of predict: videos

Track = Annotated[
    bool | None,
    typer.Option(
        "--track/--no-track",
        help="Follow people: they keep their ids, short gaps are filled (dashed), and weaker poses are kept where the "
        "person was seen one frame earlier. On by default.",
        show_default=False,
        rich_help_panel=VIDEOS,
    ),
]
Smooth = Annotated[
    bool, typer.Option("--smooth", help="Smooth the coordinates of people who are followed.", rich_help_panel=VIDEOS)
]
Every = Annotated[int, typer.Option(min=1, metavar="N", help="Take only every Nth frame.", rich_help_panel=VIDEOS)]

# ---- of predict: model and messages

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="accurate, fast, onepass, a .onnx or .safetensors file, a run folder, a .model.json file, or another "
        "project's model (.onnx, .tflite); by default accurate, for webcams fast.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="With a packaged model or .onnx file: cuda or another provider of ONNX Runtime; may be repeated, best "
        "first.",
        rich_help_panel=MODEL,
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="With a packaged model or .onnx file: number of threads; 0: ONNX Runtime's choice.",
        rich_help_panel=MODEL,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="With a packaged model or .onnx file: predict N images at the same time, each with its share of the "
        "threads.",
        rich_help_panel=MODEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Images of equal size that go through the network together; faster on a GPU.",
        rich_help_panel=MODEL,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one line of JSON about the run instead of text: counts, errors, and whether the images are like "
        "those of the calibration.",
        rich_help_panel=MESSAGES,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print a line for each image, however many.", rich_help_panel=MESSAGES),
]


def read_scales(text: str) -> tuple[float, ...]:
    """The numbers of a text such as "0.5,1,2"; none of an empty text.

    Raises:
        InputError: the text holds something else.
    """
    try:
        scales = tuple(float(part) for part in text.split(",") if part.strip())
        if all(0.05 <= scale <= 8 for scale in scales) and len(set(scales)) == len(scales):
            return scales
    except ValueError:
        pass
    raise InputError(
        f"scales '{text}': write different numbers from 0.05 to 8 with commas between, for example 0.5,1,2"
    )


def _listed(names: list[str]) -> str:
    """Names as a sentence has them: a, b or c."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _one_of(names: list[str]) -> Callable[[str], str]:
    """A parser that takes these names only."""

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"'{text}' is none of the formats {_listed(names)}")
        return text

    return parse
