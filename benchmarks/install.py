"""The plain install in a clean environment: its size, that torch is not in it, and the time to the first pose.

    python benchmarks/install.py [--model FILE.onnx] [--turns 5]

Makes an environment in a temporary folder, installs the project from this folder as `pip install .` does (nothing
taken from pip's cache, so downloads are part of the time), and times `calipose predict` on a synthetic image from the
start of the process to its end: cold, the environment's and the model's files not in memory, and once more. The files
of the Python that the environment was made from stay in memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
import time
import venv
from pathlib import Path

import cv2
import numpy as np

from calipose.data.synthetic.scene import EASY, synthesize_scene

PROJECT = Path(__file__).resolve().parents[1]
INSTALLER = {"pip", "setuptools", "wheel"}  # what a new environment holds by itself
LARGEST = 6  # packages that are listed with their sizes

# Run in the environment: its packages with their versions and bytes, and whether torch can be found.
LIST = """
import importlib.metadata, importlib.util, json
packages = [
    (d.name.lower(), d.version, sum(f.locate().stat().st_size for f in d.files or () if f.locate().is_file()))
    for d in importlib.metadata.distributions()
]
print(json.dumps({"packages": packages, "torch": importlib.util.find_spec("torch") is not None}))
"""


def run(*command: str | Path, cwd: Path) -> tuple[float, str]:
    """Seconds and standard output of a command that must succeed, without this environment's paths."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    begin = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def forget(paths: list[Path]) -> None:
    """Drop files from the system's memory, so that they are read from the disk again (Linux)."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)  # what is not yet written cannot be dropped
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def processor() -> str:
    """Its name."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else platform.machine()


def quartiles(seconds: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = np.percentile(seconds, (25, 50, 75))
    return f"{middle:.2f} s ({low:.2f} to {high:.2f})"


def main() -> None:
    """Install, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an exported file; by default the model of the package")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{datetime.date.today()}, {processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} "
        f"before, Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "env", with_pip=True)
        python, constraints = home / "env" / "bin" / "python", PROJECT / "constraints.txt"
        command = ("-m", "pip", "install", "--no-cache-dir", "--constraint", constraints, PROJECT)
        seconds, _ = run(python, *command, cwd=home)
        listed = json.loads(run(python, "-c", LIST, cwd=home)[1])
        if listed["torch"]:
            raise SystemExit("the plain install has torch in it")
        files = [path for path in (home / "env").rglob("*") if path.is_file() and not path.is_symlink()]
        packages = [entry for entry in listed["packages"] if entry[0] not in INSTALLER]
        total = sum(path.stat().st_size for path in files)
        installer = sum(size for name, _, size in listed["packages"] if name in INSTALLER)
        print(f"installed in {seconds:.0f} s, downloads included; no torch")
        print(f"{(total - installer) / 1e6:.0f} MB in {len(packages)} packages, and {installer / 1e6:.0f} MB of pip")
        largest = sorted(packages, key=lambda entry: -entry[2])[:LARGEST]
        print("largest: " + ", ".join(f"{name} {release} {size / 1e6:.0f} MB" for name, release, size in largest))

        image = home / "drawn.png"
        cv2.imwrite(str(image), synthesize_scene(np.random.default_rng(0), (640, 480), EASY).image[..., ::-1])
        model = ("--model", options.model.resolve()) if options.model else ()
        files += [options.model] if options.model else []
        calipose = home / "env" / "bin" / "calipose"
        cold: list[float] = []
        again: list[float] = []
        for _ in range(options.turns):
            for times in (cold, again):
                if times is cold:
                    forget(files)
                out = home / f"out-{len(cold)}-{len(again)}"
                times.append(run(calipose, "predict", image, *model, "--out", out, cwd=home)[0])
        poses = len(json.loads((out / "poses.jsonl").read_text().splitlines()[0])["poses"])
        print(f"calipose predict, 640 x 480, {poses} poses, process start to end, {options.turns} turns:")
        print(f"cold {quartiles(cold)}, again {quartiles(again)}")


if __name__ == "__main__":
    main()
