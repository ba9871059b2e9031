"""Tiny models of random weights, saved to folders, of the classes that the real ones have."""

from pathlib import Path

import torch
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    GenerationConfig,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    Qwen2TokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

WHISPER_TOKENS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>",
    "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def byte_vocabulary() -> dict[str, int]:
    return {sign: number for number, sign in enumerate(bytes_to_unicode().values())}


def save_clap(folder: Path, *, fusion: bool = False) -> Path:
    torch.manual_seed(0)
    audio = {
        "hidden_size": 32, "patch_embeds_hidden_size": 4, "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 1, 1], "projection_dim": 16, "mlp_ratio": 1.0,
        "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None, "aff_block_r": 1,
    }  # fmt: skip
    text = {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8, "vocab_size": 10, "projection_dim": 16,
    }  # fmt: skip
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16)).save_pretrained(
        folder
    )
    ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc").save_pretrained(folder)
    return folder


def save_whisper(
    folder: Path, *, says: str = "", speech: bool = True, german: bool = False
) -> Path:
    """A Whisper whose decoder says a fixed text, whatever it hears, and then stops.

    Its output layer looks at the position alone: the positions are one-hot, the rest is zero.
    """
    tokenizer = WhisperTokenizer(vocab=byte_vocabulary(), merges=[])
    tokenizer.add_tokens(list(WHISPER_TOKENS), special_tokens=True)
    ids = dict(
        zip(WHISPER_TOKENS, tokenizer.convert_tokens_to_ids(list(WHISPER_TOKENS)), strict=True)
    )
    end = ids["<|endoftext|>"]
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.bos_token = "<|endoftext|>"
    spoken = [*tokenizer(says, add_special_tokens=False).input_ids, end]
    width = len(spoken) + 4
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=width + width % 2,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=1,
            decoder_attention_heads=1,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
            max_target_positions=len(spoken) + 8,
            num_mel_bins=80,
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            decoder_start_token_id=ids["<|startoftranscript|>"],
            tie_word_embeddings=False,
            begin_suppress_tokens=None,
            suppress_tokens=None,
        )
    )
    with torch.no_grad():
        decoder = model.model.decoder
        decoder.embed_tokens.weight.zero_()
        torch.nn.init.eye_(decoder.embed_positions.weight)
        for block in decoder.layers:
            for name, part in block.named_parameters():
                if "layer_norm" not in name:
                    part.zero_()
        head = model.proj_out.weight
        head.zero_()
        head[ids["<|de|>" if german else "<|en|>"], 0] = 1.0
        head[ids["<|nospeech|>"], 0] = -1.0 if speech else 9.0
        for offset, token in enumerate(spoken):  # the prompt fills four positions
            head[token, 3 + offset] = 1.0
    model.generation_config = GenerationConfig(
        decoder_start_token_id=ids["<|startoftranscript|>"], eos_token_id=end, pad_token_id=end,
        bos_token_id=end, is_multilingual=True, no_timestamps_token_id=ids["<|notimestamps|>"],
        lang_to_id={"<|en|>": ids["<|en|>"], "<|de|>": ids["<|de|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        max_length=len(spoken) + 8, return_timestamps=False,
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def save_qwen_audio(folder: Path) -> Path:
    """A chat model of sound of the Qwen2-Audio class."""
    tokenizer = Qwen2TokenizerFast(vocab=byte_vocabulary(), merges=[])
    tokenizer.add_tokens(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>",
         "<|audio_eos|>"],
        special_tokens=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(
        Qwen2AudioConfig(
            audio_config=Qwen2AudioEncoderConfig(
                num_mel_bins=128, d_model=16, encoder_layers=1, encoder_attention_heads=1,
                encoder_ffn_dim=16,
            ),
            text_config=Qwen2Config(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16,
                num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
            ),
            audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=128), tokenizer).save_pretrained(
        folder
    )
    return folder
