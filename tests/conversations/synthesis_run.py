"""Ask and harvest once, in a process that may be killed at any moment.

python tests/conversations/synthesis_run.py CATALOG OUT LEDGER BASE_URL
"""

import asyncio
import sys

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions
from talkplay_hf.conversations.pieces import PieceOptions, cut_playlists
from talkplay_hf.conversations.synthesis.ledger import Ledger
from talkplay_hf.conversations.synthesis.prompt import Prompt
from talkplay_hf.conversations.synthesis.synthesis import Synthesis

CONCURRENCY = 4


def main() -> None:
    folder, out, path, base_url = sys.argv[1:]
    catalog = Catalog.load(folder)
    pieces = [*cut_playlists(catalog, PieceOptions(size=3, playlists=60), seed=0)]
    prompt = Prompt.load()
    model = EndpointModel(EndpointOptions("writer", base_url, concurrency=CONCURRENCY))
    print("ready", flush=True)
    with Ledger(path) as ledger:
        synthesis = Synthesis(catalog, prompt, model, ledger)
        asked = asyncio.run(synthesis.ask(pieces))
        assert (asked.finished, asked.stopped) == (len(pieces), None)
        synthesis.save(out, pieces, {"catalog": catalog.fingerprint, "prompt": prompt.sha256})


if __name__ == "__main__":
    main()
