"""Which files of a model folder are weights, for engines that take all safetensors for weights."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def write_weight_index(folder: str | Path) -> Path:
    """Write `model.safetensors.index.json` to a model folder with one weight file.

    vLLM and engines after it load every `*.safetensors` of a folder, and stop at the codebooks:
    "no module or parameter named 'audio'". With an index they load what it names. transformers
    writes one only where weights are in several files, and does not read it where they are in one.

    Args:
        folder (`str` or `Path`): The model folder.

    Returns:
        `Path`: The index. One that was there already, of weights in several files, is left alone.

    Raises:
        ArtifactError: If the folder has no weights that can be read.
    """
    path, index = Path(folder) / WEIGHTS, Path(folder) / INDEX
    if index.exists() and not path.exists():
        return index
    try:
        with safe_open(path, framework="numpy") as weights:
            names = list(weights.keys())
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size - 8 - header
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot be read as weights ({error})") from None
    files.write_json(
        index, {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(names, WEIGHTS)}
    )
    return index
