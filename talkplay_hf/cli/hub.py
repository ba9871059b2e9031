"""The commands about repositories on the Hub: push, pull, space."""

import argparse
import sys
from typing import Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import emit


def add_commands(commands: take.Commands) -> None:
    """Add these commands."""
    sub = commands.add(
        "push",
        run_push,
        "Push a model, tokenizer, catalog, conversations or features folder to the Hub.",
        "talkplay push my_recommender/model me/my-recommender --private",
    )
    sub.add_argument("folder", help="the folder; its kind decides which kind of repo it becomes")
    sub.add_argument("repo", help="repo id on the Hub, such as me/my-recommender")
    sub.add_argument("--private", action="store_true", help="make a new repo private")
    sub.add_argument("--revision", help="branch to push to (default: main)")
    sub.add_argument("--create-pr", action="store_true", help="open a pull request")
    sub.add_argument("--message", help="message of the commit")
    sub.add_argument("--license", help="licence for the card, such as cc-by-4.0")
    sub.add_argument("--title", help="title of the card (default: the name of the repo)")
    sub.add_argument(
        "--audio", action="store_true", help="of a catalog: push the clips too, as an Audio column"
    )
    sub.add_argument(
        "--overwrite-card", action="store_true", help="replace a card that was edited on the Hub"
    )
    take.json_flag(sub)

    sub = commands.add(
        "pull",
        run_pull,
        "Fetch a repo from the Hub into a folder: what is needed, checked by its hashes.",
        "talkplay pull me/my-recommender my_recommender/model",
    )
    sub.add_argument("repo", help="repo id on the Hub; datasets/me/name for a dataset of that name")
    sub.add_argument("out", help="folder to make")
    sub.add_argument("--revision", help="branch, tag or commit (default: main)")
    sub.add_argument("--cache-dir", help="cache folder of the Hub's client")
    sub.add_argument("--offline", action="store_true", help="take what the cache has")
    sub.add_argument("--audio", action="store_true", help="of a catalog: fetch the clips too")
    sub.add_argument(
        "--without-weights", action="store_true", help="of a model: its tokenizer and catalogue"
    )
    take.json_flag(sub)

    sub = commands.add(
        "space",
        run_space,
        "Write a Space: the chat page with a model, as a folder that can be pushed as it is.",
        "talkplay space my_recommender/model my_space --push me/my-space",
    )
    sub.add_argument(
        "models",
        nargs="+",
        metavar="model",
        help="model folder, which is copied in, or Hub id; or several to choose from",
    )
    sub.add_argument("out", help="folder to write")
    served_flags(sub)
    sub.add_argument("--title", default="TalkPlay", help="title of the Space (default TalkPlay)")
    sub.add_argument(
        "--hardware",
        default="cpu-basic",
        choices=("cpu-basic", "zero-a10g"),
        help="what it is to run on; zero-a10g is ZeroGPU (default cpu-basic)",
    )
    sub.add_argument("--push", metavar="REPO", help="push it to this Space, such as me/my-space")
    sub.add_argument("--private", action="store_true", help="make a new Space private")
    take.json_flag(sub)


def served_flags(sub: argparse.ArgumentParser) -> None:
    """What a page serves beside its models."""
    sub.add_argument(
        "--catalog",
        action="append",
        default=[],
        help="another catalogue to choose from, with the codebooks of a model: tokenizer or model "
        "folder, or Hub id; can be repeated",
    )
    sub.add_argument(
        "--audio",
        action="append",
        default=[],
        help="where the clips are: catalog folder, or datasets/owner/name on the Hub ; repeated, "
        "it is for each model and then each catalogue in turn",
    )


def run_push(args: argparse.Namespace) -> None:
    """Push a folder."""
    from talkplay_hf.repos import push

    pushed = push(
        args.folder,
        args.repo,
        private=args.private or None,
        revision=args.revision,
        create_pr=args.create_pr,
        commit_message=args.message,
        license=args.license,
        title=args.title,
        audio=args.audio,
        overwrite_card=args.overwrite_card,
    )
    for warning in pushed.warnings:
        print(f"talkplay push: {warning}", file=sys.stderr)
    facts: dict[str, Any] = {
        "url": pushed.url,
        "commit": pushed.commit,
        "pr_url": pushed.pr_url,
        "kept_card": pushed.kept_card,
    }
    lines = [pushed.pr_url or f"{pushed.url} ({pushed.commit[:12]})"]
    if pushed.kept_card:
        lines.append("README.md of the Hub was edited and is kept; --overwrite-card replaces it")
    emit(facts, "\n".join(lines), args.json)


def run_pull(args: argparse.Namespace) -> None:
    """Fetch a repo."""
    from talkplay_hf.hub.files import folder_kind
    from talkplay_hf.repos import pull

    out = pull(
        args.repo,
        args.out,
        revision=args.revision,
        cache_dir=args.cache_dir,
        local_files_only=args.offline,
        audio=args.audio,
        weights=not args.without_weights,
    )
    kind = folder_kind(out)
    emit({"folder": str(out), "kind": kind}, f"{out}: a {kind} folder", args.json)


def run_space(args: argparse.Namespace) -> None:
    """Write a Space, and push it."""
    from talkplay_hf.hub.faults import check_repo_id
    from talkplay_hf.hub.space import push_space, write_space

    if args.push:
        check_repo_id(args.push)
    out = write_space(
        args.models,
        args.out,
        catalogs=args.catalog,
        audio=args.audio,
        title=args.title,
        hardware=args.hardware,
    )
    facts: dict[str, Any] = {"folder": str(out), "url": None, "commit": None}
    lines = [f"{out}: a Space. Try it: python {out / 'app.py'}"]
    if args.push:
        pushed = push_space(out, args.push, private=args.private or None)
        facts |= {"url": pushed.url, "commit": pushed.commit}
        lines.append(f"{pushed.url} ({pushed.commit[:12]})")
        if pushed.kept_card:
            lines.append("README.md of the Hub was edited and is kept")
    emit(facts, "\n".join(lines), args.json)
