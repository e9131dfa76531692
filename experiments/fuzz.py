"""Tampers with files of every kind that Calipose reads, and reports what is not refused as it should be.

A tampered file must be read, or refused with a `CaliposeError`, within 5 seconds; anything else is reported with its
traceback, and the script then ends with status 1. The mutations are in `tests/tampered.py`, and a test runs a few.

    python experiments/fuzz.py --cases 1000
    python experiments/fuzz.py --cases 200 --kind journal --seed 3
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tampered import KINDS, faults


def main() -> None:
    """Print the faults of each kind, each once, and their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="tampered files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="by default all")
    chosen = parser.parse_args()
    total = 0
    for kind in chosen.kind or KINDS:
        seen: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for fault in faults(kind, Path(folder), chosen.cases, chosen.seed):
                place = fault.trace.splitlines()[-2:-1] if fault.trace else []
                seen[f"{fault.what[:40]} {place}"] += 1
                if seen[f"{fault.what[:40]} {place}"] == 1:
                    print(f"{kind}, case {fault.case}: {fault.what}\n{fault.trace}")
        found = sum(seen.values())
        total += found
        print(f"{kind}: {found} faults in {chosen.cases} cases", flush=True)
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
