"""A tiny world in which the commands of the documents run, with small numbers in place of large."""

import csv
import io
import json
import runpy
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

sys.path.extend(
    str(Path(__file__).resolve().parent / room)
    for room in ("catalog", "conversations", "features", "recipes")
)

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from doc_blocks import ROOT, commands, talkplay_words
from faulty_server import FaultyServer
from loopback import LoopbackHub
from mpd_slices import playlist, write_slice
from scripted_writer import reply_to
from sounds import write_wav
from test_training_recipes import CHATML, SMALL, SMALL_SCRATCH, base_model
from tiny_audio_models import save_whisper

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.cli import main, make_parser

GENRES = ("jazz", "rock", "folk", "soul")
TRACKS, LISTS, LENGTH, CLIPS = 60, 30, 6, 3
CONVERSATIONS = "60"
# how what a page takes for granted is made, when it is not there yet
RECIPE = "--config recipes/quickstart/sft.yaml --tokenizer {0}/tokenizer --output_dir {0}/model "
STAGES = {
    "{0}/features": "talkplay embed {0}/catalog {0}/features",
    "{0}/conversations": "talkplay synthesize {0}/catalog {0}/conversations",
    "{0}/tokenizer": "talkplay tokenize {0}/catalog {0}/features {0}/tokenizer",
    "{0}/model": f"talkplay train {RECIPE} --conversations {{0}}/conversations "
    "--catalog {0}/catalog",
}
ARM = (
    "talkplay train --config recipes/self-similarity/{0}.yaml --seed {1} --tokenizer run/tokenizer "
    "--conversations run/conversations --catalog run/catalog --output_dir run/{0}-{1}"
)
MAKE = {
    **{f"run/{arm}-{n}": ARM.format(arm, n) for arm in ("with", "without") for n in (1, 2)},
    **{
        name.format(root): line.format(root)
        for root in ("demo", "run", "mpd", "out", ".")
        for name, line in STAGES.items()
    },
    "./catalog": "talkplay import songs.csv catalog",
    "run/catalog": "talkplay import songs.csv run/catalog",
    "out/catalog": "talkplay import songs.csv out/catalog",
    "demo/catalog": "talkplay world demo/catalog",
    "mpd/base": "talkplay import spotify_million_playlist_dataset mpd/base",
    "mpd/catalog": "talkplay import mpd/base mpd/catalog",
    "mpd/more": "talkplay import spotify_million_playlist_dataset mpd/more",
    "new": "talkplay import new_songs.csv new",
    "new_features": "talkplay embed new new_features --like my_recommender/features",
    "my_recommender": "talkplay build songs.csv my_recommender",
    "CATALOG": "talkplay import songs.csv CATALOG",
}
# what a page takes from the Hub, in the place of somebody's repo
REPOS = {
    (
        "model",
        "me/my-recommender",
    ): "talkplay push my_recommender/model me/my-recommender --private",
    ("dataset", "me/my-songs"): "talkplay push my_recommender/catalog me/my-songs",
}
# the figures of a run of one step are not those expected
MAY_DIFFER = ("recipes/check.py",)
NOT_RUN = {"make", "pip", "source", "vllm", "llama-server", "bash", "pytest", "hf", "cd"}


def shrink(words: list[str], **values: str) -> list[str]:
    """Replace the values of flags, where they are given."""
    out = list(words)
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if flag in out:
            out[out.index(flag) + 1] = value
    return out


def without(words: list[str], *flags: str) -> list[str]:
    """Leave out flags with their values."""
    out = list(words)
    for flag in flags:
        while flag in out:
            at = out.index(flag)
            end = next((n for n in range(at + 1, len(out)) if out[n].startswith("--")), len(out))
            del out[at:end]
    return out


# a dialogue as CPCD has them
DIALOGUE = {
    "id": "c",
    "goal_playlist": ["y1"],
    "turns": [
        {
            "user_query": "some jazz",
            "system_response": "Here you are.",
            "search_queries": [],
            "search_results": [],
            "liked_results": ["y1"],
            "disliked_results": [],
        }
    ],
    "tracks": {
        "y1": {
            "track_ids": "y1",
            "track_titles": "Billie Jean",
            "track_artists": ["Michael Jackson"],
            "track_release_titles": "An Album",
        }
    },
}


class World:
    """A working folder with tables, clips, slices and dialogues, and the recipes beside them.

    Args:
        folder (`Path`): The folder, empty.
        server (`FaultyServer`): A language model that writes conversations by the rules.
        hub (`LoopbackHub`): A Hub.
    """

    def __init__(self, folder: Path, server: FaultyServer, hub: LoopbackHub) -> None:
        self.folder, self.server, self.hub = folder, server, hub
        self.ran: list[str] = []
        (folder / "recipes").symlink_to(ROOT / "recipes")
        (folder / "mp3").mkdir()
        (folder / "previews").mkdir()
        rng = np.random.default_rng(0)
        lists = [rng.choice(TRACKS, LENGTH, replace=False).tolist() for _ in range(LISTS)]
        self._table("songs.csv", [self._song(n, at) for at in range(LISTS) for n in lists[at]])
        self._table("new_songs.csv", [self._song(n, 1) for n in range(TRACKS, TRACKS + 4)])
        self._table(
            "lyrics.csv", [{"track_id": f"track-{n}", "lyrics": f"la {n}"} for n in range(20)]
        )
        for number in range(CLIPS):
            sound = folder / "music_folder" / f"Band - Song {number}.wav"
            write_wav(sound, title=f"Song {number}", artist="Band 0", sound=number)
            noise = rng.normal(0, 0.1, 16_000)
            soundfile.write(folder / "mp3" / f"track-{number}.wav", noise, 16_000)
            soundfile.write(folder / "previews" / f"{number:022d}.wav", noise, 16_000)
        slices = [playlist(pid, [(pid + n) % 30 for n in range(8)]) for pid in range(40)]
        write_slice(folder / "spotify_million_playlist_dataset" / "data", slices)
        (folder / "cpcd_train.jsonl").write_text(json.dumps(DIALOGUE) + "\n", encoding="utf-8")

    def _song(self, number: int, lists: int) -> dict[str, object]:
        return {
            "track_id": f"track-{number}",
            "title": ("Billie Jean", f"Song {number}")[number > 0],
            "artist": ("Michael Jackson", f"Band {number % 9}")[number > 0],
            "genre": GENRES[number % 4],
            "release_date": str(1970 + number % 40),
            "tempo": 70 + number,
            "playlist_name": f"List {lists}",
            "audio": f"mp3/track-{number}.wav" if number < CLIPS else "",
        }

    def _table(self, name: str, rows: Sequence[dict[str, object]]) -> None:
        with (self.folder / name).open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def run(self, text: str) -> None:
        """Run the commands of a block, those that they take for granted before them."""
        for words in commands(text):
            self.run_words(words)

    def run_words(self, words: list[str]) -> None:
        """Run one command; an `AssertionError` tells what it said where it fails."""
        ours = talkplay_words(words)
        program = words[0].rpartition("/")[2]
        if ours is not None:
            self._talkplay(ours)
        elif program == "uv":
            self._encoder(words[2:])
        elif program in ("python", "python3") and words[1] != "-m":
            self._script(words[1:])
        else:
            assert program in NOT_RUN or words[1] == "-m", words

    def _make_what_is_missing(self, words: Sequence[str], out: str | None) -> None:
        for word in words:
            for name in word.partition("=")[2].split(",") if "=" in word else [word]:
                self._make(name, out)

    def _make(self, name: str, out: str | None) -> None:
        known = name if name in MAKE else f"./{name}"
        if name != out and (self.folder / name).exists():
            return
        root = name.partition("/")[0]
        if known not in MAKE and root in MAKE and not (self.folder / root).exists():
            known = root
        if known in MAKE and name != out and root != out:
            self.run(MAKE[known])

    def _talkplay(self, words: list[str]) -> None:
        args, _ = make_parser().parse_known_args(words)
        out = getattr(args, "out", None)
        if args.command == "train":
            out = words[words.index("--output_dir") + 1]
            # a page may train twice into one folder, as alternatives
            shutil.rmtree(self.folder / f"{out}-checkpoints", ignore_errors=True)
        self._make_what_is_missing(words[1:], out)
        if args.command not in ("push", "pull"):
            for repo, line in REPOS.items():
                if repo not in self.hub.repos and repo[1] in " ".join(words):
                    self.run(line)
        words = self._small(args.command, words)
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            try:
                status = main(words)
            except SystemExit as stop:
                status = int(stop.code or 0)
        assert status in (0, 3), f"{' '.join(words)}\n{said.getvalue()[-2000:]}"
        self.ran.append(args.command)

    def _small(self, command: str, words: list[str]) -> list[str]:
        if command == "import":
            return shrink(words, test="2")
        if command == "world":
            return [*words, "--tracks", "40", "--no-audio"]
        if command == "embed" and "recipes/mpd/encoders-small.yaml" in words:
            words = without(words, "--config")
        if command == "embed":
            return without(words, "--encoder")  # CLAP has to come from the Hub
        if command == "annotate":
            whisper = self.folder / "whisper"
            save_whisper(whisper, says="la la")
            return without(shrink(words, lyrics=str(whisper)), "--rhythm")
        if command == "synthesize":
            return self._small_synthesis(words)
        if command in ("tokenize", "rebase"):
            return shrink(words, base=str(self._base()))
        if command == "train":
            return self._small_training(words)
        if command == "build":
            small = SMALL | SMALL_SCRATCH
            flags = [word for key, value in small.items() for word in (f"--{key}", value)]
            words = without(words, "--max_steps", "--scratch_hidden_size", "--conversations")
            return [*words, "--conversations", CONVERSATIONS, *flags]
        if command == "evaluate":
            words = shrink(words, baseline="popularity", replies="2", matching="2")
            words = without(words, "--encoder", "--features")
            for name in ("bm25", "two-tower", "bm25-last-turn", "dense", "dense-last-turn", "clap"):
                words = [word for word in words if word != name]
            return [*words, "--limit", "3"]
        if command == "serve":  # served by the tests of the page
            return ["doctor"]
        return words

    def _small_synthesis(self, words: list[str]) -> list[str]:
        words = shrink(words, count=CONVERSATIONS, playlists="4", concurrency="2", piece_size="4")
        if "endpoint" not in words:
            return [*words, "--count", CONVERSATIONS] if "--count" not in words else words
        words = without(words, "--api-key-env", "--base-url", "--max-calls", "--structured")
        words = without(words, "--labels", "--pieces", "--turns", "--lyrics", "--max-tokens")
        return [*words, "--base-url", self.server.base_url]

    def _small_training(self, words: list[str]) -> list[str]:
        recipe = (ROOT / words[words.index("--config") + 1]).read_text("utf-8")
        scratch = "model_name_or_path: scratch" in recipe
        small = SMALL | (SMALL_SCRATCH if scratch else {"model_name_or_path": str(self._base())})
        words = without(words, *(f"--{key}" for key in small))
        if not scratch:
            tokenizer = self.folder / words[words.index("--tokenizer") + 1]
            if not (tokenizer.with_name("based")).exists():
                catalog = words[words.index("--catalog") + 1]
                features = str(Path(catalog).with_name("features"))
                self._talkplay(["tokenize", catalog, features, str(tokenizer.with_name("based")),
                                "--base", "any"])  # fmt: skip
            words = shrink(words, tokenizer=str(tokenizer.with_name("based")))
        return [*words, *(word for key, value in small.items() for word in (f"--{key}", value))]

    def _base(self) -> Path:
        folder = self.folder / "base-model"
        if not folder.exists():
            texts = ["play some slow jazz from the nineties", "Here is a calm song by Band 3."]
            base_model(folder, CHATML, texts)
        return folder

    def _script(self, words: list[str]) -> None:
        name, *rest = words
        self._make_what_is_missing(rest, None)
        if name == "recipes/smollm2-135m/base.py":  # of the package that holds the weights
            self._base().rename(self.folder / rest[0])
            return
        if name.startswith(("recipes/serving", "recipes/paper", "tests/")):
            return
        said = io.StringIO()
        status: object = 0
        before, sys.argv = sys.argv, words
        with redirect_stdout(said), redirect_stderr(said):
            try:
                runpy.run_path(str(ROOT / name), run_name="__main__")
            except SystemExit as stop:
                status = stop.code
            finally:
                sys.argv = before
        allowed = (0, None, 1, 2) if name in MAY_DIFFER else (0, None)
        assert status in allowed, f"{' '.join(words)}\n{said.getvalue()[-2000:]}"
        self.ran.append(name)

    def _encoder(self, words: list[str]) -> None:
        """In the place of a large model: a table as its script writes one."""
        _, catalog, out, *_ = words
        self._make(catalog, None)
        ids = Catalog.load(self.folder / catalog).track_ids
        rng = np.random.default_rng(0)
        columns = {"track_id": ids, "vector": rng.standard_normal((len(ids), 8)).tolist()}
        if "caption" in out:
            columns = {"track_id": ids, "caption": [f"A song, {number}." for number in ids]}
        pq.write_table(pa.table(columns), self.folder / out)
        self.ran.append("uv")


def writer() -> FaultyServer:
    """A language model that writes conversations by the rules."""
    return FaultyServer(reply_to)
