"""From a table of songs to a model in one go: every stage with its defaults, none done twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SplitOptions
from talkplay_hf.catalog.world import is_demo_world
from talkplay_hf.conversations.dataset import load_conversations, save_conversations
from talkplay_hf.conversations.simulation.frozen import simulator_hash
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.simulator import iter_conversations, suggest_openers
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.tokens.config import DEFAULT_MISSING, SCRATCH, TalkPlayConfig, check_codes

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
BUILD = "build.json"
SIMULATOR = "simulator.yaml"
DIM = 128
BASE_VOCABULARY = 1200
SECONDS_PER_STEP = 0.075


@dataclass(frozen=True)
class BuildPaths:
    """Where the artefacts of a build stand."""

    root: Path

    @property
    def catalog(self) -> Path:
        """The catalog folder."""
        return self.root / "catalog"

    @property
    def features(self) -> Path:
        """The features folder."""
        return self.root / "features"

    @property
    def conversations(self) -> Path:
        """The conversations folder."""
        return self.root / "conversations"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer folder."""
        return self.root / "tokenizer"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.root / "model"


def build(
    source: str | Path,
    out: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    playlists: str | Path | None = None,
    encoding: str | None = None,
    recipe: str | Path | None = None,
    base: str = SCRATCH,
    codes: int = 1024,
    missing: str = DEFAULT_MISSING,
    conversations: int = 12_000,
    overrides: Sequence[str] = (),
    seed: int = 0,
    say: Say = print,
    progress: Progress | None = None,
) -> BuildPaths:
    """Import, embed, converse, tokenize and train.

    A stage whose output was made from the same input is not run again.

    Args:
        source (`str` or `Path`): A CSV or Parquet table, or a catalog folder.
        out (`str` or `Path`): The folder for everything.
        columns (`Mapping[str, str]`, *optional*): Column mapping, see `import_table`.
        playlists (`str` or `Path`, *optional*): A second table of playlists.
        encoding (`str`, *optional*): Encoding of a CSV.
        recipe (`str` or `Path`, *optional*): Training recipe; the quickstart when left out. A
            `simulator.yaml` beside it sets the options of the simulator.
        base (`str`): Base model id or folder; `"scratch"` trains a small tokenizer and a small
            Llama on the catalog's own text.
        codes (`int`): Upper bound of the codebook size.
        missing (`str`): Policy for missing modalities, see `TalkPlayConfig`.
        conversations (`int`): Number of simulated conversations.
        overrides (`Sequence[str]`): Further arguments for the recipe, such as `--max_steps 100`.
        seed (`int`): Seed of every stage.
        say (`Callable`): Called with a line about each stage.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `BuildPaths`: Where the artefacts are.

    Raises:
        TalkPlayError: If the input cannot be used.
    """
    paths = BuildPaths(Path(out))
    recipe = Path(recipe) if recipe is not None else quickstart_recipe()
    if not recipe.is_file():
        raise InputError(f"{recipe}: no such recipe")
    check_codes(codes)
    files.check_target(paths.model, "model")
    plan = files.sha256_json([files.sha256_file(recipe), base, seed, list(overrides)])
    if not _is_trained(paths, plan):
        # a mistake in the recipe should show before the other stages have run
        _arguments(recipe, paths, Path(source), base, seed, overrides)
    catalog = _catalog_stage(source, paths, columns, playlists, encoding, say)
    if len(catalog) < 2:
        raise InputError(f"{source}: {len(catalog)} track is not enough to recommend from")
    made_from = {"catalog": catalog.fingerprint}
    embedding: dict[str, Any] = {"dim": DIM, "seed": seed}
    if _is_made_from(paths.features, "features", made_from, options=embedding):
        say("2/5 features: up to date")
    else:
        from talkplay_hf.features.embed import embed

        say("2/5 features: five vectors a track")
        embed(catalog, paths.features, **embedding, progress=progress)
    options = _simulator_options(recipe, base)
    wanted = {
        "hash": simulator_hash(),
        "count": conversations,
        "seed": seed,
        **options.to_dict(),
    }
    if _is_made_from(paths.conversations, "conversations", made_from, simulator=wanted):
        say("3/5 conversations: up to date")
    else:
        say(f"3/5 conversations: simulating {conversations:,}")
        made = iter_conversations(
            catalog, count=conversations, options=options, seed=seed, progress=progress
        )
        demo_world = is_demo_world(catalog.root or paths.catalog)
        save_conversations(
            paths.conversations, made, made_from, simulator=wanted, demo_world=demo_world
        )
    _tokenize_stage(catalog, paths, base, codes, missing, seed, say, progress)
    if _is_trained(paths, plan):
        say("5/5 model: up to date")
        return paths
    from talkplay_hf.training.sft import train

    where = catalog.root or paths.catalog
    alone = () if catalog.playlists.num_rows else ("--playlist_share", "0")
    arguments, config, model_config = _arguments(
        recipe, paths, where, base, seed, (*overrides, *alone)
    )
    steps = config.max_steps
    quick = base == SCRATCH and recipe == quickstart_recipe() and not overrides
    about = f", about {round(steps * SECONDS_PER_STEP / 60)} minutes" if quick else ""
    say(f"5/5 model: training {steps:,} steps{about}")
    train(arguments, config, model_config, progress=progress)
    files.write_json(paths.model / BUILD, {"plan": plan})
    return paths


def _simulator_options(recipe: Path, base: str) -> SimulatorOptions:
    """The simulator's options: those beside the recipe, if there are any."""
    beside = recipe.parent / SIMULATOR
    options = SimulatorOptions.load(beside) if beside.is_file() else SimulatorOptions()
    # a model from scratch is too small to learn titles by heart, and would name wrong ones
    return replace(options, title_share=0.0) if base == SCRATCH else options


def _is_trained(paths: BuildPaths, plan: str) -> bool:
    """Whether the model was trained by this plan with the tokenizer that is there now."""
    made, tokenizer = paths.model / BUILD, paths.tokenizer / files.TALKPLAY_CONFIG
    if not (made.exists() and tokenizer.exists()):
        return False
    return files.read_json(made) == {"plan": plan} and files.sha256_file(
        tokenizer
    ) == files.sha256_file(paths.model / files.TALKPLAY_CONFIG)


def _arguments(
    recipe: Path, paths: BuildPaths, catalog: Path, base: str, seed: int, overrides: Sequence[str]
) -> Any:
    """The parsed recipe with the folders of a build filled in."""
    from talkplay_hf.training.arguments import parse_recipe

    return parse_recipe(
        [
            *("--config", str(recipe)),
            *("--model_name_or_path", base),
            *("--tokenizer", str(paths.tokenizer)),
            *("--conversations", str(paths.conversations)),
            *("--catalog", str(catalog)),
            *("--output_dir", str(paths.model)),
            *("--seed", str(seed)),
            *overrides,
        ]
    )


def _catalog_stage(
    source: str | Path,
    paths: BuildPaths,
    columns: Mapping[str, str] | None,
    playlists: str | Path | None,
    encoding: str | None,
    say: Say,
) -> Catalog:
    if Path(source).is_dir():
        if files.folder_kind(Path(source)) != "catalog":
            raise InputError(f"{source}: is no catalog folder; make one with `talkplay import`")
        say(f"1/5 catalog: {source}")
        return Catalog.load(source)
    if not Path(source).exists():
        raise InputError(f"{source}: no such file")
    if playlists is not None and not Path(playlists).exists():
        raise InputError(f"{playlists}: no such file")
    made_from = {"source": files.sha256_file(source)}
    if playlists is not None:
        made_from["playlists"] = files.sha256_file(playlists)
    options = {
        "columns": dict(columns or {}),
        "encoding": encoding,
        "split": asdict(SplitOptions()),
    }
    if _is_made_from(paths.catalog, "catalog", made_from, options=options):
        say("1/5 catalog: up to date")
    else:
        say(f"1/5 catalog: importing {source}")
        report = import_table(
            source, paths.catalog, playlists=playlists, columns=columns, encoding=encoding
        )
        say(report.summary())
    return Catalog.load(paths.catalog)


def _tokenize_stage(
    catalog: Catalog,
    paths: BuildPaths,
    base: str,
    codes: int,
    missing: str,
    seed: int,
    say: Say,
    progress: Progress | None,
) -> None:
    """Make the tokenizer folder if it is not up to date."""
    made_from = {
        "catalog": catalog.fingerprint,
        "features": _identity(paths.features),
        "conversations": files.sha256_file(paths.conversations / files.MANIFEST),
        "options": files.sha256_json([base, codes, missing, seed]),
    }
    config = paths.tokenizer / files.TALKPLAY_CONFIG
    if config.exists() and TalkPlayConfig.load(config).made_from == made_from:
        say("4/5 tokens: up to date")
        return
    say("4/5 tokens: codebooks and tokenizer")
    report = make_tokenizer(
        catalog,
        paths.features,
        paths.tokenizer,
        base=base,
        conversations=paths.conversations,
        codes=codes,
        missing=missing,
        made_from=made_from,
        seed=seed,
        progress=progress,
    )
    say(health_line(report))


def make_tokenizer(
    catalog: Catalog,
    features: str | Path,
    out: str | Path,
    *,
    base: str = SCRATCH,
    base_vocabulary: int = BASE_VOCABULARY,
    conversations: str | Path | None = None,
    codes: int = 1024,
    missing: str = DEFAULT_MISSING,
    made_from: dict[str, str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Codebooks and tokenizer of a catalog, grown from a base model's or from a small one.

    Args:
        catalog (`Catalog`): The catalog.
        features (`str` or `Path`): Its features folder.
        out (`str` or `Path`): The tokenizer folder to make.
        base (`str`): Base model id or folder; `"scratch"` trains a small byte-level BPE.
        base_vocabulary (`int`): Tokens of that BPE, at most.
        conversations (`str` or `Path`, *optional*): Conversations whose text a small BPE learns.
        codes (`int`): Upper bound of the codebook size.
        missing (`str`): Policy for missing modalities, see `TalkPlayConfig`.
        made_from (`dict[str, str]`, *optional*): SHA-256 of the inputs, by name; those of the
            catalog and the features when left out.
        seed (`int`): Seed of K-means and the example requests.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: The codebook health report.

    Raises:
        ArtifactError: If the features were made from other tracks.
        LeakageError: If an encoder of the features was fitted on what the catalog holds out.
    """
    from talkplay_hf.features.fitted import check_fitted
    from talkplay_hf.tokens.bpe import train_bpe
    from talkplay_hf.tokens.build import catalog_texts, load_base_tokenizer, tokenize

    vectors = _vectors(features, catalog)
    check_fitted(features, catalog)
    if base == SCRATCH:
        texts = list(catalog_texts(catalog))
        if conversations is not None:
            for conversation in load_conversations(conversations, ["train"]):
                texts += [m.content for m in conversation.messages if m.content]
        tokenizer = train_bpe(texts, vocab_size=base_vocabulary)
    else:
        tokenizer = load_base_tokenizer(base)
    return tokenize(
        catalog,
        vectors,
        out,
        base=tokenizer,
        base_name=base,
        codes=codes,
        missing=missing,
        examples=suggest_openers(catalog, seed=seed),
        seed=seed,
        made_from=made_from or {"catalog": catalog.fingerprint, "features": _identity(features)},
        progress=progress,
    )


def extend_tokenizer(
    catalog: Catalog,
    features: str | Path,
    folder: str | Path,
    out: str | Path,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Add tracks to a tokenizer or model folder, see `add_tracks`; nothing is fitted again.

    Args:
        catalog (`Catalog`): The tracks to add.
        features (`str` or `Path`): Their features folder, made by `embed(..., like=)`.
        folder (`str` or `Path`): The tokenizer or model folder.
        out (`str` or `Path`): The folder to write; may be the same folder.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: `added`, `updated` and the codebook `health`.

    Raises:
        ArtifactError: If the features were not made like those of the folder, or of other tracks.
    """
    from talkplay_hf.tokens.extend import add_tracks

    vectors = _vectors(features, catalog)
    if (Path(folder) / files.TALKPLAY_CONFIG).exists():
        wanted = TalkPlayConfig.load(Path(folder) / files.TALKPLAY_CONFIG).made_from.get("features")
        like = files.read_manifest(features, "features")["made_from"].get("like")
        if wanted is not None and wanted not in (like, _identity(features)):
            raise ArtifactError(
                f"{features}: was not made like the features of {folder}; make it with "
                "`talkplay embed --like` and the features folder that the codebooks come from"
            )
    return add_tracks(folder, catalog, vectors, out, progress=progress)


def _vectors(features: str | Path, catalog: Catalog) -> dict[str, Any]:
    """The vectors of a catalog's tracks: `(vectors [n, d], present [n])` by modality."""
    from talkplay_hf.features.store import load_features

    track_ids, modalities = load_features(features)
    if track_ids != catalog.track_ids:
        raise ArtifactError(
            f"{features}: was made from other tracks than the catalog; run `talkplay embed` again"
        )
    return {name: (made.vectors, made.present) for name, made in modalities.items()}


def _identity(features: str | Path) -> str:
    """SHA-256 that identifies a features folder by its content."""
    return files.content_hash(files.read_manifest(features, "features"))


def health_line(report: Mapping[str, Any]) -> str:
    """The codebook health report in one line."""
    used = ", ".join(
        f"{name} {values['used']}/{values['codes']}"
        for name, values in report["modalities"].items()
    )
    return (
        f"codes used: {used}; {report['distinct_tuples']:,} distinct tuples for "
        f"{report['tracks']:,} tracks, largest bucket {report['largest_bucket']}"
    )


def quickstart_recipe() -> Path:
    """The quickstart recipe, from the installed package or the source tree."""
    inside = Path(__file__).parent / "_recipes" / "quickstart" / "sft.yaml"
    beside = Path(__file__).parent.parent / "recipes" / "quickstart" / "sft.yaml"
    return inside if inside.exists() else beside


def _is_made_from(folder: Path, kind: str, made_from: Mapping[str, str], **facts: Any) -> bool:
    try:
        manifest = files.read_manifest(folder, kind)
    except ArtifactError:
        return False
    return manifest["made_from"] == dict(made_from) and all(
        manifest.get(name) == value for name, value in facts.items()
    )
