"""The command line: one file a command; a command parses, calls the library, and prints."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from calipose._version import __version__
from calipose.cli.bulk import bulk_command
from calipose.cli.calibrate import calibrate_command
from calipose.cli.check import check_command
from calipose.cli.compare import compare_command
from calipose.cli.console import Commands, examples, out
from calipose.cli.convert import convert_command
from calipose.cli.demo import demo_command
from calipose.cli.evaluate import evaluate_command
from calipose.cli.export import export_command
from calipose.cli.info import info_command
from calipose.cli.predict import predict_command
from calipose.cli.report import report_command
from calipose.cli.serve import serve_command
from calipose.cli.submit import submit_command
from calipose.cli.synthesize import synthesize_command
from calipose.cli.train import train_command
from calipose.cli.train_demo import train_demo_command

# The panels of `calipose --help`, in this order; commands stand in the order in which they are registered below.
START = "Find poses"
JUDGE = "Measure, calibrate and compare models"
FILES = "Convert labels, export models"
SCALE = "Many images, many users"
TRAIN = "Train a model"

app = typer.Typer(
    cls=Commands,
    name="calipose",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"calipose {__version__}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "calipose demo",
        "calipose predict photo.jpg",
        "calipose evaluate accurate --data annotations.json=images",
    )
)
def _calipose(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find the poses of all people in images and videos.

    Each pose has a score: the object keypoint similarity (OKS, 0 to 1) to expect of it.
    """


app.command(
    "predict",
    rich_help_panel=START,
    epilog=examples(
        "calipose predict photo.jpg",
        "calipose predict holiday/ '*.png' --out drawings --min-score 0.5 --save csv",
        "calipose predict holiday/ '*.png' --out drawings --resume",
        "calipose predict holiday/ --precision 0.7@0.5",
        "calipose predict dance.mp4 --smooth",
        "calipose predict webcam:0",
        "calipose predict https://example.org/team.jpg",
        "calipose predict holiday/ --out - | jq '.poses[].score'",
        "calipose predict photo.jpg --model runs/first --queries",
    ),
)(predict_command)
app.command("demo", rich_help_panel=START, epilog=examples("calipose demo", "calipose demo photo.jpg holiday/"))(
    demo_command
)
app.command(
    "evaluate",
    rich_help_panel=JUDGE,
    epilog=examples(
        "calipose evaluate runs/first --data unseen",
        "calipose evaluate runs/first --data val.json=val2017 --flip --short-side 640 --out results.json",
        "calipose evaluate runs/first --data unseen --grid --scales 0.5,1,2",
        "calipose evaluate results.json --ground-truth annotations.json",
    ),
)(evaluate_command)
app.command(
    "calibrate",
    rich_help_panel=JUDGE,
    epilog=examples(
        "calipose calibrate runs/first --data labelled",
        "calipose calibrate yolo26n-pose.onnx --data val.json=val2017",
        "calipose calibrate results.json --ground-truth annotations.json --out better.json",
        "calipose calibrate results.json --ground-truth annotations.json --maps maps.json",
        "calipose calibrate others.json --use maps.json --out better.json",
    ),
)(calibrate_command)
app.command(
    "report",
    rich_help_panel=JUDGE,
    epilog=examples(
        "calipose report runs/first --data unseen",
        "calipose report results.json --data val.json=val2017 --out report",
    ),
)(report_command)
app.command(
    "compare",
    rich_help_panel=JUDGE,
    epilog=examples(
        "calipose compare old.json new.json --ground-truth val.json",
        "calipose compare old.json new.json --ground-truth val.json --images val2017 --out changes",
    ),
)(compare_command)
app.command(
    "check",
    rich_help_panel=JUDGE,
    epilog=examples(
        "calipose check yolo26n-pose.onnx --data val.json=val2017",
        "calipose check ecpose.onnx --as ecpose --data val.json=val2017",
    ),
)(check_command)
app.command(
    "submit",
    rich_help_panel=JUDGE,
    epilog=examples(
        "calipose submit runs/w32 --data image_info_test-dev2017.json=test2017 --name calipose-w32",
        "calipose submit results.json --data image_info_test-dev2017.json --name my-model",
    ),
)(submit_command)
app.command(
    "convert",
    rich_help_panel=FILES,
    epilog=examples(
        "calipose convert cvat.xml people.json",
        "calipose convert label-studio.json=images people.json",
        "calipose convert yolo/data.yaml people.json",
        "calipose convert poses poses.csv --format csv",
    ),
)(convert_command)
app.command("export", rich_help_panel=FILES, epilog=examples("calipose export runs/first poses.onnx"))(export_command)
app.command(
    "serve",
    rich_help_panel=SCALE,
    epilog=examples(
        "calipose serve",
        "calipose serve --model fast --port 9000 --workers 2",
        "CALIPOSE_TOKEN=secret calipose serve --host 0.0.0.0",
        "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/predict",
    ),
)(serve_command)
app.command(
    "bulk",
    rich_help_panel=SCALE,
    epilog=examples(
        "calipose bulk frames/ poses",
        "calipose bulk 's3://bucket/shards/*.tar' s3://bucket/poses --address auto --workers 64 --cpus 2",
        "calipose bulk urls.parquet poses --column url --gpus 1 --provider cuda --batch-size 16",
    ),
)(bulk_command)
app.command(
    "train",
    rich_help_panel=TRAIN,
    epilog=examples(
        "calipose train synthetic --data people --out runs/first --validate unseen",
        "calipose train photo --data coco.json=images --out runs/photo --set epochs=20 --set optim.lr=1e-3",
        "calipose train photo --data coco.json=images --out runs/photo --resume",
        "calipose train finetune --data mine.json=images --skeleton mine.toml --out runs/mine",
        "torchrun --nproc_per_node 8 -m calipose train coco-w32-512 --data coco.json=train2017 --out runs/w32",
    ),
)(train_command)
app.command(
    "info", rich_help_panel=TRAIN, epilog=examples("calipose info", "calipose info coco-w32-512 my-recipe.toml")
)(info_command)
app.command(
    "synthesize",
    rich_help_panel=TRAIN,
    epilog=examples("calipose synthesize people --images 1000 --preset easy --size 192x192"),
)(synthesize_command)
app.command(
    "train-demo",
    rich_help_panel=TRAIN,
    epilog=examples("calipose train-demo", "calipose train-demo --out runs/longer --train-images 3000"),
)(train_demo_command)


def main() -> None:
    """Run the command line; `calipose` and `python -m calipose` come here."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be text; they come out as they are
    app(prog_name="calipose")
