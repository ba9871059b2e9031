# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#   "torch==2.1.2", "torchaudio==2.1.2", "transformers==4.26.1", "einops==0.8.0",
#   "numpy==1.26.4", "pyarrow==15.0.2", "soundfile==0.13.1", "soxr==0.5.0.post1",
# ]
# ///
"""Captions by LP-MusicCaps (the paper's, 3.1).

git clone https://github.com/seungheondoh/lp-music-caps
uv run lp_music_caps.py CATALOG captions.parquet --code lp-music-caps --weights transfer.pth
talkplay import CATALOG NEW --join captions.parquet
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import add_clip, parser, write_heard

RATE = 16_000
WINDOW = 10 * RATE


def load_model(code: Path, weights: Path, device: str) -> Any:
    import torch

    sys.path.insert(0, str(code.resolve()))
    from lpmc.music_captioning.model.bart import BartCaptionModel

    model = BartCaptionModel(max_length=128)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])
    return model.to(device).eval()


def captioner(model: Any, beams: int, device: str) -> Callable[[list[np.ndarray]], list[str]]:
    """A function from clips of one length to captions, a sentence for every 10 seconds."""

    def caption(sounds: list[np.ndarray]) -> list[str]:
        import torch

        count = max(1, len(sounds[0]) // WINDOW)
        windows = np.concatenate(
            [np.resize(sound, count * WINDOW).reshape(count, WINDOW) for sound in sounds]
        )
        with torch.inference_mode():
            said = model.generate(samples=torch.from_numpy(windows).to(device), num_beams=beams)
        sentences = [" ".join(text.split()) for text in said]
        return [
            " ".join(dict.fromkeys(sentences[at : at + count]))
            for at in range(0, len(sentences), count)
        ]

    return caption


def main() -> None:
    made = parser(__doc__ or "", batch_size=8)
    add_clip(made, 10.0)
    made.add_argument("--code", type=Path, required=True, help="clone that holds lpmc/")
    made.add_argument("--weights", type=Path, required=True, help="transfer.pth")
    made.add_argument("--beams", type=int, default=5, help="default: %(default)s")
    args = made.parse_args()
    write_heard(
        args,
        "caption",
        lambda: captioner(
            load_model(args.code, args.weights, args.device), args.beams, args.device
        ),
        rate=RATE,
        options={"weights": args.weights.name, "beams": args.beams},
    )


if __name__ == "__main__":
    main()
