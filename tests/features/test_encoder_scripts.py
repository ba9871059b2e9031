"""The stand-alone scripts of `recipes/encoders`, with small stand-ins for their models."""

import importlib.util
import re
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from talkplay_hf.catalog.schema import Catalog, Track

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "encoders"
SCRIPTS = ("nv_embed_v2", "musicfm", "muq", "lp_music_caps")
soundfile = pytest.importorskip("soundfile")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, types.ModuleType]]:
    monkeypatch.syspath_prepend(FOLDER)
    made = {}
    for name in SCRIPTS:
        spec = importlib.util.spec_from_file_location(f"script_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        made[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made[name])
    made["common"] = sys.modules["common"]
    yield made
    del sys.modules["common"]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Two tracks with sound, one whose file is broken, one without."""
    folder = tmp_path / "catalog"
    tracks = [
        Track("a", "One", "X", album="LP", release_date="1999-05-01", tags=("rock", "calm"),
              caption="Slow.", lyrics="la la", audio="a.flac"),
        Track("b", "Two", "Y", audio="b.mp3"),
        Track("c", "Three", "Z", tags=("jazz",), audio="c.wav"),
        Track("d", "Four", "Z", lyrics="  ", audio="https://example.org/d.mp3"),
    ]  # fmt: skip
    Catalog.from_tracks(tracks).save(folder)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(22_050 * 3)
    soundfile.write(folder / "a.flac", np.stack([noise, noise], axis=1), 22_050)
    soundfile.write(folder / "b.mp3", 0.1 * rng.standard_normal(44_100 * 40), 44_100)
    (folder / "c.wav").write_bytes(b"no sound")
    return folder


class TextModel:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def encode(self, texts: list[str], **options: Any) -> torch.Tensor:
        self.asked.append({"texts": texts, **options})
        return torch.tensor([[float(len(text)), 1.0] for text in texts], dtype=torch.float16)


def hidden_of(sounds: torch.Tensor) -> torch.Tensor:
    """`[b, 10, 2]` of each sound."""
    return torch.stack([sounds.reshape(len(sounds), 10, -1).std(-1)] * 2, dim=-1)


class FmModel:
    def get_latent(self, sounds: torch.Tensor, layer_ix: int) -> torch.Tensor:
        return hidden_of(sounds) + layer_ix


class MuqModel:
    def __call__(self, sounds: torch.Tensor) -> types.SimpleNamespace:
        return types.SimpleNamespace(last_hidden_state=hidden_of(sounds))


class CaptionModel:
    def generate(self, *, samples: torch.Tensor, num_beams: int) -> list[str]:
        assert samples.shape[1] == 160_000
        return [f"part  {number} with {num_beams}" for number in range(len(samples))]


def run(
    script: types.ModuleType,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str | Path,
) -> None:
    monkeypatch.setattr(script, "load_model", lambda *_: model)
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments), "--device", "cpu"])
    script.main()


@pytest.mark.parametrize(
    ("modality", "arguments", "texts"),
    [
        ("semantic", [], {"a": "rock, calm", "c": "jazz"}),
        ("semantic", ["--caption"], {"a": "rock, calm. Slow.", "c": "jazz"}),
        ("metadata", [], {"a": "One by X from LP 1999", "b": "Two by Y", "c": "Three by Z",
                          "d": "Four by Z"}),
        ("lyrics", [], {"a": "la la"}),
    ],
)  # fmt: skip
def test_nv_embed_writes_unit_vectors_of_the_rendered_texts(
    modality: str,
    arguments: list[str],
    texts: dict[str, str],
    scripts: dict[str, types.ModuleType],
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    model, out = TextModel(), tmp_path / "vectors.parquet"
    run(scripts["nv_embed_v2"], model, monkeypatch, catalog, out, "--modality", modality,
        "--batch-size", "1", "--revision", "abc", *arguments)  # fmt: skip
    table = pq.read_table(out)
    assert table["track_id"].to_pylist() == list(texts)
    assert [asked["texts"][0] for asked in model.asked] == list(texts.values())
    assert model.asked[0]["instruction"] == ""
    vectors = np.array(table["vector"].to_pylist())
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-6)
    assert vectors[0, 0] / vectors[0, 1] == pytest.approx(len(texts["a"]), rel=1e-3)


def test_nv_embed_gets_its_form_of_an_instruction(
    scripts: dict[str, types.ModuleType],
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    model = TextModel()
    run(scripts["nv_embed_v2"], model, monkeypatch, catalog, tmp_path / "o.parquet", "--modality",
        "lyrics", "--instruction", "Find songs", "--max-length", "99",
        "--revision", "abc")  # fmt: skip
    assert model.asked[0]["instruction"] == "Instruct: Find songs\nQuery: "
    assert model.asked[0]["max_length"] == 99


def test_code_of_a_repository_runs_at_a_named_commit_only(
    scripts: dict[str, types.ModuleType],
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    model = TextModel()
    with pytest.raises(SystemExit):
        run(scripts["nv_embed_v2"], model, monkeypatch, catalog, tmp_path / "o.parquet",
            "--modality", "lyrics")  # fmt: skip
    assert "--revision" in capsys.readouterr().err
    assert model.asked == []


@pytest.mark.parametrize(
    ("name", "model", "arguments", "shift"),
    [
        ("musicfm", FmModel(), ["--code", ".", "--stats", "s", "--weights", "w", "--layer", 7], 7),
        ("muq", MuqModel(), [], 0),
    ],
)
def test_audio_scripts_write_the_mean_over_time(
    name: str,
    model: Any,
    arguments: list[str | int],
    shift: float,
    scripts: dict[str, types.ModuleType],
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "audio.parquet"
    run(scripts[name], model, monkeypatch, catalog, out, *map(str, arguments))
    table = pq.read_table(out)
    assert table["track_id"].to_pylist() == ["a", "b"]
    assert np.array(table["vector"].to_pylist()) == pytest.approx(
        np.full((2, 2), shift + 0.1), abs=0.03
    )
    assert "row 2, track c" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "count"), [("10", 1), ("20", 2)])
def test_lp_music_caps_writes_a_sentence_for_every_ten_seconds(
    seconds: str,
    count: int,
    scripts: dict[str, types.ModuleType],
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    out = tmp_path / "captions.parquet"
    run(scripts["lp_music_caps"], CaptionModel(), monkeypatch, catalog, out, "--code", ".",
        "--weights", "w", "--seconds", seconds, "--beams", "3")  # fmt: skip
    table = pq.read_table(out)
    assert table.column_names == ["track_id", "caption"]
    said = [f"part {number} with 3" for number in range(2 * count)]
    assert table["caption"].to_pylist() == [" ".join(said[:count]), " ".join(said[count:])]


def test_an_interrupted_script_goes_on_and_gives_the_same_bytes(
    scripts: dict[str, types.ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write, calls = scripts["common"].write_table, []
    monkeypatch.setattr(scripts["common"], "SHARD_TRACKS", 3)
    ids = [f"t{number}" for number in range(8)]
    items = ["x" * number if number != 4 else None for number in range(1, 9)]

    def encode(texts: list[str]) -> np.ndarray:
        calls.append(texts)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return np.array([[len(text), 0.5] for text in texts], dtype=np.float32)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut.parquet", "vector", ids, items, encode, batch_size=2, options={})
    assert not (tmp_path / "cut.parquet").exists()
    write(tmp_path / "cut.parquet", "vector", ids, items, encode, batch_size=2, options={})
    assert len(calls) == 4 + 1  # of three shards only the last is made again
    write(tmp_path / "whole.parquet", "vector", ids, items, encode, batch_size=2, options={})
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob(".*"))
    assert [row[0] for row in pq.read_table(tmp_path / "cut.parquet")["vector"].to_pylist()] == [
        1, 2, 3, 5, 6, 7, 8,
    ]  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_pins_what_it_needs_and_imports_nothing_of_the_package(name: str):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    block = re.match(r"# /// script\n((?:# .*\n)+)# ///\n", text)
    assert block is not None
    metadata = tomllib.loads("".join(line[2:] for line in block[1].splitlines(keepends=True)))
    assert all("==" in package for package in metadata["dependencies"])
    assert {"torch", "pyarrow", "numpy"} <= {p.split("==")[0] for p in metadata["dependencies"]}
    assert not re.search(r"^\s*(from|import) talkplay_hf", text, flags=re.MULTILINE)


def test_a_folder_that_is_no_catalog_is_named(scripts: dict[str, types.ModuleType], tmp_path: Path):
    with pytest.raises(SystemExit, match=r"tracks\.parquet"):
        scripts["common"].read_tracks(tmp_path)
