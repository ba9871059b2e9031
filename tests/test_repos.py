"""Every kind of folder goes to the Hub and comes back."""

import json
from pathlib import Path
from typing import Any

import pytest

from talkplay_hf import cli
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.errors import ArtifactError, HubError, InputError
from talkplay_hf.features.store import load_features
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.repos import pull, push

REPO = "me/thing"


@pytest.fixture
def model_folder(recommender: Recommender, tmp_path: Path) -> Path:
    recommender.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != files.CARD}


def test_a_catalog_comes_back_without_its_clips(
    hub: Any, audio_world: Catalog, tmp_path: Path
) -> None:
    assert audio_world.root is not None
    pushed = push(audio_world.root, REPO, license="cc0-1.0")
    assert pushed.kind == "catalog"
    assert not [name for name in hub.files(REPO, "dataset") if "audio" in name]
    back = Catalog.load(pull(REPO, tmp_path / "back"))
    assert back.fingerprint == audio_world.fingerprint
    assert "license: cc0-1.0" in hub.files(REPO, "dataset")[files.CARD].decode()


def test_a_catalog_comes_back_with_its_clips_or_not_at_all(
    hub: Any, audio_world: Catalog, tmp_path: Path
) -> None:
    root = audio_world.root
    assert root is not None
    push(root, REPO, audio=True)
    back = pull(REPO, tmp_path / "back", audio=True)
    clips = {path.relative_to(root): path.read_bytes() for path in root.glob("audio/*")}
    assert clips == {path.relative_to(back): path.read_bytes() for path in back.glob("audio/*")}
    assert Catalog.load(back).fingerprint == audio_world.fingerprint
    hub.put(REPO, {files.PLAYLISTS: None}, "dataset")
    with pytest.raises(HubError, match=rf"{files.PLAYLISTS}: cannot be copied \(No such file"):
        pull(REPO, tmp_path / "out", audio=True)
    assert not (tmp_path / "out").exists()


def test_clips_can_be_left_on_the_hub(hub: Any, audio_world: Catalog, tmp_path: Path) -> None:
    push(audio_world.root or "", REPO, audio=True)
    back = pull(REPO, tmp_path / "back")
    assert not list(back.glob("audio*"))
    push(back, "me/again")
    push(audio_world.root or "", REPO)
    assert not [name for name in hub.files(REPO, "dataset") if "audio" in name]
    with pytest.raises(InputError, match="has no audio"):
        pull(REPO, tmp_path / "more", audio=True)


def test_clips_that_lie_in_a_repo_as_files_come_too(
    hub: Any, audio_world: Catalog, tmp_path: Path
) -> None:
    root = audio_world.root
    assert root is not None
    whole = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    hub.put(REPO, {name: path.read_bytes() for name, path in whole.items()}, "dataset")
    back = pull(REPO, tmp_path / "back", audio=True)
    assert {str(one.relative_to(back)) for one in back.rglob("*") if one.is_file()} == set(whole)


def test_conversations_come_back(hub: Any, conversations_folder: Path, tmp_path: Path) -> None:
    push(conversations_folder, REPO)
    back = pull(f"datasets/{REPO}", tmp_path / "back")
    assert load_conversations(back) == load_conversations(conversations_folder)
    assert contents(back) == contents(conversations_folder)


def test_features_come_back_byte_for_byte(hub: Any, features_folder: Path, tmp_path: Path) -> None:
    push(features_folder, REPO)
    assert "semantic.safetensors" not in hub.files(REPO, "dataset")
    back = pull(REPO, tmp_path / "back")
    assert contents(back) == contents(features_folder)
    assert load_features(back)[0] == load_features(features_folder)[0]


def test_a_tokenizer_comes_back(hub: Any, tokenizer_folder: Path, tmp_path: Path) -> None:
    push(tokenizer_folder, REPO)
    assert contents(pull(REPO, tmp_path / "back")) == contents(tokenizer_folder)


def test_a_model_comes_back_and_answers_the_same(
    hub: Any, model_folder: Path, recommender: Recommender, tmp_path: Path
) -> None:
    push(model_folder, REPO)
    back = Recommender.from_pretrained(pull(REPO, tmp_path / "back"))
    asked = "something calm"
    assert back.chat(asked, seed=3).codes == recommender.chat(asked, seed=3).codes


def test_a_model_that_was_pulled_has_what_its_card_is_written_from(
    hub: Any, model_folder: Path, tmp_path: Path
) -> None:
    files.write_json(model_folder / files.TRAINING_REPORT, {"steps": 1234})
    files.refresh_manifest(model_folder)
    push(model_folder, REPO)
    push(pull(REPO, tmp_path / "back"), "me/again")
    assert "| steps | 1,234 |" in hub.files("me/again")[files.CARD].decode()


def test_the_weights_of_a_model_can_be_left_on_the_hub(
    hub: Any, model_folder: Path, tmp_path: Path
) -> None:
    push(model_folder, REPO)
    hub.requests.clear()
    back = pull(REPO, tmp_path / "back", weights=False)
    assert files.folder_kind(back) == "tokenizer"
    assert not hub.asked(r"resolve/.*/model\.safetensors", "*")


def test_what_was_left_on_the_hub_keeps_no_pull_from_being_pushed(
    hub: Any, model_folder: Path, tmp_path: Path
) -> None:
    (model_folder / "training_args.bin").write_bytes(b"settings")
    files.refresh_manifest(model_folder)
    push(model_folder, REPO)
    push(pull(REPO, tmp_path / "model"), "me/model")
    tokens = pull(REPO, tmp_path / "tokens", weights=False)
    assert files.read_manifest(tokens, "tokenizer")
    push(tokens, "me/tokens")
    assert files.folder_kind(pull("me/tokens", tmp_path / "again")) == "tokenizer"


def test_a_pull_that_stops_leaves_no_catalog_that_names_absent_clips(
    hub: Any, audio_world: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(audio_world.root or "", REPO, audio=True)
    move = Path.rename

    def stop(path: Path, target: Path) -> Path:
        move(path, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        pull(REPO, tmp_path / "back")
    assert "packed" not in files.read_manifest(tmp_path / "back", "catalog")


def test_a_model_and_a_dataset_may_share_a_name(
    hub: Any, tokenizer_folder: Path, conversations_folder: Path, tmp_path: Path
) -> None:
    push(tokenizer_folder, REPO)
    push(conversations_folder, REPO)
    assert files.folder_kind(pull(REPO, tmp_path / "a")) == "tokenizer"
    assert files.folder_kind(pull(f"datasets/{REPO}", tmp_path / "b")) == "conversations"


def test_a_folder_of_something_else_is_not_pushed(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is no model"):
        push(tmp_path, REPO)
    assert not hub.asked(r".*", "*")


def test_a_folder_that_lacks_a_file_is_not_pushed(hub: Any, world: Catalog, tmp_path: Path) -> None:
    world.save(tmp_path / "catalog")
    (tmp_path / "catalog" / files.PLAYLISTS).unlink()
    with pytest.raises(ArtifactError, match=r"playlists\.parquet"):
        push(tmp_path / "catalog", REPO)
    assert not hub.asked(r".*", "*")


@pytest.mark.parametrize("name", [files.CARD, files.TRACKS])
def test_a_file_that_leads_out_of_the_folder_is_not_pushed(
    hub: Any, world: Catalog, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "catalog"
    world.save(folder)
    (folder / files.CARD).write_text("words")
    (folder / name).rename(tmp_path / "private")
    (folder / name).symlink_to(tmp_path / "private")
    with pytest.raises(InputError, match=rf"{name}: is a link out of the folder"):
        push(folder, REPO)
    assert not hub.asked(r".*", "*")


def test_only_a_catalog_has_audio(hub: Any, tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only a catalog has audio"):
        push(tokenizer_folder, REPO, audio=True)
    push(tokenizer_folder, REPO)
    with pytest.raises(InputError, match="only a catalog has audio"):
        pull(REPO, tmp_path / "out", audio=True)
    assert not (tmp_path / "out").exists()


def test_only_a_model_has_weights_to_leave_out(hub: Any, tmp_path: Path) -> None:
    manifest = b'{"kind": "catalog", "format_version": 1, "files": {}}'
    hub.put(REPO, {files.MANIFEST: manifest}, "dataset")
    with pytest.raises(InputError, match="holds a catalog, which has no weights to leave out"):
        pull(REPO, tmp_path / "out", weights=False)
    assert not (tmp_path / "out").exists()


def test_a_damaged_repo_is_not_unpacked(hub: Any, features_folder: Path, tmp_path: Path) -> None:
    push(features_folder, REPO)
    rows = hub.files(REPO, "dataset")["metadata.parquet"]
    hub.put(REPO, {"metadata.parquet": rows[:-40] + bytes(40)}, repo_type="dataset")
    with pytest.raises(HubError, match="metadata"):
        pull(REPO, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_licence_that_was_given_once_stays(hub: Any, world: Catalog, tmp_path: Path) -> None:
    world.save(tmp_path / "catalog")
    push(tmp_path / "catalog", REPO, license="cc-by-4.0")
    push(tmp_path / "catalog", REPO)
    assert b"license: cc-by-4.0" in hub.files(REPO, "dataset")[files.CARD]
    push(tmp_path / "catalog", REPO, license="mit")
    assert b"license: mit" in hub.files(REPO, "dataset")[files.CARD]


def test_a_tokenizer_beside_a_model_leaves_its_card(
    hub: Any, model_folder: Path, tokenizer_folder: Path
) -> None:
    push(model_folder, REPO)
    before = hub.files(REPO)[files.CARD]
    assert push(tokenizer_folder, REPO).kept_card
    assert hub.files(REPO)[files.CARD] == before


def test_an_edited_card_goes_along_and_stays(hub: Any, world: Catalog, tmp_path: Path) -> None:
    world.save(tmp_path / "catalog")
    (tmp_path / "catalog" / files.CARD).write_text("---\nlicense: mit\n---\nMy own words.\n")
    push(tmp_path / "catalog", REPO)
    assert b"My own words." in hub.files(REPO, "dataset")[files.CARD]
    (tmp_path / "catalog" / files.CARD).unlink()
    assert push(tmp_path / "catalog", REPO).kept_card
    assert b"My own words." in hub.files(REPO, "dataset")[files.CARD]
    assert not push(tmp_path / "catalog", REPO, overwrite_card=True).kept_card
    assert b"My own words." not in hub.files(REPO, "dataset")[files.CARD]


def test_messages_that_quote_a_repo_do_not_steer_the_terminal(
    hub: Any, world: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.save(tmp_path / "catalog")
    push(tmp_path / "catalog", REPO)
    manifest = json.loads(hub.files(REPO, "dataset")[files.MANIFEST])
    manifest["format_version"] = "\x1b[2J\x1b]0;owned\x07"
    hub.put(REPO, {files.MANIFEST: json.dumps(manifest).encode()}, "dataset")
    assert cli.main(["pull", REPO, str(tmp_path / "back")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "owned" in said
    assert not {"\x1b", "\x07"} & set(said)


def test_the_commands_push_and_pull(
    hub: Any, world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["push", str(world_folder), REPO, "--private", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commit"]
    assert hub.repo(REPO, "dataset").private
    assert cli.main(["pull", REPO, str(tmp_path / "back")]) == 0
    assert "a catalog folder" in capsys.readouterr().out
    assert cli.main(["pull", "me/nothing", str(tmp_path / "no")]) == 2
    assert "me/nothing" in capsys.readouterr().err
