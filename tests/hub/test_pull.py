"""What is fetched from a repo, and that it is whole before anybody sees it."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from loopback import LoopbackHub, Reply
from small_folders import SONGS, contents_of, make_folder

from talkplay_hf.errors import ArtifactError, HubError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.needed import MODEL, NEEDED, TOKENIZER
from talkplay_hf.hub.pull import fetch, kind_of, pull_folder
from talkplay_hf.hub.push import push_folder
from talkplay_hf.hub.verify import REQUIRED

REPO = "me/songs"
UNNEEDED = {
    "notes.txt": b"mine",
    "picture.png": b"PNG",
    "evil.pkl": b"\x80\x04.",
    "sub/tracks.parquet": b"other",
}


@pytest.fixture
def songs(hub: LoopbackHub, tmp_path: Path) -> Path:
    """A catalog folder whose contents are on the Hub, among other files."""
    folder = make_folder(tmp_path / "songs")
    hub.put(REPO, {**contents_of(folder), **UNNEEDED}, "dataset")
    return folder


def get(**options) -> Path:
    return fetch(REPO, **{"repo_type": "dataset", "allow": NEEDED["catalog"], **options})


def pull(out: Path, **options) -> Path:
    return pull_folder(REPO, out, **{"kind": "catalog", **options})


def downloads(hub: LoopbackHub) -> list[str]:
    return [r.path.rpartition("/")[2] for r in hub.asked("/resolve/|/cdn/", "GET")]


def test_a_pull_gives_the_folder_that_was_pushed(hub, tmp_path):
    folder = make_folder(tmp_path / "songs", {**SONGS, "audio/a/1.wav": b"RIFF"})
    push_folder(folder, REPO, repo_type="dataset")
    out = pull(tmp_path / "out")
    assert contents_of(out) == contents_of(folder)
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_only_what_is_needed_comes(hub, songs, tmp_path):
    assert contents_of(pull(tmp_path / "out")) == contents_of(songs)
    asked = hub.asked("/resolve/|/cdn/")
    assert not [r for r in asked if r.path.endswith(("notes.txt", "png", "pkl"))]
    assert len(hub.asked("/cdn/", "GET")) == 3  # with the one in the sub folder


def test_of_a_model_repo_no_pictures_reports_or_other_formats_are_fetched(hub):
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    other = {
        *("pytorch_model.bin", "model.onnx", "model.gguf", "loss.png", "training_report.json"),
        *("onnx/model.safetensors", "checkpoint-5/config.json", "optimizer.pt"),
    }
    hub.put("me/model", dict.fromkeys((*wanted, *other), b"{}"))
    folder = fetch("me/model", repo_type="model", allow=MODEL)
    assert set(contents_of(folder)) == wanted
    assert set(contents_of(fetch("me/model", repo_type="model", allow=MODEL))) == wanted
    hub.put("me/tokens", dict.fromkeys((*wanted, *other), b"{}"))
    folder = fetch("me/tokens", repo_type="model", allow=TOKENIZER)
    assert set(contents_of(folder)) == {"tokenizer.json", "chat_template.jinja"}


def test_large_files_are_asked_for_without_the_token(hub, songs):
    get()
    assert hub.asked("/cdn/")
    assert not [r for r in hub.asked("/cdn/") if "authorization" in r.headers]
    assert all(r.headers["authorization"] == "Bearer hf_me" for r in hub.asked("/resolve/"))


def test_a_second_fetch_downloads_nothing(hub, songs):
    first = get()
    hub.requests.clear()
    assert get() == first
    assert not hub.asked("/resolve/|/cdn/")
    assert len(hub.requests) <= 3


def test_a_new_commit_brings_only_what_changed(hub, songs):
    first = get()
    hub.put(REPO, contents_of(make_folder(songs, {**SONGS, "tracks.parquet": b"new"})), "dataset")
    hub.requests.clear()
    second = get()
    assert first != second
    assert (second / "tracks.parquet").read_bytes() == b"new"
    assert (first / "tracks.parquet").read_bytes() == SONGS["tracks.parquet"]
    assert len(hub.asked("/cdn/", "GET")) == 1


def test_branches_tags_commits_and_pull_requests_are_revisions(hub, songs, tmp_path):
    repo = hub.repo(REPO, "dataset")
    first = repo.refs["v1"] = repo.refs["main"]
    changed = contents_of(make_folder(songs, {**SONGS, "tracks.parquet": b"new"}))
    repo.refs["refs/pr/1"] = repo.refs["main"]
    hub.put(REPO, changed, "dataset", revision="refs/pr/1")
    hub.put(REPO, changed, "dataset", revision="dev")
    for revision, data in {
        **{None: SONGS["tracks.parquet"], "v1": SONGS["tracks.parquet"]},
        **{first: SONGS["tracks.parquet"], "refs/pr/1": b"new", "dev": b"new"},
    }.items():
        assert (get(revision=revision) / "tracks.parquet").read_bytes() == data
    assert get(revision="v1").name == first


def test_all_files_are_of_one_commit_though_somebody_pushes_meanwhile(hub, songs):
    new = contents_of(make_folder(songs, {**SONGS, "tracks.parquet": b"new"}))
    hub.fault("HEAD", "playlists", times=1, before=lambda: hub.put(REPO, new, "dataset"))
    assert (get() / "tracks.parquet").read_bytes() == SONGS["tracks.parquet"]


# offline


def test_the_cache_serves_where_the_hub_is_down_and_quickly(hub, songs, caplog):
    sha = hub.repo(REPO, "dataset").refs["main"]
    first = get()
    with hub.down():
        assert get() == get(revision="main") == get(revision=sha) == first
    assert hub.waits == []
    assert "out of reach" in caplog.text


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_the_cache_serves_where_the_hub_is_out_of_order(hub, songs, status):
    first = get()
    hub.fault("GET", "/api/", status=status)
    assert get() == first


def test_where_the_hub_is_down_and_the_cache_empty_the_answer_comes_quickly(hub):
    with hub.down():
        for revision in (None, "0" * 40):
            with pytest.raises(HubError, match=r"me/songs: cannot reach .*check your connection"):
                get(revision=revision)
    assert hub.waits == []


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_offline_use_reads_the_cache_alone(hub, songs, monkeypatch, tmp_path, how):
    sha = hub.repo(REPO, "dataset").refs["main"]
    first = get()
    hub.requests.clear()
    offline = {"local_files_only": True} if how == "argument" else {}
    if how == "variable":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert get(**offline) == get(revision=sha, **offline) == first
    pull(tmp_path / "out", **offline)
    for unknown in ({"revision": "dev"}, {"cache_dir": tmp_path / "empty"}):
        with pytest.raises(HubError, match=r"me/songs: .*cache does not hold it.* online"):
            get(**unknown, **offline)
    assert hub.requests == []


def test_offline_a_part_is_not_taken_for_the_whole(hub, songs):
    get(allow=("manifest.json",))
    with pytest.raises(HubError, match="the cache holds only a part of it; go online"):
        get(local_files_only=True)


def test_a_cache_of_ones_own(hub, songs, tmp_path):
    assert get(cache_dir=tmp_path / "cache").is_relative_to(tmp_path / "cache")
    assert not Path(hub.home, "hub").exists()


# damage


def damage(path: Path) -> None:
    """Change a byte of a file in the cache."""
    blob = path.resolve()
    data = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("name", ["tracks.parquet", "manifest.json", "README.md"])
def test_a_damaged_cache_is_mended_online_and_told_offline(hub, songs, name):
    first = get()
    damage(first / name)
    with pytest.raises(HubError, match=rf"{name} is not what its hash.*go online"):
        get(local_files_only=True)
    hub.requests.clear()
    assert get() == first
    assert contents_of(first)[name] == contents_of(songs)[name]
    assert len(downloads(hub)) == 1


def test_a_cache_without_links_is_mended_too(hub, songs, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    first = get()
    assert not (first / "tracks.parquet").is_symlink()
    damage(first / "tracks.parquet")
    with pytest.raises(HubError, match=r"tracks\.parquet is not what its hash.*go online"):
        get(local_files_only=True)
    assert contents_of(get())["tracks.parquet"] == SONGS["tracks.parquet"]


def test_a_cache_without_links_takes_no_edit_on_the_hub_for_damage(hub, songs, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    hub.put(REPO, {"tracks.parquet": b"by hand"}, "dataset")
    with pytest.raises(HubError, match=r"tracks\.parquet.*manifest\.json.*by hand"):
        get()
    assert (get(verify=False) / "tracks.parquet").read_bytes() == b"by hand"


def test_a_cache_that_cannot_be_written_is_told(hub, songs, monkeypatch):
    first = get()
    damage(first / "tracks.parquet")

    def refuse(path: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(
        HubError, match=r"Permission denied .*tracks\.parquet.*can be read and written"
    ):
        get()


def test_a_file_that_comes_damaged_is_fetched_once_more(hub, songs):
    hub.fault("GET", "/cdn/", times=1, edit=lambda r: Reply(r.status, r.body[::-1], r.headers))
    get()
    hub.fault("GET", "/cdn/", edit=lambda r: Reply(r.status, r.body[::-1], r.headers))
    shutil.rmtree(hub.home)
    hub.requests.clear()
    with pytest.raises(HubError, match=r"songs: playlists\.parquet is not what its hash"):
        get()
    # three files, and once more those two that are needed
    assert len(hub.asked("/cdn/", "GET")) == 3 + 2


def test_what_is_fetched_once_more_is_of_the_same_commit(hub, songs):
    new = contents_of(make_folder(songs, {**SONGS, "tracks.parquet": b"new"}))
    hub.fault(
        *("GET", "/cdn/"),
        times=1,
        before=lambda: hub.put(REPO, new, "dataset"),
        edit=lambda r: Reply(r.status, r.body[::-1], r.headers),
    )
    folder = get(allow=("tracks.parquet", "manifest.json"))
    assert (folder / "tracks.parquet").read_bytes() == SONGS["tracks.parquet"]


def test_a_file_that_was_changed_on_the_hub_by_hand_is_named(hub, songs, tmp_path):
    hub.put(REPO, {"tracks.parquet": b"by hand"}, "dataset")
    with pytest.raises(HubError, match=r"tracks\.parquet.*manifest\.json.*by hand.*push"):
        pull(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "manifest", [b"{", b"[]", b'{"kind": "catalog", "format_version": 1, "files": {"../x": "a"}}']
)
def test_a_manifest_that_cannot_be_used_is_told(hub, songs, tmp_path, manifest):
    hub.put(REPO, {"manifest.json": manifest}, "dataset")
    with pytest.raises(HubError, match=r"repo me/songs: .*manifest\.json"):
        pull(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_file_is_hashed_once(hub, songs, monkeypatch):
    get()
    hashed: list[str] = []
    true = files.sha256_file

    def note(path: Path) -> str:
        hashed.append(Path(path).name)
        return true(path)

    monkeypatch.setattr(files, "sha256_file", note)
    get(allow=("*.parquet", "manifest.json"))
    top = ["playlists.parquet", "tracks.parquet"]
    assert sorted(hashed) == top


def test_a_card_edited_on_the_hub_is_no_damage(hub, songs, tmp_path):
    hub.put(REPO, {"README.md": "# In my words"}, "dataset")
    assert (pull(tmp_path / "out") / "README.md").read_text() == "# In my words"


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub, songs, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    hub.fault("GET", "/cdn/", times=1, cut=1000)
    folder = get(allow=("tracks.parquet", "manifest.json"))
    assert (folder / "tracks.parquet").read_bytes() == SONGS["tracks.parquet"]
    ranges = [r.headers.get("range") for r in hub.asked("/cdn/", "GET")]
    assert ranges == [None, "bytes=1000-"]


def test_files_that_came_before_a_failure_are_not_asked_for_again(hub, songs):
    hub.fault("HEAD", "playlists", status=403)
    with pytest.raises(HubError):
        get()
    hub.faults.clear()
    before = downloads(hub)
    hub.requests.clear()
    get()
    assert before
    assert not set(before) & set(downloads(hub))


@pytest.mark.parametrize("name", ["../../../evil.parquet", "/tmp/evil.parquet", "audio/../../x"])
def test_a_name_that_leads_out_of_the_folder_is_refused(hub, songs, tmp_path, name):
    hub.put(REPO, {name: b"evil"}, "dataset")
    with pytest.raises(HubError, match="leads out of the folder"):
        pull(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [p for p in Path(hub.home).rglob("*evil*") if "trees" not in p.parts]


def test_a_repo_of_pickles_alone_gives_nothing(hub):
    hub.put("me/model", {"pytorch_model.bin": b"\x80", "model.pt": b"\x80", "x.pkl": b"\x80"})
    with pytest.raises(HubError, match="holds no file that is needed"):
        fetch("me/model", repo_type="model", allow=(*MODEL, "*.bin", "*.pt"))
    assert not downloads(hub)


# the folder that is made


def test_a_folder_of_something_else_is_not_replaced_nor_anything_fetched(hub, songs, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    hub.requests.clear()
    for out in (tmp_path / "file", tmp_path / "full"):
        with pytest.raises(ArtifactError, match="name a"):
            pull(out)
    assert hub.requests == []
    assert (tmp_path / "full" / "mine.txt").exists()


def test_an_older_pull_is_replaced_whole(hub, songs, tmp_path):
    out = make_folder(tmp_path / "out", {"old.parquet": b"old"})
    assert contents_of(pull(out)) == contents_of(songs)


@pytest.mark.parametrize("name", ["audio/1.wav", "checkpoint-5/w.safetensors", ".git/config"])
def test_folders_that_the_repo_does_not_bring_are_not_lost(hub, songs, tmp_path, name):
    out = make_folder(tmp_path / "out", {"tracks.parquet": b"old", name: b"mine"})
    before = contents_of(out)
    with pytest.raises(ArtifactError, match=rf"holds the folder {name.partition('/')[0]}.*new"):
        pull(out)
    assert contents_of(out) == before
    hub.put(REPO, {"audio/2.wav": b"RIFF"}, "dataset")
    if name.startswith("audio"):
        assert contents_of(pull(out)) == {**contents_of(songs), "audio/2.wav": b"RIFF"}


def test_a_manifest_of_no_kind_of_ours_is_told(hub, tmp_path):
    for kind in ('"extension"', '["catalog"]', "null", '"model"'):
        manifest = f'{{"kind": {kind}, "format_version": 1, "files": {{}}}}'.encode()
        hub.put(REPO, {"manifest.json": manifest}, "dataset")
        with pytest.raises(HubError, match="dataset repo me/songs: holds no artefact"):
            kind_of(REPO)


def test_why_a_dataset_cannot_be_had_is_told_where_no_model_has_its_name(hub, songs):
    hub.repo(REPO, "dataset").gated = True
    with pytest.raises(HubError, match="dataset repo me/songs: is gated"):
        kind_of(REPO, token="hf_other")


def test_another_kind_is_refused(hub, tmp_path):
    folder = make_folder(tmp_path / "talks", {"train.parquet": b"x"}, kind="conversations")
    hub.put(REPO, contents_of(folder), "dataset")
    with pytest.raises(ArtifactError, match="holds conversations; catalog was expected"):
        pull(tmp_path / "out")
    hub.put("me/other", {"x.parquet": b"x"}, "dataset")
    with pytest.raises(ArtifactError, match="holds nothing of ours"):
        pull_folder("me/other", tmp_path / "out", kind="catalog")
    assert not (tmp_path / "out").exists()


def test_a_model_without_what_it_needs_is_told(hub, tmp_path):
    whole = dict.fromkeys(REQUIRED["model"], b"{}")
    hub.put("me/model", {**whole, "pytorch_model.bin": b"\x80"})
    with pytest.raises(HubError, match="me/model: has no weights as safetensors"):
        pull_folder("me/model", tmp_path / "out", kind="model")
    hub.put("me/model", {"model.safetensors": b"w", "tokenizer.json": None})
    with pytest.raises(HubError, match=r"me/model: .* has no tokenizer\.json"):
        pull_folder("me/model", tmp_path / "out", kind="model")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "me/x--y"])
def test_an_impossible_name_is_refused_before_any_request(hub, tmp_path, name):
    for call in (
        lambda: fetch(name, repo_type="model", allow=MODEL),
        lambda: pull_folder(name, tmp_path / "out", kind="catalog"),
    ):
        with pytest.raises(InputError, match="owner/name"):
            call()
    assert hub.requests == []


def test_a_full_disk_is_told_and_nothing_is_left(hub, songs, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("talkplay_hf.hub.pull.shutil.copyfile", full)
    with pytest.raises(HubError, match=r"songs: the disk is full \(.*out\); make room"):
        pull(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["songs"]
    shutil.rmtree(hub.home)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(HubError, match=r"the disk is full .* HF_HOME"):
        get()


def test_the_kind_of_a_repo_is_found(hub, songs, tmp_path):
    assert kind_of(REPO) == "catalog"
    config = {"config.json": b"{}", files.TALKPLAY_CONFIG: b"{}"}
    hub.put("me/model", config)
    hub.put("me/tokens", {files.TALKPLAY_CONFIG: b"{}"})
    assert (kind_of("me/model"), kind_of("me/tokens")) == ("model", "tokenizer")
    for unknown in ("me/nothing", "me/other"):
        with pytest.raises(HubError, match=unknown):
            kind_of(unknown)
        hub.put("me/other", {"config.json": b"{}"})
