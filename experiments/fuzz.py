"""Tampers with files of every kind that Calipose reads, and reports what is not refused as it should be.

A tampered file must be read, or refused with a `CaliposeError`, within 5 seconds of the processor; anything else is
reported with its traceback, and the script then ends with status 1. The mutations are in `tests/tampered.py`, and a
test runs a few. At the end a table, in Markdown.

    python experiments/fuzz.py --cases 1000
    python experiments/fuzz.py --cases 200 --kind journal --seed 3
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tampered import KINDS, trials


def main() -> None:
    """Print the faults of each kind, each once, and their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="tampered files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="by default all")
    chosen = parser.parse_args()
    rows = []
    for kind in chosen.kind or KINDS:
        seen: Counter[str] = Counter()
        refused, slowest = 0, 0.0
        with tempfile.TemporaryDirectory() as folder:
            for trial in trials(kind, Path(folder), chosen.cases, chosen.seed):
                refused += trial.refused and not trial.fault
                slowest = max(slowest, trial.seconds)
                if trial.fault:
                    place = trial.trace.splitlines()[-2:-1]
                    seen[f"{trial.fault[:40]} {place}"] += 1
                    if seen[f"{trial.fault[:40]} {place}"] == 1:
                        print(f"{kind}, case {trial.case}: {trial.fault}\n{trial.trace}", flush=True)
        found = sum(seen.values())
        rows.append((kind, chosen.cases, chosen.cases - refused - found, refused, found, slowest))
        print(f"{kind}: {found} faults in {chosen.cases} cases", flush=True)
    print("\n| kind | cases | read | refused | faults | slowest, s of the processor |\n|---|---|---|---|---|---|")
    for *counts, slowest in rows:
        print(f"| {' | '.join(map(str, counts))} | {slowest:.2f} |")
    sys.exit(1 if any(found for *_, found, _ in rows) else 0)


if __name__ == "__main__":
    main()
