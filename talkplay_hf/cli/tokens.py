"""The commands from a catalog to its tokens: embed, tokenize."""

import argparse
from pathlib import Path
from typing import Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import emit, pairs, progress_bars
from talkplay_hf.errors import ConfigError, InputError

BASE, CODES, BASE_VOCABULARY = "scratch", 1024, 1200


def add_commands(commands: take.Commands) -> None:
    """Add these commands."""
    sub = commands.add(
        "embed",
        run_embed,
        "Compute one vector per track and modality.",
        "talkplay embed catalog features --encoder playlist=item2vec --vectors audio=mfm.parquet",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("out", help="features folder to make")
    sub.add_argument("--config", help="YAML file: an encoder with its options by modality")
    sub.add_argument(
        "--encoder",
        action="append",
        metavar="MODALITY=NAME",
        help="the encoder of a modality, with its default options; may be repeated",
    )
    sub.add_argument(
        "--vectors",
        action="append",
        metavar="MODALITY=FILE",
        help="vectors made elsewhere (Parquet, safetensors, npy, npz); may be repeated",
    )
    sub.add_argument("--like", metavar="FEATURES", help="use the fitted encoders of that folder")
    sub.add_argument("--dim", type=take.COUNT, default=128, help="dimensions at most (default 128)")
    sub.add_argument("--device", help="where models run (default: a GPU, else the CPU)")
    take.on_error_flag(sub)
    take.seed_flag(sub)
    take.json_flag(sub)

    sub = commands.add(
        "tokenize",
        run_tokenize,
        "Fit codebooks and grow a tokenizer by music tokens, or add tracks to finished ones.",
        "talkplay tokenize catalog features tokenizer --conversations conversations",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("features", help="features folder")
    sub.add_argument("out", help="tokenizer (or, with --add, model) folder to make")
    sub.add_argument(
        "--add",
        metavar="FOLDER",
        help="a tokenizer or model folder: give the catalog's tracks codes of its codebooks",
    )
    sub.add_argument(
        "--base", default=BASE, help="base model to grow (default: a small one from scratch)"
    )
    sub.add_argument(
        "--conversations", help="conversations whose text a tokenizer from scratch learns"
    )
    sub.add_argument(
        "--base-vocabulary",
        type=take.COUNT,
        default=BASE_VOCABULARY,
        help=f"tokens of a tokenizer from scratch at most (default {BASE_VOCABULARY})",
    )
    sub.add_argument(
        "--codes",
        type=take.COUNT,
        default=CODES,
        help=f"codes per modality at most (default {CODES})",
    )
    take.missing_flag(sub)
    sub.add_argument("--plot", metavar="PNG", help="draw the codebook health to this file")
    take.seed_flag(sub)
    take.json_flag(sub)


def run_embed(args: argparse.Namespace) -> None:
    """Make a features folder."""
    from talkplay_hf.catalog.schema import MODALITIES, Catalog
    from talkplay_hf.features.embed import embed
    from talkplay_hf.hub import files

    config = _encoder_config(args.config)
    config |= pairs(args.encoder, "--encoder", "MODALITY=NAME")
    embed(
        Catalog.load(args.catalog),
        args.out,
        config=config,
        vectors=pairs(args.vectors, "--vectors", "MODALITY=FILE"),
        like=args.like,
        dim=args.dim,
        seed=args.seed,
        device=args.device,
        on_error=args.on_error,
        progress=progress_bars(),
    )
    recorded = files.read_manifest(args.out, "features")["modalities"]
    facts = {name: recorded[name] for name in MODALITIES}
    lines = []
    for name, made in facts.items():
        failed = f", failed {made['failures']:,}" if made["failures"] else ""
        lines.append(
            f"{name}: {made['encoder']['encoder']}, {made['present']:,} tracks, "
            f"{made['dim']} dimensions{failed}"
        )
    emit(facts, "\n".join(lines), args.json)


def _encoder_config(path: str | None) -> dict[str, Any]:
    """Read the encoders by modality from a YAML file."""
    if path is None:
        return {}
    import yaml

    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: must hold encoders by modality, such as `audio: librosa`")
    return config


def run_tokenize(args: argparse.Namespace) -> None:
    """Make a tokenizer folder, or add tracks to one."""
    from talkplay_hf.build import extend_tokenizer, make_tokenizer
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.tokens.config import DEFAULT_MISSING
    from talkplay_hf.tokens.health import check_plot, health_text, plot_health

    if args.plot is not None:
        check_plot(args.plot)
    catalog = Catalog.load(args.catalog)
    if args.add is not None:
        fitting: dict[str, Any] = {"base": BASE, "base_vocabulary": BASE_VOCABULARY}
        fitting |= {"conversations": None, "codes": CODES, "seed": 0}
        for name, default in (fitting | {"missing": DEFAULT_MISSING}).items():
            if getattr(args, name) != default:
                raise InputError(f"--add fits nothing again; leave out --{name.replace('_', '-')}")
        added = extend_tokenizer(
            catalog, args.features, args.add, args.out, progress=progress_bars()
        )
        report, value = added["health"], added
        text = f"added {added['added']:,} tracks, updated {added['updated']:,}\n"
    else:
        report = value = make_tokenizer(
            catalog,
            args.features,
            args.out,
            base=args.base,
            base_vocabulary=args.base_vocabulary,
            conversations=args.conversations,
            codes=args.codes,
            missing=args.missing,
            seed=args.seed,
            progress=progress_bars(),
        )
        text = ""
    if args.plot is not None:
        plot_health(report, args.plot)
    emit(value, text + health_text(report), args.json)
