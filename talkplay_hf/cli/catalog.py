"""The commands about catalogs: world, import, stats, annotate."""

import argparse
from pathlib import Path
from typing import Any, Protocol

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import column_mapping, emit, progress_bars
from talkplay_hf.errors import InputError, TalkPlayError

# argument -> field of `SplitOptions`
SPLIT_FLAGS = {
    "split": "method",
    "test": "test",
    "validation": "validation",
    "near_duplicates": "near_duplicates",
    "split_seed": "seed",
}


def add_commands(commands: take.Commands) -> None:
    """Add these commands."""
    sub = commands.add(
        "world",
        run_world,
        "Write the demo world: a fictional, freely licensed catalogue with sound.",
        "talkplay world demo/world --tracks 300",
    )
    sub.add_argument("out", help="catalog folder to make")
    sub.add_argument("--tracks", type=int, default=300, help="number of tracks (default 300)")
    sub.add_argument("--no-audio", dest="audio", action="store_false", help="render no clips")
    take.seed_flag(sub)
    take.json_flag(sub)

    sub = commands.add(
        "import",
        run_import,
        "Make a catalog folder from a table, the Million Playlist Dataset, or audio files.",
        "talkplay import songs.csv catalog --column title=song_name --join lyrics.parquet",
    )
    sub.add_argument(
        "source",
        help="CSV or Parquet with a row per track or per (track, playlist); a folder of "
        "mpd.slice.*.json, or a challenge_set.json; a folder of audio files; or a catalog folder "
        "to add --join and --audio-dir to",
    )
    sub.add_argument("out", help="catalog folder to make")
    take.table_flags(sub)
    sub.add_argument(
        "--join",
        action="append",
        default=[],
        metavar="TABLE",
        help="table of more columns, by track id or title and artist; may be repeated",
    )
    sub.add_argument(
        "--join-column",
        action="append",
        metavar="NAME=COLUMN",
        help="the same as --column, for joined tables",
    )
    sub.add_argument("--audio-dir", help="folder of audio files, named by track id or by title")
    sub.add_argument(
        "--license", metavar="TEXT", help="licence of the tracks that have none, such as cc-by-4.0"
    )
    split_flags(sub)
    sub.add_argument("--workers", type=take.COUNT, help="processes that read slices (default all)")
    take.on_error_flag(sub)
    take.json_flag(sub)

    sub = commands.add(
        "stats",
        run_stats,
        "Print the paper's Table 1 for a catalog, beside the paper's values.",
        "talkplay stats catalog --conversations conversations",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("--conversations", help="conversations folder, for the second half")
    sub.add_argument("--markdown", action="store_true", help="print a Markdown table")
    take.json_flag(sub)

    sub = commands.add(
        "annotate",
        run_annotate,
        "Listen to the audio files of a catalog: lyrics, captions, tempo and key.",
        "talkplay annotate catalog heard.parquet --lyrics openai/whisper-large-v3 --rhythm",
    )
    sub.add_argument("catalog", help="catalog folder with audio files")
    sub.add_argument("out", help="Parquet table to write, for `talkplay import --join`")
    sub.add_argument("--lyrics", metavar="MODEL", help="Whisper model, Hub id or folder")
    sub.add_argument("--captions", metavar="MODEL", help="audio-captioning model, Hub id or folder")
    sub.add_argument("--prompt", help="what a captioning model that chats is asked")
    sub.add_argument("--rhythm", action="store_true", help="estimate tempo and key")
    sub.add_argument("--batch-size", type=take.COUNT, default=16, help="chunks at once (16)")
    sub.add_argument("--device", help="where models run (default: a GPU, else the CPU)")
    take.on_error_flag(sub)
    take.json_flag(sub)


def split_flags(sub: argparse.ArgumentParser) -> None:
    """Add how playlists are split."""
    sub.add_argument(
        "--split",
        choices=("auto", "chronological", "random"),
        help="by date, at random, or as fits (default auto)",
    )
    sub.add_argument(
        "--test", type=take.count_or_share, metavar="N", help="test playlists, or their share"
    )
    sub.add_argument(
        "--validation", type=take.count_or_share, metavar="N", help="the same for validation"
    )
    sub.add_argument(
        "--near-duplicates",
        choices=("exclude", "keep"),
        help="near-duplicates of held-out playlists: out of training (default exclude), or kept as "
        "in the paper",
    )
    sub.add_argument("--split-seed", type=take.SEED, help="seed of the split (default 0)")


def run_world(args: argparse.Namespace) -> None:
    """Write the demo world."""
    from talkplay_hf.catalog.world import make_world

    catalog = make_world(
        args.out, tracks=args.tracks, seed=args.seed, audio=args.audio, progress=progress_bars()
    )
    facts = {"tracks": len(catalog), "playlists": catalog.playlists.num_rows, "audio": args.audio}
    emit(
        facts,
        f"{args.out}: a fictional catalogue of {facts['tracks']:,} tracks and "
        f"{facts['playlists']:,} playlists",
        args.json,
    )


class _Report(Protocol):
    def to_dict(self) -> dict[str, Any]: ...

    def summary(self) -> str: ...


def run_import(args: argparse.Namespace) -> None:
    """Make a catalog folder, or make one more of it."""
    from talkplay_hf.catalog.audio_folder import is_audio_folder
    from talkplay_hf.catalog.mpd import is_mpd
    from talkplay_hf.catalog.splits import SplitOptions
    from talkplay_hf.hub import files

    said = {name: getattr(args, flag) for flag, name in SPLIT_FLAGS.items()}
    split = SplitOptions(**{name: value for name, value in said.items() if value is not None})
    if not args.join:
        _refuse(args, "an import without --join", "join_column")
    source = Path(args.source)
    if source.is_dir() and files.folder_kind(source) == "catalog":
        _refuse(args, "a catalog folder", "playlists", "column", "workers", *SPLIT_FLAGS)
        if not (args.join or args.audio_dir or args.license):
            raise InputError(
                f"{source}: is a catalog folder; say what to --join, --audio-dir or --license"
            )
        reports = _enrich(args, source)
    elif is_mpd(source):
        _refuse(args, "the Million Playlist Dataset", "playlists", "column")
        reports = _import_mpd(args, split)
    elif is_audio_folder(source):
        _refuse(args, "a folder of audio files", "playlists", "column", "audio_dir", "workers")
        reports = [_import_audio(args, split)]
    else:
        _refuse(args, "a table", "workers")
        reports = [_import_table(args, split)]
    if not reports:  # nothing but a licence
        emit({"license": args.license}, f"{args.out}: licence {args.license}", args.json)
        return
    value = reports[0].to_dict()
    if len(reports) > 1:
        value["enriched"] = [report.to_dict() for report in reports[1:]]
    emit(value, "\n".join(report.summary() for report in reports), args.json)


def _refuse(args: argparse.Namespace, what: str, *names: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}: is not for {what}; leave it out")


def _import_table(args: argparse.Namespace, split: Any) -> _Report:
    from talkplay_hf.catalog.importer import import_table

    return import_table(
        args.source,
        args.out,
        playlists=args.playlists,
        columns=column_mapping(args.column),
        encoding=args.encoding,
        join=args.join,
        join_columns=column_mapping(args.join_column, "--join-column"),
        audio_dir=args.audio_dir,
        split=split,
        license=args.license,
        on_error=args.on_error,
    )


def _import_audio(args: argparse.Namespace, split: Any) -> _Report:
    from talkplay_hf.catalog.audio_folder import import_audio_folder

    return import_audio_folder(
        args.source,
        args.out,
        join=args.join,
        join_columns=column_mapping(args.join_column, "--join-column"),
        encoding=args.encoding,
        split=split,
        license=args.license,
        on_error=args.on_error,
    )


def _import_mpd(args: argparse.Namespace, split: Any) -> list[_Report]:
    from talkplay_hf.catalog.enrich import check_sources
    from talkplay_hf.catalog.mpd_import import import_mpd

    column_mapping(args.join_column, "--join-column")
    check_sources(args.out, join=args.join, audio_dir=args.audio_dir)
    report = import_mpd(
        args.source,
        args.out,
        split=split,
        license=args.license,
        workers=args.workers,
        on_error=args.on_error,
        progress=progress_bars(),
    )
    if not (args.join or args.audio_dir):
        return [report]
    try:
        return [report, *_enrich(args, Path(args.out))]
    except TalkPlayError as error:
        raise InputError(
            f"{error}; {args.out} is complete but for --join and --audio-dir: to bring them to it, "
            f"talkplay import {args.out} {args.out}"
        ) from None


def _enrich(args: argparse.Namespace, folder: Path) -> list[_Report]:
    from talkplay_hf.catalog.enrich import enrich_folder

    return [
        *enrich_folder(
            folder,
            args.out,
            join=args.join,
            audio_dir=args.audio_dir,
            columns=column_mapping(args.join_column, "--join-column"),
            encoding=args.encoding,
            license=args.license,
            on_error=args.on_error,
        )
    ]


def run_stats(args: argparse.Namespace) -> None:
    """Print Table 1."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.catalog.statistics import table_1
    from talkplay_hf.conversations.dataset import load_conversations

    conversations = None if args.conversations is None else load_conversations(args.conversations)
    table = table_1(Catalog.load(args.catalog), conversations)
    emit(table.to_dict(), table.to_markdown() if args.markdown else table.to_text(), args.json)


def run_annotate(args: argparse.Namespace) -> None:
    """Write what is heard in a catalog's audio files."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.features.annotate import annotate
    from talkplay_hf.features.caption import Captioner
    from talkplay_hf.features.transcribe import Transcriber

    if args.prompt and not args.captions:
        raise InputError("--prompt: goes with --captions MODEL; leave it out, or name a model")
    captioner = None
    if args.captions:
        captioner = Captioner(args.captions, **({"prompt": args.prompt} if args.prompt else {}))
    made = annotate(
        Catalog.load(args.catalog),
        args.out,
        lyrics=Transcriber(args.lyrics, batch_size=args.batch_size) if args.lyrics else None,
        caption=captioner,
        rhythm=args.rhythm,
        device=args.device,
        on_error=args.on_error,
        progress=progress_bars(),
    )
    failed = [[one.track_id, one.reason] for one in made.failures]
    facts = {"tracks": made.tracks, "without_audio": made.without_audio, "failures": failed}
    text = f"{made.path}: {made.tracks:,} tracks; without audio {made.without_audio:,}"
    if failed:
        text += f"; failed {len(failed):,}, the first: {failed[0][0]}: {failed[0][1]}"
    emit(facts, text, args.json)
