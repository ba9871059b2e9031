"""From a catalog folder to a features folder: one vector per track and modality."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from talkplay_hf import __version__
from talkplay_hf.catalog.schema import MODALITIES, Catalog
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import ArtifactError, ConfigError, InputError
from talkplay_hf.features.encoders import TRANSDUCTIVE, WHOLE, make_encoder
from talkplay_hf.features.fitted import fitted_on, mask_hash, playlists_hash
from talkplay_hf.features.shards import Processes, ShardedRun
from talkplay_hf.features.store import (
    FAILURES,
    ModalityVectors,
    blocks,
    load_features,
    open_vectors,
    save_vectors,
    write_track_order,
    write_vectors,
)
from talkplay_hf.features.vectors_file import read_vectors
from talkplay_hf.hub import files
from talkplay_hf.hub.held import held

Progress = Callable[[str, int, int], None]
VECTORS_FILE = "vectors-file"
FAILURE_SCHEMA = pa.schema(
    [
        pa.field("modality", pa.string(), nullable=False),
        pa.field("row", pa.int64()),
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def embed(
    catalog: Catalog,
    out: str | Path,
    *,
    config: Mapping[str, Mapping[str, Any] | str] | None = None,
    vectors: Mapping[str, str | Path] | None = None,
    like: str | Path | None = None,
    dim: int = 128,
    seed: int = 0,
    device: str | None = None,
    on_error: str = "skip",
    progress: Progress | None = None,
) -> dict[str, ModalityVectors]:
    """Compute the five modalities of a catalog and write them as a features folder.

    The embedded defaults need no download: playlist co-occurrence by PMI + SVD over the training
    playlists; tags, metadata and lyrics by tf-idf + SVD; audio from clips or numeric columns.

    What is finished lies in a hidden work folder beside `out` until the features folder is
    complete. A run of the same catalog folder that was killed goes on from there, with the same
    bytes. Under `accelerate launch` or `torchrun` the processes share the tracks. The number of
    threads (`OMP_NUM_THREADS`; `torchrun` sets 1) must be the same for the same bytes.

    Everything that is fitted sees no cold track (paper 3.3); the manifest records what it saw.

    Args:
        catalog (`Catalog`): The catalog.
        out (`str` or `Path`): The features folder to make.
        config (`Mapping`, *optional*): Encoder by modality, see `make_encoder`; the embedded
            default where a modality is left out.
        vectors (`Mapping[str, path]`, *optional*): File of vectors made elsewhere, by modality,
            see `read_vectors`.
        like (`str` or `Path`, *optional*): An earlier features folder whose encoders are applied
            without fitting again, so that new tracks land in the same space. Where an encoder
            places only the tracks it was trained on, and where the vectors came from a file, a
            track that the earlier folder knows keeps its vector and the others are missing.
        dim (`int`): Dimensions of the playlist and text vectors, at most.
        seed (`int`): Seed of everything that draws.
        device (`str`, *optional*): Where models run; a GPU, else the CPU, when left out.
        on_error (`str`): `"skip"` counts a track that fails, names it in `failures.parquet` and
            goes on without it; `"stop"` raises.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, ModalityVectors]`: The vectors by modality, in the order of the paper. They lie
        in the files of the features folder.

    Raises:
        ConfigError: If the config has an unknown modality, encoder or option.
        InputError: If the catalog has no tracks, or one fails and `on_error` is `"stop"`.
        ArtifactError: If `out` holds something else, another process is writing it, or shards do
            not fit together.
        LeakageError: If an encoder was fitted on a cold track.
    """
    out = Path(out)
    files.check_target(out, "features")
    if on_error not in ("skip", "stop"):
        raise ConfigError(f"on_error is 'skip' or 'stop', not {on_error!r}")
    if not len(catalog):
        raise InputError("the catalog has no tracks to embed")
    plan = _Plan(catalog, config or {}, vectors or {}, like, dim, seed)
    work = out.parent / f".{out.name}.shards"
    processes = Processes(device)
    with held(out) if processes.rank == 0 else contextlib.nullcontext():
        if processes.rank == 0 and not catalog.fingerprint:
            # of a catalog in memory nobody knows what it was
            shutil.rmtree(work, ignore_errors=True)
        processes.wait()
        finished: dict[str, Path] = {}
        for number, modality in enumerate(MODALITIES):
            if progress is not None and processes.rank == 0:
                progress("embedding modalities", number, len(MODALITIES))
            folder = work / f"{modality}-{plan.key(modality)}"
            finished[modality] = folder
            if _is_finished(folder, stop=on_error == "stop"):
                continue
            run = ShardedRun(
                modality,
                catalog.track_ids,
                folder,
                seed,
                plan.fit_on,
                processes,
                stop=on_error == "stop",
                earlier=plan.earlier_state(modality),
                report=progress,
            )
            if processes.rank == 0 or plan.is_shared(modality):
                folder.mkdir(parents=True, exist_ok=True)
                made = plan.make(modality, run)
                if plan.is_shared(modality):
                    processes.wait()  # the others still read the shards that are cleared away now
                if processes.rank == 0:
                    _finish(folder, made, run, plan.configs[modality], plan.fit(modality, run))
        if processes.rank == 0:
            _assemble(out, catalog, finished, plan)
            shutil.rmtree(work)
            if progress is not None:
                progress("embedding modalities", len(MODALITIES), len(MODALITIES))
        processes.wait()
    return load_features(out)[1]


class _Plan:
    """Which encoder, file or earlier folder each modality comes from."""

    def __init__(
        self,
        catalog: Catalog,
        config: Mapping[str, Mapping[str, Any] | str],
        vectors: Mapping[str, str | Path],
        like: str | Path | None,
        dim: int,
        seed: int,
    ) -> None:
        for modality in [*config, *vectors]:
            if modality not in MODALITIES:
                raise ConfigError(f"{modality!r} is no modality; they are {', '.join(MODALITIES)}")
        for modality in vectors:
            if modality in config:
                raise ConfigError(f"{modality}: has an encoder and a file of vectors; choose one")
        if like is not None and config:
            raise ConfigError("the encoders are those of the earlier folder; leave the config out")
        self.catalog, self.vectors, self.seed = catalog, vectors, seed
        self.fit_on = ~cold_tracks(catalog)
        self.made_from = {"catalog": catalog.fingerprint}
        self.like = Path(like) if like is not None else None
        self.like_hash = ""
        self.options: dict[str, Any] = {"dim": dim, "seed": seed}
        if config:
            self.options["config"] = {name: config[name] for name in config}
        self.earlier: dict[str, ModalityVectors] = {}
        self.earlier_facts: dict[str, Any] = {}
        if self.like is not None:
            self.earlier_ids, self.earlier = load_features(self.like)
            manifest = files.read_manifest(self.like, "features")
            if "modalities" not in manifest:
                raise ArtifactError(f"{self.like}: does not say how it was made; embed it again")
            self.earlier_facts = manifest["modalities"]
            for modality in MODALITIES:
                path = _state(self.like, modality)
                found = files.sha256_file(path) if path.exists() else None
                if found != manifest["files"].get(path.name):
                    raise ArtifactError(f"{path}: is not the file that {files.MANIFEST} names")
            self.like_hash = files.content_hash(manifest)
            # of a chain of folders, the one that was fitted
            self.made_from["like"] = manifest["made_from"].get("like", self.like_hash)
            config = {name: facts["encoder"] for name, facts in self.earlier_facts.items()}
        self.configs: dict[str, dict[str, Any]] = {}
        self.encoders = {}
        for modality in MODALITIES:
            if modality in vectors:
                self.made_from[f"vectors.{modality}"] = files.sha256_file(vectors[modality])
                self.configs[modality] = {"encoder": VECTORS_FILE}
            elif self._keeps(modality):
                self.configs[modality] = dict(config[modality])  # type: ignore[arg-type]
            else:
                self.encoders[modality], self.configs[modality] = make_encoder(
                    modality, config.get(modality), dim=dim
                )

    def _keeps(self, modality: str) -> bool:
        """Whether a track has the vector that the earlier folder gave it, or none."""
        if modality not in self.earlier:
            return False
        name = self.earlier_facts[modality]["encoder"]["encoder"]
        # what no track of the earlier folder had was never fitted
        nothing = not self.earlier[modality].present.any()
        return nothing or name == VECTORS_FILE or name in TRANSDUCTIVE

    def is_shared(self, modality: str) -> bool:
        """Whether several processes can share the work."""
        return modality in self.encoders and self.configs[modality]["encoder"] not in WHOLE

    def key(self, modality: str) -> str:
        """Names everything that the vectors depend on."""
        facts = [
            __version__,
            self.configs[modality],
            self.seed,
            mask_hash(self.fit_on),
            self.like_hash,
            self.made_from["catalog"],
            self.made_from.get(f"vectors.{modality}"),
        ]
        return files.sha256_json(facts)[:16]

    def earlier_state(self, modality: str) -> Mapping[str, np.ndarray] | None:
        """What the earlier folder keeps of an encoder that was fitted."""
        if self.like is None:
            return None
        path = _state(self.like, modality)
        return load_file(path) if path.exists() else None

    def state(self, modality: str, folder: Path) -> Path | None:
        """The file of what was fitted: now, or by the earlier run."""
        if self.like is not None and modality not in self.vectors:
            path = _state(self.like, modality)
        else:
            path = folder / "encoder.safetensors"
        return path if path.exists() else None

    def make(self, modality: str, run: ShardedRun) -> ModalityVectors:
        """The vectors of one modality."""
        if modality in self.vectors:
            into = run.work / "rows.safetensors"
            made, unknown = read_vectors(
                self.vectors[modality], self.catalog.track_ids, into=into, fail=run.fail
            )
            run.facts["unknown"] = unknown
            run.on_disk = (made, into)
            return made
        if modality in self.encoders:
            return self.encoders[modality].encode(self.catalog, modality, run)
        return self._known_before(modality, run.work / "rows.safetensors")

    def fit(self, modality: str, run: ShardedRun) -> dict[str, Any] | None:
        """What the manifest records of the fit: of this run's, or of the one that it applies."""
        if run.seen is not None:
            made = fitted_on(run.seen, run.fit_on)
            if modality == "playlist":
                made["playlists"] = playlists_hash(self.catalog)
            return made
        if modality in self.vectors or self.like is None:
            return None
        applied: dict[str, Any] | None = self.earlier_facts[modality]["fitted_on"]
        return applied

    def _known_before(self, modality: str, into: Path) -> ModalityVectors:
        """The vectors that the earlier folder has of tracks of this catalog."""
        earlier = self.earlier[modality]
        rows = {track_id: row for row, track_id in enumerate(self.earlier_ids)}
        at = np.array([rows.get(track_id, -1) for track_id in self.catalog.track_ids], np.int64)
        present = (at >= 0) & earlier.present[at]

        def kept() -> Iterator[np.ndarray]:
            for start, block in blocks(at):
                yield earlier.vectors[block] * present[start : start + len(block), None]

        write_vectors(into, kept(), (len(at), earlier.vectors.shape[1]), present)
        return open_vectors(into)


def _is_finished(folder: Path, *, stop: bool) -> bool:
    """Whether a killed run finished this modality; one that failed is done again to stop at it."""
    facts = folder / "facts.json"
    return facts.exists() and not (stop and files.read_json(facts)["failures"])


def _state(folder: Path, modality: str) -> Path:
    return folder / f"{modality}.encoder.safetensors"


def _finish(
    folder: Path,
    made: ModalityVectors,
    run: ShardedRun,
    config: Mapping[str, Any],
    fit: Mapping[str, Any] | None,
) -> None:
    """Write what belongs to a modality into its work folder, the facts last."""
    whole = folder / "vectors.safetensors"
    whole.unlink(missing_ok=True)
    if run.on_disk is not None and run.on_disk[0] is made and run.on_disk[1].exists():
        _link(run.on_disk[1], whole)
    else:
        save_vectors(whole, made)
    if run.kept:
        save_file(run.kept, folder / "encoder.safetensors")
    facts: dict[str, Any] = {
        "encoder": dict(config),
        "dim": made.vectors.shape[1],
        "present": int(made.present.sum()),
        "failures": len(run.failures),
        "fitted_on": fit,
        **run.facts,
    }
    files.write_json(folder / "failures.json", [asdict(failure) for failure in run.failures])
    files.write_json(folder / "facts.json", facts)
    for shards in folder.glob("shards-*"):
        shutil.rmtree(shards)


def _assemble(out: Path, catalog: Catalog, finished: Mapping[str, Path], plan: "_Plan") -> None:
    """Make the features folder of the finished modalities."""
    facts, rows = {}, []
    with files.staged_folder(out, "features") as aside:
        for modality, folder in finished.items():
            _link(folder / "vectors.safetensors", aside / f"{modality}.safetensors")
            state = plan.state(modality, folder)
            if state is not None:
                shutil.copyfile(state, _state(aside, modality))
            facts[modality] = files.read_json(folder / "facts.json")
            rows += [
                {"modality": modality} | failure
                for failure in files.read_json(folder / "failures.json")
            ]
        if rows:
            pq.write_table(pa.Table.from_pylist(rows, schema=FAILURE_SCHEMA), aside / FAILURES)
        write_track_order(aside, catalog.track_ids)
        files.write_manifest(
            aside, "features", plan.made_from, options=plan.options, modalities=facts
        )


def _link(source: Path, target: Path) -> None:
    """Give a file of the work folder a second name, or copy it where the disk cannot."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
