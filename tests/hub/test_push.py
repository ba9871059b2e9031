"""A push is one commit, on what was looked at, and takes nothing from others."""

import json
import os
import re
from pathlib import Path

import pytest
from loopback import LoopbackHub
from loopback_http import json_reply
from small_folders import CARD, EDITED, SONGS, contents_of, make_folder

from talkplay_hf.errors import ArtifactError, HubError, InputError, TalkPlayError
from talkplay_hf.hub.cards.seal import seal
from talkplay_hf.hub.needed import NEEDED, OWN, PICKLES, REPO_TYPES, matches
from talkplay_hf.hub.push import Pushed, files_to_push, push_folder

REPO = "me/songs"


def push(folder: Path, repo_id: str = REPO, **options) -> Pushed:
    return push_folder(folder, repo_id, **{"repo_type": "dataset", **options})


def names(hub: LoopbackHub, revision: str = "main") -> set[str]:
    return set(hub.files(REPO, "dataset", revision))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "songs")


def test_a_push_makes_the_repo_and_one_commit_that_holds_the_folder(hub, folder):
    pushed = push(folder, message="First songs")
    assert hub.files(REPO, "dataset") == contents_of(folder)
    log = hub.repo(REPO, "dataset").log()
    assert [commit.message for commit in log] == ["First songs", "initial commit"]
    url = f"{hub.url}/datasets/{REPO}"
    assert pushed == Pushed(url, log[0].sha, None, False, ())


def test_a_name_without_an_owner_is_a_repo_of_ones_own(hub, folder):
    assert push(folder, "songs").url == f"{hub.url}/datasets/me/songs"
    assert names(hub) == set(contents_of(folder))


def test_a_model_repo_takes_a_catalog_without_a_warning(hub, folder, recwarn):
    push(folder, repo_type="model")
    assert set(hub.files(REPO, "model")) == set(contents_of(folder))
    assert not [one for one in recwarn if "data file" in str(one.message)]


def test_pushing_the_same_folder_again_makes_no_commit_and_sends_nothing(hub, folder):
    first = push(folder)
    hub.requests.clear()
    assert push(folder) == first
    assert {request.method for request in hub.requests} == {"GET", "HEAD"}


def test_only_what_changed_is_sent(hub, folder):
    push(folder)
    make_folder(folder, {**SONGS, "tracks.parquet": b"other"})
    hub.requests.clear()
    push(folder)
    assert hub.files(REPO, "dataset") == contents_of(folder)
    assert len(hub.asked("^/lfs/", "PUT")) == 1
    (commit,) = hub.asked("/commit/", "POST")
    assert b"playlists" not in commit.body


def test_sub_folders_are_pushed(hub, folder):
    make_folder(folder, {**SONGS, "audio/deep/1.wav": b"RIFF", "audio/2.wav": b"RIFF2"})
    push(folder)
    assert {"audio/deep/1.wav", "audio/2.wav"} <= names(hub)


def test_hidden_files_pickles_and_checkpoints_are_left_out_and_told(hub, folder):
    secrets = ("training_args.bin", "x.PT", "build.json", "checkpoint-5/w.safetensors")
    for name in (".env", ".git/config", *secrets):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"secret")
    kept = set(contents_of(folder))
    pushed = push(folder)
    left = (".env", ".git/", "build.json", "checkpoint-5/", "training_args.bin", "x.PT")
    assert pushed.left_out == left
    assert names(hub) == {name for name in kept if not name.startswith(left)}
    assert not any(b"secret" in request.body for request in hub.requests)


@pytest.mark.parametrize("suffix", sorted(PICKLES))
def test_no_kind_asks_for_or_deletes_pickles(suffix):
    for patterns in (*NEEDED.values(), *OWN.values()):
        assert not matches(f"model{suffix}", patterns)
        assert not matches(f"pytorch_model{suffix}", patterns)


def test_every_kind_has_a_type_of_repo():
    assert NEEDED.keys() == REPO_TYPES.keys()
    assert OWN.keys() == {kind for kind in REPO_TYPES if REPO_TYPES[kind] == "model"}


def test_a_link_out_of_the_folder_is_refused(hub, folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(InputError, match=r"link\.json: is a link out of the folder"):
        push(folder)
    assert not hub.repos


def test_a_link_to_a_folder_is_refused_and_one_inside_is_followed(folder, tmp_path):
    (folder / "same.parquet").symlink_to(folder / "tracks.parquet")
    assert "same.parquet" in files_to_push(folder)[0]
    (folder / "audio").symlink_to(tmp_path)
    with pytest.raises(InputError, match="audio: is a link to a folder"):
        files_to_push(folder)


def test_a_pipe_or_a_strange_name_is_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="pipe: is not a file that can be read"):
        files_to_push(folder)
    (folder / "pipe").unlink()
    (folder / "a\nb").write_text("x")
    with pytest.raises(InputError, match="rename it"):
        files_to_push(folder)


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "has space/x", "../x", "me/..", "me/x--y", "me/-x", "x" * 97, "/abs/path"]
)
def test_an_impossible_name_is_refused_before_anything_else(hub, tmp_path, name):
    with pytest.raises(InputError, match="owner/name"):
        push(tmp_path / "no such folder", name)
    assert not hub.requests


def test_an_empty_or_absent_folder_is_refused_before_any_request(hub, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file that can be pushed"):
        push(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        push(tmp_path / "none")
    assert not hub.requests


def test_a_damaged_folder_is_not_pushed(hub, folder):
    (folder / "tracks.parquet").write_bytes(b"changed")
    with pytest.raises(ArtifactError, match=r"tracks\.parquet"):
        push(folder)
    assert not hub.requests


# the card


def test_a_card_can_be_given_as_text(hub, folder):
    (folder / "README.md").unlink()
    push(folder, card="# Given\n")
    assert hub.files(REPO, "dataset")["README.md"] == b"# Given\n"
    assert not (folder / "README.md").exists()


def test_our_card_on_the_hub_is_replaced(hub, folder):
    hub.put(REPO, {"README.md": seal("# Old")}, "dataset")
    assert not push(folder).kept_card
    assert hub.files(REPO, "dataset")["README.md"] == CARD.encode()


def test_a_card_that_a_person_edited_is_kept_and_the_rest_is_pushed(hub, folder):
    hub.put(REPO, {"README.md": EDITED}, "dataset")
    assert push(folder).kept_card
    assert hub.files(REPO, "dataset")["README.md"] == EDITED.encode()
    assert names(hub) == set(contents_of(folder))
    assert push(folder, card="# Other").kept_card
    assert not push(folder, overwrite_card=True).kept_card
    assert hub.files(REPO, "dataset")["README.md"] == CARD.encode()


def test_a_card_of_a_persons_own_that_is_there_already_is_not_told_as_kept(hub, folder):
    assert not push(folder, card=EDITED).kept_card
    assert not push(folder, card=EDITED).kept_card
    assert push(folder, card=EDITED + "More.").kept_card


def test_an_edit_made_on_the_branch_counts_not_that_of_another_branch(hub, folder):
    hub.put(REPO, {"README.md": CARD}, "dataset")
    hub.put(REPO, {"README.md": EDITED}, "dataset", revision="dev")
    assert not push(folder).kept_card
    assert push(folder, revision="dev").kept_card


# what others have there


def test_own_files_that_the_folder_no_longer_has_are_deleted_and_others_stay(hub, folder):
    others = {"notes.txt": b"mine", "vocab.txt": b"mine", "LICENSE": b"mine"}
    hub.put(REPO, {**others, "model-00001-of-00002.safetensors": b"old"}, "model")
    before = hub.repo(REPO).refs["main"]
    push(folder, repo_type="model", own=OWN["model"])
    assert set(hub.files(REPO)) == {*contents_of(folder), *others}
    assert hub.repo(REPO).log()[0].parent == before  # in the same commit


def test_of_a_dataset_what_an_earlier_push_brought_is_deleted_and_nothing_else(hub, tmp_path):
    talks = {"train.parquet": b"1", "dev-00000-of-00002.parquet": b"2", "README.md": CARD.encode()}
    push(make_folder(tmp_path / "old", talks, kind="conversations"))
    others = {"survey.parquet": b"mine", "train-extra.parquet": b"mine", "audio/1.wav": b"mine"}
    hub.put(REPO, others, "dataset")
    new = make_folder(tmp_path / "new", {"train.parquet": b"3"}, kind="conversations")
    push(new)
    assert names(hub) == {*contents_of(new), *others, "README.md"}
    push(new)
    assert len(hub.repo(REPO, "dataset").log()) == 4


def test_tables_of_clips_that_an_earlier_push_brought_are_deleted(hub, folder):
    push(folder)
    manifest = {"kind": "catalog", "files": {}, "packed": {"audio.parquet": "a" * 64}}
    old = {"manifest.json": json.dumps(manifest).encode(), "audio.parquet": b"clips"}
    hub.put(REPO, old, "dataset")
    push(folder)
    assert names(hub) == set(contents_of(folder))


@pytest.mark.parametrize("manifest", [b"[", b"[]", b'{"kind": 3}', b'{"manifest_version": 3}'])
def test_a_manifest_of_something_else_deletes_nothing(hub, folder, manifest):
    hub.put(REPO, {"manifest.json": manifest, "old.parquet": b"mine"}, "dataset")
    push(folder)
    assert names(hub) == {*contents_of(folder), "old.parquet"}


def test_a_dataset_of_another_kind_is_not_mixed_up(hub, folder, tmp_path):
    push(make_folder(tmp_path / "talks", {"train.parquet": b"1"}, kind="conversations"))
    with pytest.raises(HubError, match=r"holds conversations.*catalog.*another repo"):
        push(folder)
    assert names(hub) == {"train.parquet", "manifest.json"}


def test_a_card_is_never_deleted(hub, folder):
    hub.put(REPO, {"README.md": EDITED}, "dataset")
    (folder / "README.md").unlink()
    push(folder, own=("*",))
    assert hub.files(REPO, "dataset")["README.md"] == EDITED.encode()


def test_stale_files_alone_make_a_commit(hub, folder):
    push(folder, repo_type="model")
    hub.put(REPO, {"model.safetensors": b"old"}, "model")
    push(folder, repo_type="model", own=OWN["model"])
    assert set(hub.files(REPO)) == set(contents_of(folder))


def test_a_commit_of_somebody_else_meanwhile_is_not_lost(hub, folder):
    push(folder)
    make_folder(folder, {**SONGS, "tracks.parquet": b"new"})
    hub.fault("POST", "/preupload/", before=lambda: hub.put(REPO, {"theirs": b"x"}, "dataset"))
    with pytest.raises(HubError, match=r"dataset repo me/songs: somebody committed.*try again"):
        push(folder)
    assert hub.files(REPO, "dataset")["tracks.parquet"] == SONGS["tracks.parquet"]
    hub.faults.clear()
    push(folder)
    assert hub.files(REPO, "dataset")["tracks.parquet"] == b"new"
    assert "theirs" in names(hub)


# where it goes


def test_a_private_repo_is_seen_by_its_owner_alone(hub, folder):
    push(folder, private=True)
    assert hub.repo(REPO, "dataset").private
    push(folder, private=False)
    assert hub.repo(REPO, "dataset").private  # only at the making
    with pytest.raises(HubError, match="may not write there"):
        push(folder, token="hf_other")


def test_private_data_do_not_go_to_a_public_repo(hub, folder):
    hub.put(REPO, {"x": b"x"}, "dataset")
    with pytest.raises(HubError, match="exists and is public"):
        push(folder, private=True)
    assert names(hub) == {"x"}


def test_a_branch_is_made_from_main(hub, folder):
    hub.put(REPO, {"x": b"x"}, "dataset")
    push(folder, revision="dev")
    assert names(hub) == {"x"}
    assert names(hub, "dev") == {"x", *contents_of(folder)}


def test_a_commit_is_no_branch(hub, folder):
    with pytest.raises(InputError, match="is a commit; name a branch"):
        push(folder, revision="0" * 40)


def test_a_pull_request_takes_no_write_right_and_leaves_main_alone(hub, folder):
    hub.put("other/songs", {"x": b"x"}, "dataset")
    pushed = push(folder, "other/songs", create_pr=True)
    assert pushed.pr_url == f"{hub.url}/datasets/other/songs/discussions/1"
    assert set(hub.files("other/songs", "dataset")) == {"x"}
    assert set(hub.files("other/songs", "dataset", "refs/pr/1")) == {"x", *contents_of(folder)}
    assert not hub.asked("/repos/create")
    make_folder(folder, {**SONGS, "tracks.parquet": b"better"})
    with pytest.raises(HubError):
        push(folder, "other/songs", revision="refs/pr/9")


def test_a_pull_request_makes_no_branch(hub, folder):
    hub.put(REPO, {"x": b"x"}, "dataset")
    with pytest.raises(HubError, match="has no revision dev"):
        push(folder, revision="dev", create_pr=True)
    assert set(hub.repo(REPO, "dataset").refs) == {"main"}


def test_without_a_token_one_is_told_to_log_in(hub, folder):
    with pytest.raises(HubError, match="hf auth login"):
        push(folder, token=False)
    with pytest.raises(HubError, match=r"token.*hf auth login"):
        push(folder, token="hf_wrong")
    assert not hub.repos


def test_a_hub_that_names_no_commit_is_told(hub, folder):
    def nameless(reply):
        facts = json.loads(reply.body)
        return json_reply({key: value for key, value in facts.items() if key != "sha"})

    push(folder)
    hub.fault("GET", "/api/datasets/", edit=nameless)
    with pytest.raises(HubError, match="does not say which commit it is at; try again"):
        push(folder)


def test_offline_a_push_says_so(hub, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"me/songs: HF_HUB_OFFLINE is set.*unset it"):
        push(folder)
    assert not hub.requests


def test_every_message_is_one_line(hub, folder):
    hub.fault("*", ".", status=400, message="line one\nline two")
    with pytest.raises(TalkPlayError) as error:
        push(folder)
    assert "\n" not in str(error.value)
    assert re.search("line one", str(error.value))
