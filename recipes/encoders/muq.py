# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#   "muq==0.1.0", "torch==2.4.1", "torchaudio==2.4.1", "torchvision==0.19.1",
#   "transformers==4.46.3", "numpy==1.26.4", "pyarrow==17.0.0", "soundfile==0.13.1",
#   "soxr==0.5.0.post1",
# ]
# ///
"""Audio vectors by MuQ, 1024 dimensions.

uv run muq.py CATALOG audio.parquet
talkplay embed CATALOG FEATURES --vectors audio=audio.parquet
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import add_clip, parser, write_heard

RATE = 24_000


def load_model(name: str, revision: str | None, device: str) -> Any:
    # this script has the name of the package that it needs
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [folder for folder in sys.path if str(Path(folder).resolve()) != here]
    sys.modules.pop("muq", None)
    from muq import MuQ

    return MuQ.from_pretrained(name, revision=revision).to(device).eval()


def encoder(model: Any, device: str) -> Callable[[list[np.ndarray]], np.ndarray]:
    """A function from clips of one length to `[b, 1024]`: the mean over time of the last layer."""

    def encode(sounds: list[np.ndarray]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            hidden = model(torch.from_numpy(np.stack(sounds)).to(device)).last_hidden_state
        made: np.ndarray = hidden.mean(dim=1).float().cpu().numpy()
        return made

    return encode


def main() -> None:
    made = parser(__doc__ or "", batch_size=8)
    add_clip(made, 30.0)
    made.add_argument("--model", default="OpenMuQ/MuQ-large-msd-iter", help="default: %(default)s")
    made.add_argument("--revision", help="branch, tag or commit of the Hub repository")
    args = made.parse_args()
    write_heard(
        args,
        "vector",
        lambda: encoder(load_model(args.model, args.revision, args.device), args.device),
        rate=RATE,
        options={"model": args.model, "revision": args.revision},
    )


if __name__ == "__main__":
    main()
