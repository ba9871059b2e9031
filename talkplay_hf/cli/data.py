"""The commands from tables to conversations: world, import, embed, tokenize, synthesize."""

import argparse

from talkplay_hf.cli.show import column_mapping, emit, progress_bars


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


def run_import(args: argparse.Namespace) -> None:
    """Make a catalog folder."""
    from talkplay_hf.catalog.importer import import_table

    report = import_table(
        args.source,
        args.out,
        playlists=args.playlists,
        columns=column_mapping(args.column),
        encoding=args.encoding,
    )
    emit(report.to_dict(), report.summary(), args.json)


def run_embed(args: argparse.Namespace) -> None:
    """Make a features folder."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.features.embed import embed

    made = embed(
        Catalog.load(args.catalog), args.out, dim=args.dim, seed=args.seed, progress=progress_bars()
    )
    facts = {
        name: {"dimensions": m.vectors.shape[1], "present": int(m.present.sum())}
        for name, m in made.items()
    }
    lines = [
        f"{name}: {v['present']:,} tracks, {v['dimensions']} dimensions"
        for name, v in facts.items()
    ]
    emit(facts, "\n".join(lines), args.json)


def run_tokenize(args: argparse.Namespace) -> None:
    """Make a tokenizer folder."""
    from talkplay_hf.build import health_line, make_tokenizer
    from talkplay_hf.catalog.schema import Catalog

    report = make_tokenizer(
        Catalog.load(args.catalog),
        args.features,
        args.out,
        base=args.base,
        conversations=args.conversations,
        codes=args.codes,
        missing=args.missing,
        seed=args.seed,
        progress=progress_bars(),
    )
    emit(report, health_line(report), args.json)


def run_synthesize(args: argparse.Namespace) -> None:
    """Make a conversations folder."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.conversations.dataset import save_conversations
    from talkplay_hf.conversations.simulator import simulate

    catalog = Catalog.load(args.catalog)
    made = simulate(
        catalog,
        count=args.count,
        title_share=args.title_share,
        seed=args.seed,
        progress=progress_bars(),
    )
    save_conversations(
        args.out,
        made,
        {"catalog": catalog.fingerprint},
        simulator={"count": args.count, "seed": args.seed, "title_share": args.title_share},
    )
    turns = sum(message.role == "music" for one in made for message in one.messages)
    facts = {"conversations": len(made), "turns": turns}
    emit(facts, f"{len(made):,} conversations, {turns:,} turns", args.json)
