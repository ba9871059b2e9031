# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#   "torch==2.4.1", "torchaudio==2.4.1", "transformers==4.46.3", "einops==0.8.0",
#   "numpy==1.26.4", "pyarrow==17.0.0", "soundfile==0.13.1", "soxr==0.5.0.post1",
# ]
# ///
"""Audio vectors by MusicFM, 1024 dimensions (the paper's, 4.1).

git clone https://github.com/minzwon/musicfm code/musicfm
uv run musicfm.py CATALOG audio.parquet --code code --stats msd_stats.json \
    --weights pretrained_msd.pt
talkplay embed CATALOG FEATURES --vectors audio=audio.parquet
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import add_clip, parser, write_heard

RATE = 24_000


def load_model(code: Path, stats: Path, weights: Path, device: str) -> Any:
    # this script has the name of the package that it needs
    sys.path.insert(0, str(code.resolve()))
    sys.modules.pop("musicfm", None)
    from musicfm.model.musicfm_25hz import MusicFM25Hz

    model = MusicFM25Hz(is_flash=False, stat_path=str(stats), model_path=str(weights))
    return model.to(device).eval()


def encoder(model: Any, layer: int, device: str) -> Callable[[list[np.ndarray]], np.ndarray]:
    """A function from clips of one length to `[b, 1024]`: the mean over time of a layer."""

    def encode(sounds: list[np.ndarray]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            hidden = model.get_latent(torch.from_numpy(np.stack(sounds)).to(device), layer_ix=layer)
        made: np.ndarray = hidden.mean(dim=1).float().cpu().numpy()
        return made

    return encode


def main() -> None:
    made = parser(__doc__ or "", batch_size=8)
    add_clip(made, 30.0)
    made.add_argument("--code", type=Path, required=True, help="folder that holds musicfm/")
    made.add_argument("--stats", type=Path, required=True, help="msd_stats.json")
    made.add_argument("--weights", type=Path, required=True, help="pretrained_msd.pt")
    made.add_argument(
        "--layer", type=int, default=6, help="0 to 12; the paper names none; default: %(default)s"
    )
    args = made.parse_args()
    write_heard(
        args,
        "vector",
        lambda: encoder(
            load_model(args.code, args.stats, args.weights, args.device), args.layer, args.device
        ),
        rate=RATE,
        options={"weights": args.weights.name, "layer": args.layer},
    )


if __name__ == "__main__":
    main()
