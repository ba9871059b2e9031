"""A build runs every stage once, and again only from where its input changed."""

import csv
from pathlib import Path

import pytest

from talkplay_hf.build import BuildPaths, build
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.errors import ConfigError, InputError

TINY = (
    *("--max_steps", "1"),
    *("--threads", "1"),
    *("--per_device_train_batch_size", "2"),
    *("--scratch_hidden_size", "32"),
    *("--scratch_layers", "1"),
    *("--disable_tqdm", "true"),
)
STAGES = ("1/5", "2/5", "3/5", "4/5", "5/5")


class Builder:
    """Builds the same table again and tells which stages ran."""

    def __init__(self, folder: Path) -> None:
        self.table = folder / "songs.csv"
        self.out = folder / "out"
        self.write(12)

    def write(self, tracks: int) -> None:
        with self.table.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["track_id", "title", "artist", "tags", "playlist_name"])
            for row in range(tracks):
                tags = "rock" if row % 2 else "jazz"
                writer.writerow([f"t{row}", f"Song {row}", f"Band {row % 4}", tags, f"p{row % 3}"])

    def run(self, **options: object) -> list[str]:
        lines: list[str] = []
        arguments: dict[str, object] = {"conversations": 12, "overrides": TINY, **options}
        build(self.table, self.out, say=lines.append, **arguments)  # type: ignore[arg-type]
        told = {line[:3]: line for line in lines if line[:3] in STAGES}
        assert tuple(told) == STAGES
        return [stage for stage, line in told.items() if "up to date" not in line]


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def stamps(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*")}


def test_a_second_build_does_nothing_again(builder: Builder):
    assert builder.run() == list(STAGES)
    before = stamps(builder.out)
    assert builder.run() == []
    assert stamps(builder.out) == before
    # fewer or more conversations: catalog and features stay
    assert builder.run(conversations=14) == ["3/5", "4/5", "5/5"]
    paths = BuildPaths(builder.out)
    assert len(load_conversations(paths.conversations)) == 14
    assert builder.run(conversations=14) == []
    # other codes: only the tokens and the model
    assert builder.run(conversations=14, codes=2) == ["4/5", "5/5"]
    # another table: everything
    builder.write(13)
    assert builder.run(conversations=14, codes=2) == list(STAGES)
    assert len(Catalog.load(paths.catalog)) == 13


def fail(*arguments: object, **options: object) -> None:
    raise RuntimeError("the machine went away")


def test_an_interrupted_training_is_run_again(builder: Builder, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("talkplay_hf.training.sft.train", fail)
        with pytest.raises(RuntimeError):
            builder.run()
    assert builder.run()[-1] == "5/5"
    assert builder.run() == []


def test_a_model_of_older_tokens_is_not_up_to_date(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
):
    builder.run()
    with monkeypatch.context() as patch:
        patch.setattr("talkplay_hf.training.sft.train", fail)
        with pytest.raises(RuntimeError):
            builder.run(conversations=14)
    assert builder.run(conversations=14)[-1:] == ["5/5"]


def test_a_mistake_in_the_recipe_shows_before_any_stage(builder: Builder):
    with pytest.raises(ConfigError, match="no_such_key"):
        builder.run(overrides=(*TINY, "--no_such_key", "1"))
    assert not builder.out.exists()


def test_other_training_options_train_again(builder: Builder):
    builder.run()
    assert builder.run(overrides=(*TINY, "--learning_rate", "0.002")) == ["5/5"]


def test_a_catalog_folder_builds_too(world_folder: Path, tmp_path: Path):
    lines: list[str] = []
    paths = build(
        world_folder, tmp_path / "out", conversations=10, overrides=TINY, say=lines.append
    )
    assert (paths.model / "model.safetensors").exists()
    assert (paths.model / "talkplay_config.json").exists()
    assert len(load_conversations(paths.conversations)) == 10


def test_a_missing_source_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone\.csv"):
        build(tmp_path / "gone.csv", tmp_path / "out")
    (tmp_path / "songs.csv").write_text("title,artist\nA,B\n")
    with pytest.raises(InputError, match=r"lists\.csv: no such file"):
        build(tmp_path / "songs.csv", tmp_path / "out", playlists=tmp_path / "lists.csv")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_catalog_is_refused(tmp_path: Path):
    (tmp_path / "music").mkdir()
    with pytest.raises(InputError, match=r"music: is no catalog folder; .*talkplay import"):
        build(tmp_path / "music", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_policy_for_missing_modalities_makes_other_tokens(builder: Builder):
    builder.run()
    assert builder.run(missing="reserve") == ["4/5", "5/5"]
    assert builder.run(missing="reserve") == []
