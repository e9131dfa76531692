"""Another project's model as a user has it: calibrated on one half of labelled images, judged on the other, and back.

    python experiments/foreign_halves.py MODEL --data ANNOTATIONS.json=IMAGES [--work FOLDER]

The halves are every other image by id. Each command is one that a user would give, and is printed: `calipose calibrate`
on a half, `calipose evaluate` before and after it on the other. Then a line of a table for each half that was judged:
AP; the calibration error (ECE) as given, calibrated, and what a perfectly calibrated score would show; the p-value of
"calibrated"; and the share of labelled keypoints inside the model's regions, by the share that was asked for.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from calipose.data.locate import find_data


def calipose(*arguments: object) -> None:
    """Run the command, and print it."""
    command = ["calipose", *map(str, arguments)]
    print("   ", shlex.join(command), flush=True)
    subprocess.run([sys.executable, "-m", *command, "--quiet"], check=True, stdout=subprocess.DEVNULL)


def halves(annotations: Path, folder: Path) -> list[Path]:
    """Two annotation files of every other image by id."""
    content = json.loads(annotations.read_text(encoding="utf-8"))
    files = []
    for start in range(2):
        images = sorted(content["images"], key=lambda image: int(image["id"]))[start::2]
        ids = {image["id"] for image in images}
        people = [person for person in content["annotations"] if person["image_id"] in ids]
        files.append(folder / f"half{start}.json")
        files[-1].write_text(json.dumps({**content, "images": images, "annotations": people}), encoding="utf-8")
    return files


def judged(model: Path, half: Path, images: Path) -> dict[str, Any]:
    """All figures of `calipose evaluate`."""
    figures = half.with_suffix(".figures.json")
    calipose("evaluate", model, "--data", f"{half}={images}", "--figures", figures)
    return dict(json.loads(figures.read_text(encoding="utf-8")))


def spread(value: float, interval: list[float] | None) -> str:
    """A figure with its 95 % interval."""
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def line(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """The figures of one half, as a line of a table."""
    given, made = before["scores"]["score"], after["scores"]["score"]
    chance = made["ece_by_chance"]
    cells = [
        name,
        spread(after["ap"]["ap"], after["ap"]["interval"]),
        spread(given["ece"], given["intervals"].get("ece")),
        spread(made["ece"], made["intervals"].get("ece")),
        f"{chance['mean']:.3f}, 95 % below {chance['bound']:.3f}; p {made['p_calibrated']:.3f}",
    ]
    rows = [row for row in after["regions"]["coverage"] if row["group"] == "all"]
    assert after["regions"]["of_the_model"]
    cells.append(", ".join(f"{row['asked']:g}: {spread(row['got'], row['interval'])}" for row in rows))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/foreign_halves"))
    args = parser.parse_args()
    annotations, images = find_data(args.data)
    args.work.mkdir(parents=True, exist_ok=True)
    files = halves(annotations, args.work)
    lines = []
    for start, half in enumerate(files):
        model = args.work / f"on_half{1 - start}{args.model.suffix}"
        shutil.copyfile(args.model, model)
        model.with_suffix(".calipose.json").unlink(missing_ok=True)
        before = judged(model, half, images)
        calipose("calibrate", model, "--data", f"{files[1 - start]}={images}")
        lines.append(line(half.stem, before, judged(model, half, images)))
    print("| judged on | AP | ECE as given | ECE calibrated | if perfect | coverage asked: got |", *lines, sep="\n")


if __name__ == "__main__":
    main()
