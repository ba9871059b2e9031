# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = [
#   "torch==2.2.0", "transformers==4.42.4", "sentence-transformers==2.7.0", "einops==0.8.0",
#   "datasets==2.20.0", "numpy==1.26.4", "pyarrow==15.0.2",
# ]
# ///
"""Text vectors by NV-Embed-v2, 4096 dimensions (the paper's, 4.1), for one text modality.

uv run nv_embed_v2.py CATALOG semantic.parquet --modality semantic --revision COMMIT
talkplay embed CATALOG FEATURES --vectors semantic=semantic.parquet
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from common import parser, read_tracks, unit_rows, write_table

COLUMNS = {
    "semantic": ("tags", "caption"),
    "metadata": ("title", "artist", "album", "release_date"),
    "lyrics": ("lyrics",),
}


def render(track: dict[str, Any], modality: str, *, caption: bool = False) -> str | None:
    """The text of a track: tags, `{title} by {artist} from {album} {year}`, or lyrics."""
    if modality == "semantic":
        parts = [", ".join(track.get("tags") or ())]
        if caption:
            parts.append(track.get("caption") or "")
        return ". ".join(part for part in parts if part) or None
    if modality == "lyrics":
        return (track.get("lyrics") or "").strip() or None
    text = f"{track['title']} by {track['artist']}"
    if track.get("album"):
        text += f" from {track['album']}"
    year = (track.get("release_date") or "")[:4]
    return f"{text} {year}".strip()


def prompt(instruction: str) -> str:
    """The model's form of an instruction; texts that are searched for have none."""
    return f"Instruct: {instruction}\nQuery: " if instruction else ""


def load_model(device: str, revision: str) -> Any:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(
        "nvidia/NV-Embed-v2", revision=revision, trust_remote_code=True, torch_dtype=torch.float16
    )
    return model.to(device).eval()


def encoder(model: Any, instruction: str, max_length: int) -> Callable[[list[str]], np.ndarray]:
    """A function from texts to unit vectors `[b, 4096]`."""

    def encode(texts: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            made = model.encode(texts, instruction=prompt(instruction), max_length=max_length)
        return unit_rows(made.float().cpu().numpy())

    return encode


def main() -> None:
    made = parser(__doc__ or "", batch_size=8)
    made.add_argument("--modality", choices=["semantic", "metadata", "lyrics"], required=True)
    made.add_argument("--caption", action="store_true", help="add the caption to the tags")
    made.add_argument(
        "--instruction", default="", help="a task for queries; tracks need none (default)"
    )
    made.add_argument(
        "--max-length", type=int, default=2048, help="tokens, at most 32768; default: %(default)s"
    )
    made.add_argument(
        "--revision", required=True, help="commit of the Hub repository, whose code is run: read it"
    )
    args = made.parse_args()
    tracks = read_tracks(args.catalog, *COLUMNS[args.modality])
    model = load_model(args.device, args.revision)
    write_table(
        args.out,
        "vector",
        [track["track_id"] for track in tracks],
        [render(track, args.modality, caption=args.caption) for track in tracks],
        encoder(model, args.instruction, args.max_length),
        batch_size=args.batch_size,
        options={
            "model": "nvidia/NV-Embed-v2",
            "revision": args.revision,
            "instruction": args.instruction,
            "max_length": args.max_length,
        },
    )


if __name__ == "__main__":
    main()
