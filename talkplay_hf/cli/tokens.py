"""The commands from a catalog to its tokens, and on finished ones: embed, tokenize, rebase,
remove."""

import argparse
from pathlib import Path
from typing import Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import emit, pairs, progress_bars
from talkplay_hf.errors import InputError

REMOVE = """\
Take tracks out of a catalog, conversations, tokenizer or model folder. Weights stay as they are:
those that were trained on conversations which name a track still know its name. What was pushed to
the Hub before stays in the history of the repository until that is squashed
(HfApi.super_squash_history)."""
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
        "Fit codebooks and grow a tokenizer by music tokens, or use finished codebooks.",
        "talkplay tokenize catalog features tokenizer --conversations conversations",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("features", help="features folder")
    sub.add_argument("out", help="tokenizer (or, with --add, model) folder to make")
    finished = sub.add_mutually_exclusive_group()
    finished.add_argument(
        "--add",
        metavar="FOLDER",
        help="a tokenizer or model folder: add the catalog's tracks to it, with codes of its "
        "codebooks; tracks that are there already take the new metadata and keep their codes",
    )
    finished.add_argument(
        "--codebooks",
        metavar="FOLDER",
        help="a tokenizer or model folder: give the catalog's tracks codes of its codebooks, in a "
        "tokenizer folder of their own; its model can then be used with this catalogue",
    )
    sub.add_argument(
        "--recode",
        action="store_true",
        help="with --add, give tracks that are there already new codes too, from their new vectors",
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
    _add_finished_commands(commands)


def _add_finished_commands(commands: take.Commands) -> None:
    """Add the commands that change finished folders."""
    sub = commands.add(
        "rebase",
        run_rebase,
        "Put the codebooks and the catalogue of a tokenizer on another base model's tokenizer.",
        "talkplay rebase tokenizer qwen-tokenizer --base Qwen/Qwen2.5-0.5B-Instruct",
    )
    sub.add_argument("tokenizer", help="tokenizer (or model) folder")
    sub.add_argument("out", help="tokenizer folder to make")
    sub.add_argument("--base", required=True, metavar="MODEL", help="the new base model")
    take.json_flag(sub)

    sub = commands.add(
        "remove",
        run_remove,
        "Take tracks out of a catalog, conversations, tokenizer or model folder.",
        "talkplay remove model model --track demo-0000007 --tracks-file more-ids.txt",
    )
    sub.description = REMOVE
    sub.add_argument("folder", help="catalog, conversations, tokenizer or model folder")
    sub.add_argument("out", help="folder to make; may be the same folder")
    sub.add_argument(
        "--track", action="append", default=[], metavar="ID", help="a track id; may be repeated"
    )
    sub.add_argument("--tracks-file", metavar="FILE", help="a text file with one track id a line")
    sub.add_argument(
        "--missing-ok", action="store_true", help="pass over ids that the folder does not have"
    )
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
    from talkplay_hf.hub.files import read_yaml

    return read_yaml(path, "encoders by modality, such as `audio: librosa`")


def run_tokenize(args: argparse.Namespace) -> None:
    """Make a tokenizer folder, or add tracks to one."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.tokenizing import encode_tokenizer, extend_tokenizer, make_tokenizer
    from talkplay_hf.tokens.health import check_plot, health_text, plot_health

    if args.plot is not None:
        check_plot(args.plot)
    if args.recode and args.add is None:
        raise InputError("--recode: only goes with --add")
    _refuse_fitting(args)
    catalog = Catalog.load(args.catalog)
    text = ""
    if args.add is not None:
        value = extend_tokenizer(
            catalog,
            args.features,
            args.add,
            args.out,
            recode=args.recode,
            progress=progress_bars(),
        )
        report = value["health"]
        text = f"added {value['added']:,} tracks, updated {value['updated']:,}\n"
    elif args.codebooks is not None:
        report = value = encode_tokenizer(
            catalog, args.features, args.codebooks, args.out, progress=progress_bars()
        )
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
    if args.plot is not None:
        plot_health(report, args.plot)
    emit(value, text + health_text(report), args.json)


def _refuse_fitting(args: argparse.Namespace) -> None:
    """Refuse what only the fitting of codebooks takes where finished ones are used."""
    from talkplay_hf.tokens.config import DEFAULT_MISSING

    option = "--add" if args.add is not None else "--codebooks"
    if args.add is None and args.codebooks is None:
        return
    fitting: dict[str, Any] = {"base": BASE, "base_vocabulary": BASE_VOCABULARY}
    fitting |= {"conversations": None, "codes": CODES, "seed": 0, "missing": DEFAULT_MISSING}
    for name, default in fitting.items():
        if getattr(args, name) != default:
            raise InputError(f"{option} fits nothing again; leave out --{name.replace('_', '-')}")


def run_rebase(args: argparse.Namespace) -> None:
    """Put finished codebooks on another base model's tokenizer."""
    from talkplay_hf.tokens.rebase import rebase_tokenizer

    config = rebase_tokenizer(args.tokenizer, args.base, args.out)
    facts = {"base": config.base, "base_vocab_size": config.base_vocab_size}
    facts["music_tokens"] = len(config.music_tokens)
    emit(
        facts,
        f"{facts['music_tokens']:,} music tokens after the {facts['base_vocab_size']:,} tokens of "
        f"{config.base}",
        args.json,
    )


def run_remove(args: argparse.Namespace) -> None:
    """Take tracks out of a folder of any kind."""
    from talkplay_hf.hub import files

    if not args.track and args.tracks_file is None:
        raise InputError("name tracks with --track or --tracks-file")
    ids = [*args.track, *(_read_ids(args.tracks_file) if args.tracks_file else ())]
    folder = Path(args.folder)
    kind = files.folder_kind(folder) if folder.is_dir() else None
    if kind in ("tokenizer", "model"):
        from talkplay_hf.tokens.takedown import remove_tracks as remove
    elif kind == "catalog":
        from talkplay_hf.catalog.takedown import remove_from_catalog as remove
    elif kind == "conversations":
        from talkplay_hf.conversations.takedown import remove_from_conversations as remove
    elif kind == "features":
        raise InputError(
            f"{folder}: features follow their catalog; run `talkplay remove` on the catalog and "
            "`talkplay embed` again"
        )
    else:
        raise InputError(f"{folder}: is not a catalog, conversations, tokenizer or model folder")
    counts = remove(folder, ids, args.out, missing_ok=args.missing_ok)
    emit({"kind": kind, **counts}, _removed(kind, counts), args.json)


def _read_ids(path: str) -> list[str]:
    """The track ids of a text file, one a line."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; write one track id a line") from None
    return [line.strip() for line in lines if line.strip()]


def _removed(kind: str, counts: dict[str, Any]) -> str:
    """The counts of a takedown, for a person."""
    lines = [f"removed {counts['removed']:,} tracks, {counts['left']:,} left"]
    if kind == "conversations":
        splits = counts["conversations"]
        each = ", ".join(f"{name} {number:,}" for name, number in splits.items())
        lines = [
            f"removed {sum(splits.values()):,} conversations{f' ({each})' if each else ''} about "
            f"{counts['removed']:,} tracks, {counts['left']:,} left"
        ]
    for name, what in (
        ("places", "places in playlists"),
        ("playlists", "playlists that had no track left"),
        ("clips", "audio clips"),
        ("rejects", "rejected rows"),
        ("examples", "example requests"),
        ("quarantined", "refused answers"),
    ):
        if counts.get(name):
            lines.append(f"also removed: {counts[name]:,} {what}")
    if counts["unknown"]:
        lines.append(f"unknown ids: {counts['unknown']:,}")
    if counts.get("mentions"):
        lines.append(f"look into these, they still name one: {', '.join(counts['mentions'])}")
    return "\n".join(lines)
