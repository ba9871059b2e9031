"""How much of the human conversations of CPCD meets a catalog.

    python tests/benchmarks/cpcd_coverage.py --cpcd ../shared/data/cpcd/cpcd_train.jsonl \
        --catalog catalog

Prints, for each way to treat turns whose tracks the catalog lacks and for the use as test or
training data, the conversations and turns that are kept, and why others are not.
"""

import argparse
from pathlib import Path

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.published.sets import UNMATCHED, PublishedConversations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpcd", type=Path, required=True, help="file of CPCD")
    parser.add_argument("--catalog", type=Path, required=True, help="catalog folder")
    args = parser.parse_args()
    catalog = Catalog.load(args.catalog)
    print(f"{'split':6} {'unmatched':9} {'kept':>5} {'turns':>6} {'disliked':>8}  dropped")
    for split in ("test", "train"):
        for unmatched in UNMATCHED:
            found = PublishedConversations(args.cpcd, catalog, split=split, unmatched=unmatched)
            for _ in found:
                pass
            report = found.report
            dropped = ", ".join(f"{name} {n}" for name, n in sorted(report.dropped.items()))
            print(
                f"{split:6} {unmatched:9} {report.conversations:5} {report.turns['kept']:6} "
                f"{report.turns['negative']:8}  {dropped}"
            )
    print()
    print(report.summary())


if __name__ == "__main__":
    main()
