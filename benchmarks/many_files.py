"""A folder of 1,000 files of which ten are broken, predicted, interrupted and resumed; and memory along a video.

    python benchmarks/many_files.py [--files 1000] [--model FILE.onnx]

Makes synthetic images, breaks ten of them in ten ways, runs `calipose predict`, interrupts it with Ctrl-C after a
third, resumes it, and checks: exit codes 130 and 1, every good image drawn and written exactly once, every broken one
named. Then a synthetic video of 100 and of 300 frames: peak memory of the process, which must not grow with the length.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.io.video_writer import VideoWriter

SIZE = (320, 240)
KINDS = (
    "empty", "cut off", "text", "header only", "zeros", "webp head", "png head", "float tiff", "pdf", "gif head",
)  # fmt: skip


def break_file(path: Path, kind: str) -> None:
    """Put something of that kind in the place of an image."""
    data = path.read_bytes()
    path.unlink()
    contents = {
        "empty": b"", "cut off": data[: len(data) // 2], "text": b"not an image", "header only": data[:20],
        "zeros": bytes(500), "webp head": b"RIFF\x10\0\0\0WEBPVP8 ", "png head": b"\x89PNG\r\n\x1a\n" + bytes(30),
        "pdf": b"%PDF-1.7\n", "gif head": b"GIF89a",
    }  # fmt: skip
    if kind in contents:
        path.write_bytes(contents[kind])
    else:
        path.write_bytes(cv2.imencode(".tiff", np.zeros((9, 9), np.float32))[1].tobytes())


def make_folder(folder: Path, files: int) -> list[str]:
    """Synthetic images, the first ten of them broken; names of the broken ones."""
    folder.mkdir()
    random = np.random.default_rng(0)
    scenes = [synthesize_scene(random, SIZE, EASY).image[..., ::-1] for _ in range(25)]
    for i in range(files):
        cv2.imwrite(str(folder / f"{i:04d}.jpg"), np.roll(scenes[i % 25], i, axis=1))
    broken = [f"{i:04d}.jpg" for i in range(0, files, max(1, files // len(KINDS)))][: len(KINDS)]
    for name, kind in zip(broken, KINDS, strict=True):
        break_file(folder / name, kind)
    return broken


def predict(*arguments: object) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "calipose", "predict", *map(str, arguments)]


def main() -> None:
    """Run and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "images", Path(temporary) / "out"
        broken = make_folder(folder, options.files)
        command = predict(folder, "--model", options.model, "--out", out, "--short-side", 128)
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and lines(out / "poses.jsonl") < options.files // 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        first = lines(out / "poses.jsonl")
        stopped = next((line for line in said.splitlines() if line.startswith("stopped")), "nothing")
        print(f"interrupted: exit code {process.returncode}, {first} images done; it said: {stopped}")
        again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
        entries = [json.loads(line)["file"] for line in (out / "poses.jsonl").read_text().splitlines()]
        good = {str(folder / f"{i:04d}.jpg") for i in range(options.files)} - {str(folder / name) for name in broken}
        named = [name for name in broken if name in again.stderr + said]
        whole = len(entries) == len(set(entries)) and set(entries) == good
        print(
            f"resumed: exit code {again.returncode}; {len(entries)} entries, exactly the good ones once: {whole}; "
            f"drawings: {len(list(out.glob('*.jpg')))}; {len(named)} of {len(broken)} broken files named; "
            f"{time.monotonic() - start:.0f} s in all"
        )
        print("\n".join(line[-100:] for line in again.stderr.splitlines()[-11:]))
        for frames in (100, 300):
            video = Path(temporary) / f"{frames}.mp4"
            with VideoWriter(video, 25, (640, 480), None) as writer:
                scene = synthesize_scene(np.random.default_rng(1), (640, 480), EASY).image
                for i in range(frames):
                    writer.write(np.roll(scene, 2 * i, axis=1))
            command = predict(video, "--model", options.model, "--out", out / str(frames), "--short-side", 128)
            code = f"import resource, subprocess, sys; subprocess.run({command!r}, check=True, stdout=2); "
            code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            written = lines(out / str(frames) / f"{frames}.poses.jsonl")
            print(f"video of {frames} frames: peak memory {done.stdout.split()[-1]} MB, {written} frames written")
    print(f"Python {platform.python_version()}, {platform.machine()}")


def lines(path: Path) -> int:
    """Number of lines of a file that may not be there."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


if __name__ == "__main__":
    main()
