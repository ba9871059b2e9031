"""Draw trainings with and without the self-similarity loss in one figure, and print what they show.

    python recipes/self-similarity/compare.py figure.png \
        with=run/with-0,run/with-1,run/with-2 without=run/without-0,run/without-1,run/without-2
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from talkplay_hf.training.figures.curves import compare_curves, series

SETS = ("conversations", "playlists")


def read(text: str) -> tuple[str, list[list[dict[str, Any]]]]:
    """A name and the logs of its model folders."""
    name, _, folders = text.partition("=")
    reports = [Path(folder) / "training_report.json" for folder in folders.split(",")]
    return name, [json.loads(path.read_text(encoding="utf-8"))["log"] for path in reports]


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("runs", nargs="+", type=read, metavar="NAME=FOLDER,FOLDER")
    args = parser.parse_args()
    compare_curves(dict(args.runs), args.picture)
    print("lowest validation cross-entropy, the step it was reached at, and the last one, by seed")
    for part in SETS:
        for name, logs in args.runs:
            lowest, last = [], []
            for log in logs:
                steps, values = series(log, f"eval_{part}_loss")
                at = int(values.argmin())
                lowest.append(float(values[at]))
                last.append(float(values[-1]))
                print(
                    f"{part:14}{name:10}{values[at]:8.4f} at {int(steps[at]):6,} of "
                    f"{int(steps[-1]):,}, last {values[-1]:8.4f}"
                )
            print(
                f"{part:14}{name:10}{statistics.mean(lowest):8.4f} in the mean, "
                f"last {statistics.mean(last):8.4f}"
            )


if __name__ == "__main__":
    main()
