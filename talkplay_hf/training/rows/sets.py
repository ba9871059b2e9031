"""Training sets: rows are written once to an Arrow file that every process maps (paper 4.3)."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from trl import SFTConfig

from talkplay_hf import __version__
from talkplay_hf.catalog.leakage import check_conversations
from talkplay_hf.catalog.schema import PLAYLISTS, TRACKS, Catalog, Conversation
from talkplay_hf.conversations.dataset import iter_conversations
from talkplay_hf.errors import ArtifactError, ConfigError, InputError, LeakageError, first_line
from talkplay_hf.hub import files, shards
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.arguments import TalkPlayArguments
from talkplay_hf.training.rows.encode import (
    PARTS,
    Codes,
    Row,
    RowReport,
    draw_continuations,
    encode_conversations,
    known_playlists,
    most_tracks,
)
from talkplay_hf.training.rows.packing import pack

SPLITS = ("train", "validation")
# Label tokens of the playlists to validate on, at most: enough for a steady mean.
VALIDATION_LABELS = 100_000
VALIDATION_SEED = 0
MAX_LENGTH = 1024
KIND = "rows"
# Rows a record batch.
CHUNK = 1000
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("part", pa.list_(pa.int8())),
    ]
)

Progress = Callable[[str, int, int], None]


def load_datasets(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    tokenizer: TalkPlayTokenizer,
    progress: Progress | None = None,
) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Make the sets to train and to validate on, or map those that an earlier run made.

    The training set has the conversations of the split train, with the loss on replies and music
    tokens, and continuations of training playlists, so many that they hold `playlist_share` of the
    label tokens, in one seeded shuffle. The validation sets are the conversations of the split
    validation, and continuations of validation playlists with as many label tokens, at most
    `VALIDATION_LABELS`; their draw is the same whatever the seed of the run.

    Rows are kept as `rows` in `config.output_dir`, with the checkpoints. They are written by one
    process, aside and then renamed; every process maps the file. Rows that were made from the same
    inputs with the same options are used again, so that a run resumes without encoding. The other
    processes wait for `config.ddp_timeout` seconds at most.

    Args:
        arguments (`TalkPlayArguments`): The folders and the mix.
        config (`SFTConfig`): TRL's arguments: `max_length`, `packing`, `eval_packing`, `seed`.
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `tuple[dict[str, Dataset], dict[str, Any]]`: The sets `train` and, with validation data,
        `conversations` and `playlists`, with the columns `input_ids` and `labels` (int32),
        `part` (int8, 0 for a conversation and 1 for a playlist, one a token), and `seq_lengths`
        when packed; and what is in them, for a report.

    Raises:
        ArtifactError: If a folder is missing or damaged, or the rows cannot be written.
        ConfigError: If there is nothing to train on, or no playlist to continue.
        InputError: If conversations play tracks that the tokenizer does not know, one has nothing
            to learn from, or `max_length` is too small.
        LeakageError: If a conversation is of a held-out playlist, or plays a cold track.
    """
    out = Path(config.output_dir) / KIND
    # the main process first, then the main process of each node that does not see its files
    with config.main_process_first(local=False), config.main_process_first(local=True):
        plan = _plan(arguments, config, tokenizer)
        fingerprint = files.sha256_json(plan)
        files.clear_leftovers(out)
        if not _is_made(out, fingerprint):
            _make(out, plan, arguments, tokenizer, progress)
    try:
        sets = _open(out, config.seed)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ArtifactError(f"{out}: is damaged ({first_line(error)}); delete it") from None
    languages = files.read_manifest(arguments.conversations, "conversations").get("languages")
    facts = {"fingerprint": fingerprint, "languages": sorted(languages or ())}
    return sets, facts | files.read_manifest(out, KIND)["facts"]


def rows_folder(model: str | Path) -> Path:
    """Where the rows of a model folder are kept: beside it, with its checkpoints."""
    out = Path(model)
    return out.parent / f"{out.name}-checkpoints" / KIND


def _plan(
    arguments: TalkPlayArguments, config: SFTConfig, tokenizer: TalkPlayTokenizer
) -> dict[str, Any]:
    """All that decides what is in the rows."""
    conversations, catalog = Path(arguments.conversations), Path(arguments.catalog)
    found = files.read_manifest(conversations, "conversations").get("splits") or {}
    if not found.get("train"):
        raise ConfigError(f"{conversations}: has no conversations of the split train")
    files.read_manifest(catalog, "catalog")
    tables = [(conversations, name) for name in SPLITS if name in found]
    tables += [(catalog, TRACKS), (catalog, PLAYLISTS)]
    paths = [path for folder, name in tables for path in shards.table_paths(folder, name)]
    paths.append(tokenizer.side_file("token_catalog_file"))
    try:
        hashes = [files.sha256_file(path) for path in paths]
    except OSError as error:
        raise ArtifactError(f"{error.filename}: cannot be read ({error.strerror})") from None
    backend = tokenizer.backend_tokenizer
    # not part of what the tokenizer is, only of how it was last called
    backend.no_padding()
    backend.no_truncation()
    return {
        "talkplay_hf": __version__,
        "files": hashes,
        "splits": [name for name in SPLITS if name in found],
        "tokenizer": files.sha256_json([backend.to_str(), tokenizer.chat_template]),
        "codebooks": tokenizer.config.codebook_hash,
        "max_length": config.max_length or MAX_LENGTH,
        "packing": [config.packing, config.eval_packing],
        "playlist_share": arguments.playlist_share,
        "train_on_negatives": arguments.train_on_negatives,
        "seed": config.seed,
    }


def _is_made(folder: Path, fingerprint: str) -> bool:
    if files.folder_kind(folder) != KIND:
        return False
    return bool(files.read_manifest(folder, KIND)["fingerprint"] == fingerprint)


def _make(
    folder: Path,
    plan: Mapping[str, Any],
    arguments: TalkPlayArguments,
    tokenizer: TalkPlayTokenizer,
    progress: Progress | None,
) -> None:
    """Check everything, then write the rows of all sets."""
    max_length, share = plan["max_length"], plan["playlist_share"]
    most_tracks(tokenizer, max_length)
    codes = _track_codes(tokenizer)
    catalog = Catalog.load(arguments.catalog)
    playlists = known_playlists(catalog, codes) if share else {}
    if share and not playlists.get("train"):
        raise ConfigError(
            f"{arguments.catalog}: has no training playlist of two tracks that the tokenizer "
            "knows, so there is none to continue; set playlist_share: 0"
        )
    _check(arguments, catalog, tokenizer, codes, progress)
    facts: dict[str, Any] = {}
    try:
        with files.staged_folder(folder, KIND) as aside:
            for split in plan["splits"]:
                encoded, drawn = RowReport(), RowReport()
                conversations = encode_conversations(
                    _read(arguments.conversations, split, "encoding conversations", progress),
                    tokenizer,
                    codes,
                    encoded,
                    max_length=max_length,
                    train_on_negatives=plan["train_on_negatives"],
                )
                _write(aside / _file(split, 0), conversations, 0)
                if split == "train" and not encoded.rows:
                    raise InputError(
                        f"max_length {max_length}: not even the last turn of any of the "
                        f"{encoded.dropped} training conversations fits; make it larger"
                    )
                continuations = draw_continuations(
                    playlists.get(split, []),
                    tokenizer,
                    codes,
                    drawn,
                    label_tokens=_wanted(split, encoded.label_tokens, share),
                    max_length=max_length,
                    seed=plan["seed"] if split == "train" else VALIDATION_SEED,
                )
                _write(aside / _file(split, 1), continuations, 1)
                facts[split] = _facts(encoded, drawn)
            if plan["packing"][0]:
                facts["packed_rows"] = _pack(aside, plan)
            files.write_manifest(aside, KIND, {}, fingerprint=files.sha256_json(plan), facts=facts)
    except OSError as error:
        raise ArtifactError(f"{folder}: the rows cannot be written ({first_line(error)})") from None
    finally:
        # nothing was written, and the folder of the checkpoints was made for it
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def _wanted(split: str, label_tokens: int, share: float) -> int:
    """Label tokens that the continuations of a split should have, beside the conversations."""
    if split == "train":
        return round(label_tokens * share / (1 - share))
    return min(label_tokens, VALIDATION_LABELS)


def _facts(conversations: RowReport, playlists: RowReport) -> dict[str, Any]:
    """What is in the rows of a split."""
    both = (conversations, playlists)
    label_tokens = sum(report.label_tokens for report in both)
    return {
        "rows": sum(report.rows for report in both),
        "tokens": sum(report.tokens for report in both),
        "label_tokens": label_tokens,
        "longest": max(report.longest for report in both),
        "playlist_share": playlists.label_tokens / max(1, label_tokens),
        **{name: asdict(report) for name, report in zip(PARTS, both, strict=True)},
    }


def _track_codes(tokenizer: TalkPlayTokenizer) -> Codes:
    """The codes of each track of the tokenizer's catalog.

    Raises:
        ArtifactError: If a code is out of range.
    """
    path = tokenizer.side_file("token_catalog_file")
    known, codes = read_token_catalog(path)
    sizes = np.array(tokenizer.config.codes)
    if codes.shape[1] != len(sizes) or ((codes < 0) | (codes >= sizes)).any():
        raise ArtifactError(
            f"{path}: has codes that the codebooks {tuple(sizes.tolist())} do not; the file is "
            "damaged or of another tokenizer"
        )
    return dict(zip(known.track_ids, codes.tolist(), strict=True))


def _check(
    arguments: TalkPlayArguments,
    catalog: Catalog,
    tokenizer: TalkPlayTokenizer,
    codes: Codes,
    progress: Progress | None,
) -> None:
    """Refuse conversations that the tokenizer cannot say, or that show what is held out."""
    unknown, music, first = 0, 0, ""

    def watched() -> Iterator[Conversation]:
        nonlocal unknown, music, first
        for split in SPLITS:
            for one in _read(arguments.conversations, split, "checking conversations", progress):
                for message in one.messages:
                    if message.role == "music":
                        music += 1
                        if message.track_id not in codes:
                            unknown += 1
                            first = first or (
                                f"{message.track_id!r} in the conversation {one.conversation_id!r}"
                            )
                yield one

    leak = None
    try:
        check_conversations(catalog, watched())
    except LeakageError as error:
        # conversations of another catalog leak as well, which is the lesser news
        leak = error
    if unknown:
        raise InputError(
            f"{arguments.conversations}: {unknown:,} of {music:,} music messages play tracks that "
            f"the tokenizer does not know, first {first}. "
            + _origins(arguments, catalog, tokenizer)
        )
    if leak is not None:
        raise leak


def _origins(arguments: TalkPlayArguments, catalog: Catalog, tokenizer: TalkPlayTokenizer) -> str:
    """Which catalogs the conversations, the tokenizer and the recipe go by."""
    manifest = files.read_manifest(arguments.conversations, "conversations")
    hashes = [
        str(origin.get("catalog", "not recorded"))[:12]
        for origin in (manifest["made_from"], tokenizer.config.made_from)
    ]
    return (
        f"The conversations were made from the catalog {hashes[0]}, the tokenizer "
        f"{arguments.tokenizer} from the catalog {hashes[1]}, and {arguments.catalog} is the "
        f"catalog {catalog.fingerprint[:12]}; make all from one catalog, or add its tracks to the "
        "tokenizer"
    )


def _read(folder: str, split: str, what: str, progress: Progress | None) -> Iterator[Conversation]:
    """The conversations of a split, telling how far the reading is."""
    splits = files.read_manifest(folder, "conversations")["splits"]
    total = int((splits.get(split) or {}).get("conversations", 0))
    for number, one in enumerate(iter_conversations(folder, [split]), start=1):
        yield one
        if progress is not None and (number % CHUNK == 0 or number == total):
            progress(f"{what} ({split})", number, total)


def _file(split: str, part: int) -> str:
    return f"train-{PARTS[part]}.arrow" if split == "train" else f"{PARTS[part]}.arrow"


def _write(path: Path, rows: Iterator[Row], part: int) -> None:
    """Write rows as an Arrow stream, `CHUNK` rows in memory; no file where there are none."""
    chunk = list(islice(rows, CHUNK))
    if not chunk:
        return
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        while chunk:
            lengths = [len(ids) for ids, _ in chunk]
            offsets = pa.array(np.cumsum([0, *lengths]), pa.int32())
            columns = [
                np.concatenate([ids for ids, _ in chunk]),
                np.concatenate([labels for _, labels in chunk]),
                np.full(sum(lengths), part, dtype=np.int8),
            ]
            arrays = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
            chunk = list(islice(rows, CHUNK))


def _open(folder: Path, seed: int) -> dict[str, Dataset]:
    """The sets in a folder, mapped into memory."""
    sets = {}
    for name in ("train", *PARTS):
        path = folder / f"{name}.arrow"
        if path.exists():
            sets[name] = Dataset.from_file(str(path))
    if "train" not in sets:
        paths = [folder / _file("train", part) for part in range(len(PARTS))]
        train = concatenate_datasets([Dataset.from_file(str(p)) for p in paths if p.exists()])
        # an order beside the rows, not a copy of them
        sets["train"] = train.select(np.random.default_rng(seed).permutation(len(train)))
    return sets


def _pack(folder: Path, plan: Mapping[str, Any]) -> dict[str, int]:
    """Pack the sets in a folder, and count their packed rows."""
    evaluation = plan["packing"][1] is not False
    counts = {}
    for name, rows in _open(folder, plan["seed"]).items():
        if name == "train" or evaluation:
            aside = folder / f"{name}.packed"
            counts[name] = len(pack(rows, plan["max_length"], aside))
            aside.replace(folder / f"{name}.arrow")
    for part in range(len(PARTS)):
        (folder / _file("train", part)).unlink(missing_ok=True)
    return counts
