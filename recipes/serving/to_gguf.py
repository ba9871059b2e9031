"""A model folder as a GGUF file for llama.cpp, with what PyPI has.

pip install gguf
python recipes/serving/to_gguf.py run/model talkplay.gguf

The converter of llama.cpp itself, `convert_hf_to_gguf.py`, is in its source repository and not on
PyPI. This is a small one for what this package makes: `LlamaForCausalLM` with the byte-level BPE of
Llama 3, SmolLM2 or `talkplay build`. Weights are written as they are in memory, in 32 or 16 bits;
`llama-quantize` of llama.cpp makes smaller files of them.

Music tokens become control tokens of the file, as they are in the tokenizer: a user's text cannot
contain them, and the server leaves them out of its text. Ask it for token ids.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.errors import InputError, TalkPlayError
from talkplay_hf.hub.files import put_in_place

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
KINDS = {"f32": 0, "f16": 1}


def pre_tokenizer(backend: Any) -> str:
    """What llama.cpp calls the way in which a tokenizer cuts text into words.

    Raises:
        InputError: If it is none of the three known ones.
    """
    parts = json.loads(backend.to_str())["pre_tokenizer"]
    steps = parts["pretokenizers"] if parts["type"] == "Sequence" else [parts]
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0]["use_regex"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and r"\p{N}{1,3}" in str(steps[0]["pattern"]):
        return "llama-bpe"
    raise InputError(f"the tokenizer cuts text by {kinds}, which this script does not know")


def rope_factors(config: Any) -> np.ndarray | None:
    """By how much Llama 3 slows down each frequency; `None` without such scaling."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        return None
    if kind != "llama3":
        raise InputError(f"rope of type {kind!r}: this script knows default and llama3")
    slowed, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    steps = np.arange(0, config.head_dim, 2) / config.head_dim
    plain = config.rope_parameters["rope_theta"] ** -steps
    return (plain / slowed.numpy()).astype(np.float32)


def write_tokens(writer: Any, tokenizer: Any, rows: int) -> None:
    """Tokens, their types, merges and the special ids; rows beyond the tokenizer are unused."""
    names = [f"[PAD{row}]" for row in range(rows)]
    kinds = [UNUSED] * rows
    for name, row in tokenizer.get_vocab().items():
        names[row], kinds[row] = name, NORMAL
    for row, token in tokenizer.added_tokens_decoder.items():
        kinds[row] = CONTROL if token.special else USER_DEFINED
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(tokenizer.backend_tokenizer))
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    # the chat template writes the first token itself
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def convert(folder: Path, out: Path, kind: str) -> int:
    """Write the file; returns how many tensors it has."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: cannot be loaded as a model ({first})") from None
    config = model.config
    if config.model_type != "llama" or config.attention_bias or config.mlp_bias:
        raise InputError(f"{folder}: a {config.model_type} model; this script knows plain llama")
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(folder.resolve().name)
    writer.add_file_type(KINDS[kind])
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    write_tokens(writer, tokenizer, config.vocab_size)
    if (factors := rope_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        stem = name.removesuffix(".weight")
        if stem == "lm_head" and config.tie_word_embeddings:
            continue
        values = weight.numpy()
        if (count := heads.get(stem.rpartition(".")[2])) is not None:
            # transformers turns halves of a head, llama.cpp pairs of neighbours
            halves = values.reshape(count, 2, -1, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        # llama.cpp wants vectors in 32 bits whatever the matrices have
        if kind == "f16" and values.ndim > 1:
            values = values.astype(np.float16)
        writer.add_tensor(f"{names.get_name(stem)}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return len(model.state_dict())


def main() -> None:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("model", type=Path, help="model folder with its tokenizer")
    made.add_argument("out", type=Path, help="GGUF file to write")
    made.add_argument("--weights", choices=KINDS, default="f16")
    args = made.parse_args()
    aside = args.out.with_name(f".{args.out.name}.aside")
    try:
        tensors = convert(args.model, aside, args.weights)
        put_in_place(aside, args.out)
    except TalkPlayError as error:
        raise SystemExit(str(error)) from None
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name}: is not installed; run `pip install gguf`") from None
    finally:
        aside.unlink(missing_ok=True)
    print(f"{args.out}: {tensors} tensors, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
