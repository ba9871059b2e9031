"""From a table of songs to a model in one go: every stage with its defaults, none done twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SplitOptions
from talkplay_hf.catalog.world import is_demo_world
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.conversations.simulation.frozen import simulator_hash
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.simulator import iter_conversations
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.tokenizing import Progress, features_identity, make_tokenizer
from talkplay_hf.tokens.config import DEFAULT_MISSING, SCRATCH, TalkPlayConfig, check_codes

Say = Callable[[str], None]
SIMULATOR = "simulator.yaml"
DIM = 128
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
    for place in (paths.catalog, paths.features, paths.conversations, paths.tokenizer):
        files.clear_leftovers(place)
    plan = files.sha256_json([files.sha256_file(recipe), base, seed, list(overrides)])
    if not _is_trained(paths, plan):
        # a mistake in the recipe should show before the other stages have run
        _arguments(recipe, paths, Path(source), base, seed, overrides)
    catalog = _catalog_stage(source, paths, columns, playlists, encoding, say)
    if len(catalog) < 2:
        raise InputError(f"{source}: {len(catalog)} track is not enough to recommend from")
    _features_stage(catalog, paths, seed, say, progress)
    options = _simulator_options(recipe, base)
    _conversations_stage(catalog, paths, conversations, options, seed, say, progress)
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
    files.write_json(paths.model / files.BUILD, {"plan": plan})
    return paths


def _simulator_options(recipe: Path, base: str) -> SimulatorOptions:
    """The simulator's options: those beside the recipe, if there are any."""
    beside = recipe.parent / SIMULATOR
    options = SimulatorOptions.load(beside) if beside.is_file() else SimulatorOptions()
    # a model from scratch is too small to learn titles by heart, and would name wrong ones
    return replace(options, title_share=0.0) if base == SCRATCH else options


def _is_trained(paths: BuildPaths, plan: str) -> bool:
    """Whether the model was trained by this plan with the tokenizer that is there now."""
    made, tokenizer = paths.model / files.BUILD, paths.tokenizer / files.TALKPLAY_CONFIG
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


def _features_stage(
    catalog: Catalog, paths: BuildPaths, seed: int, say: Say, progress: Progress | None
) -> None:
    """Make the features folder if it is not up to date."""
    made_from = {"catalog": catalog.fingerprint}
    options: dict[str, Any] = {"dim": DIM, "seed": seed}
    if _is_made_from(paths.features, "features", made_from, options=options):
        say("2/5 features: up to date")
        return
    from talkplay_hf.features.embed import embed

    say("2/5 features: five vectors a track")
    embed(catalog, paths.features, **options, progress=progress)


def _conversations_stage(
    catalog: Catalog,
    paths: BuildPaths,
    count: int,
    options: SimulatorOptions,
    seed: int,
    say: Say,
    progress: Progress | None,
) -> None:
    """Make the conversations folder if it is not up to date."""
    made_from = {"catalog": catalog.fingerprint}
    simulator = {"hash": simulator_hash(), "count": count, "seed": seed, **options.to_dict()}
    if _is_made_from(paths.conversations, "conversations", made_from, simulator=simulator):
        say("3/5 conversations: up to date")
        return
    say(f"3/5 conversations: simulating {count:,}")
    save_conversations(
        paths.conversations,
        iter_conversations(catalog, count=count, options=options, seed=seed, progress=progress),
        made_from,
        simulator=simulator,
        demo_world=is_demo_world(catalog.root or paths.catalog),
    )


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
        "features": features_identity(paths.features),
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
