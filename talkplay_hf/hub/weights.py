"""Which files of a model folder are weights, and what is in them by their headers."""

from pathlib import Path

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import TensorForm, plain_name, read_object, tensor_forms

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


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
    names = tensor_forms(path)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    size = path.stat().st_size - 8 - header
    files.write_json(
        index, {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(names, WEIGHTS)}
    )
    return index


def weight_forms(folder: str | Path) -> dict[str, TensorForm]:
    """What each weight of a model folder is like, from the headers of its files.

    Args:
        folder (`str` or `Path`): The model folder, its weights in one file or in several.

    Raises:
        ArtifactError: If there are no weights, or only pickled ones; if a file is missing or not a
            whole safetensors file; or if the index names a file outside of the folder, or weights
            that are not in the files.
    """
    folder = Path(folder)
    one, index = folder / WEIGHTS, folder / INDEX
    if not index.exists():
        if one.exists():
            return tensor_forms(one)
        pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
        if pickled:
            raise ArtifactError(
                f"{folder / pickled[0]}: pickled weights are not read, since they can run code; "
                "convert them to safetensors"
            )
        raise ArtifactError(f"{folder}: has no {WEIGHTS}")
    named = read_object(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ArtifactError(f"{index}: names no weights")
    found: dict[str, TensorForm] = {}
    origin: dict[str, str] = {}
    for name in sorted({plain_name(file, index) for file in named.values()}):
        if not name.endswith(".safetensors"):
            raise ArtifactError(f"{index}: {name} is not a safetensors file; no other is read")
        forms = tensor_forms(folder / name)
        found |= forms
        origin |= dict.fromkeys(forms, name)
    other = min(named.items() ^ origin.items(), default=None)
    if other is not None or (one.exists() and set(origin.values()) != {WEIGHTS}):
        what = f"of {other[0]!r} and {other[1]}" if other else f"beside {WEIGHTS}"
        raise ArtifactError(f"{index}: does not agree with the files of weights {what}")
    return found
