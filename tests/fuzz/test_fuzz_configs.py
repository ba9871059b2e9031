"""Config files, manifests and shared conversations that anybody may have written."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from calm import EXAMPLES, REFUSED, calm, fuzz
from hypothesis import strategies as st
from odd import DEEP, JSON, JSON_TEXT, NASTY, TEXT, altered, damaged

from talkplay_hf.catalog.schema import MODALITIES, Catalog, Track
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.errors import TalkPlayError
from talkplay_hf.features.encoders import ENCODERS, make_encoder
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "space"))

from talkplay_space import sharing
from talkplay_space.conversation import RefusedError
from talkplay_space.settings import Settings


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@EXAMPLES
def test_any_tokenizer_config_is_read_or_refused(
    tokenizer: TalkPlayTokenizer, tmp_path: Path, examples: int
) -> None:
    path = tmp_path / files.TALKPLAY_CONFIG
    values = json.loads(json.dumps(tokenizer.config.to_dict()))

    def check(raw: bytes) -> None:
        path.write_bytes(raw)
        config = calm(TalkPlayConfig.load, path)
        if config is not REFUSED:
            calm(lambda: len(config.music_tokens) if sum(config.codes) < 10**5 else 0)

    some = altered(values).map(lambda one: bytes_of(json.dumps(one)))
    fuzz(examples, check, raw=some | JSON_TEXT.map(bytes_of) | damaged(path_bytes(values)))


def path_bytes(values: Any) -> bytes:
    return json.dumps(values).encode()


@EXAMPLES
def test_any_manifest_is_read_or_refused(
    world_folder: Path, conversations_folder: Path, tmp_path: Path, examples: int
) -> None:
    folders = [shutil.copytree(one, tmp_path / one.name)
               for one in (world_folder, conversations_folder)]  # fmt: skip
    manifests = [json.loads((one / files.MANIFEST).read_text("utf-8")) for one in folders]

    def check(number: int, new: dict[str, Any], raw: bytes | None) -> None:
        folder = folders[number]
        content = path_bytes({**manifests[number], **new}) if raw is None else raw
        (folder / files.MANIFEST).write_bytes(content)
        calm(verify_folder, folder)
        calm(Catalog.load if number == 0 else load_conversations, folder)

    news = st.dictionaries(
        st.sampled_from(["kind", "files", "format_version", "made_from", "tracks", "simulator"]),
        JSON | st.dictionaries(NASTY | st.just("tracks.parquet"), JSON, max_size=3),
        max_size=2,
    )
    raws = st.none() | st.none() | JSON_TEXT.map(bytes_of) | damaged(path_bytes(manifests[0]))
    fuzz(examples, check, number=st.integers(0, 1), new=news, raw=raws)


def is_shallow(text: str) -> bool:
    """Whether YAML reads it soon: it takes time with the square of the depth. The files that are
    written in it are the user's own."""
    return len(text) < 3_000


@EXAMPLES
def test_any_simulator_options_are_read_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "simulator.yaml"
    values = SimulatorOptions().to_dict()

    def check(raw: bytes) -> None:
        path.write_bytes(raw)
        calm(SimulatorOptions.load, path)

    lines = st.sampled_from(
        ["a: &x [*x]", "!!python/object/apply:os.system [id]", "turns: [1, 2]", "a: 1e400", "? [a]",
         "variety: .nan", "turns: [.inf, 2]", "kinds: {genre: -.inf}", "<<: [1]", "- ", "%YAML 9",
         "a: 2001-99-99", "a: 0o9", "a: !!binary x", "a: !!set {a}", "turns: 1:99:99", "\t"]
    )  # fmt: skip
    laughs = "a: &a [1]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    deep = DEEP.filter(is_shallow)
    texts = st.lists(lines | NASTY, max_size=4).map("\n".join) | deep | st.just(laughs)
    some = altered(values).map(lambda one: bytes_of(json.dumps(one)))
    fuzz(examples, check, raw=some | some | texts.map(bytes_of) | st.binary(max_size=30))


@EXAMPLES
def test_any_encoder_config_is_taken_or_refused(examples: int) -> None:
    def check(modality: Any, config: Any, dim: Any) -> None:
        calm(make_encoder, modality, config, dim=dim)

    # those whose modules are quick to import
    names = st.sampled_from(["ppmi-svd", "tfidf-svd", "descriptors", "nothing", *MODALITIES])
    options = st.sampled_from(["encoder", "dim", "window", "model", "batch_size", "seconds"])
    configs = st.dictionaries(options, names | JSON, max_size=3) | names | JSON | TEXT
    assert "ppmi-svd" in ENCODERS
    fuzz(
        examples,
        check,
        modality=st.sampled_from([*MODALITIES, "x"]) | JSON.filter(lambda one: not callable(one)),
        config=configs.filter(lambda one: "sentence" not in repr(one)),
        dim=st.none() | st.integers(1, 64),
    )


@pytest.mark.slow
def test_any_recipe_is_read_or_refused(tmp_path: Path) -> None:
    from talkplay_hf.training.arguments import parse_recipe

    path = tmp_path / "sft.yaml"
    whole = (Path(__file__).resolve().parents[2] / "recipes/quickstart/sft.yaml").read_bytes()
    values = yaml.safe_load(whole)

    def check(raw: bytes) -> None:
        path.write_bytes(raw)
        calm(parse_recipe, ["--config", str(path), "--output_dir", str(tmp_path / "out")])

    some = altered(values).map(lambda one: bytes_of(json.dumps(one)))
    texts = JSON_TEXT.filter(is_shallow).map(bytes_of)
    fuzz(40, check, raw=some | damaged(whole) | texts)


TURN = {"text": "hi", "tracks": ["t1"], "reply": "ok", "reaction": "love"}
SHARED = {
    "format": sharing.FORMAT,
    "version": sharing.VERSION,
    "turns": [TURN, {"text": "more", "tracks": ["t2"]}],
    "settings": Settings(tracks=2, seed=7).to_dict(),
    "removed": ["t1"],
    "order": ["t2", "t1"],
}


@EXAMPLES
def test_any_harm_to_a_shared_conversation_is_refused_or_harmless(examples: int) -> None:
    """Bytes and links that began as right ones; what is read can be written and read again."""

    def check(raw: bytes, how: str) -> None:
        if how == "json":
            read = calm(sharing.from_json, raw, errors=RefusedError)
        else:
            link = sharing.base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
            if how == "packed":
                packed = sharing.zlib.compress(raw)
                link = sharing.base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
            read = calm(sharing.from_link, link, errors=RefusedError)
        if read is not REFUSED:
            assert sharing.from_json(sharing.to_json(read)) == read

    whole = orjson.dumps(SHARED)
    packed = sharing.zlib.compress(whole)
    turns = st.lists(altered(TURN) | JSON, max_size=3)
    forged = st.builds(lambda one, more: {**one, "turns": more}, altered(SHARED), turns)
    forged = forged | altered(SHARED)
    raws = damaged(whole) | forged.map(path_bytes) | damaged(packed) | JSON_TEXT.map(bytes_of)
    fuzz(examples, check, raw=raws, how=st.sampled_from(["json", "packed", "link"]))


@EXAMPLES
def test_no_export_can_be_steered_by_a_track(examples: int) -> None:
    """No line of an M3U but ours, no formula in a CSV, JSON that parses."""

    def check(title: str, artist: str, album: str, audio: str, tags: list[str]) -> None:
        track = Track("t1", title, artist, album=album, audio=audio, tags=tuple(tags))
        text = calm(sharing.m3u, [track])
        lines = text.split("\n")
        assert lines[:3] == ["#EXTM3U", "#EXTENC:UTF-8", "#PLAYLIST:TalkPlay"]
        assert len(text.splitlines()) == len(lines) - 1 <= 6
        place = lines[-2]
        assert place.startswith(("http://", "https://")) or not set(place) & set("/\\:")
        assert not place.startswith("#")
        table = calm(sharing.csv_text, [track])
        sharing.csv.field_size_limit(len(table) + 1)
        for row in sharing.csv.reader(sharing.io.StringIO(table, newline="")):
            for cell in row:
                assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
        assert json.loads(calm(sharing.jspf, [track]))

    fields = TEXT | st.sampled_from(["=1+1", " =1", "\t=1", "\u00a0@x", "\r\n#EXTINF:1,x", "//x"])
    fields = fields.map(lambda text: text.encode("utf-8", "replace").decode())
    addresses = fields | st.sampled_from(
        ["https://x/\n#EXT", "javascript:alert(1)", "HTTP://X", "http://a b", "/etc/passwd"]
    )
    fuzz(
        examples,
        check,
        title=fields,
        artist=fields,
        album=fields,
        audio=addresses,
        tags=st.lists(fields, max_size=2),
    )


def test_an_error_of_ours_is_what_calm_takes_and_nothing_else() -> None:
    def wrong() -> None:
        raise KeyError("x")

    def right() -> None:
        raise TalkPlayError("the file is wrong")

    def long() -> None:
        raise TalkPlayError("x" * 9_999)

    def lines() -> None:
        raise TalkPlayError("a\nb")

    def forever() -> None:
        while True:
            pass

    assert calm(right) is REFUSED
    with pytest.raises(KeyError):
        calm(wrong)
    for bad in (long, lines, forever):
        with pytest.raises(AssertionError):
            calm(bad)
