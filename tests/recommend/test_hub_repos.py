"""A model repo on the Hub: pushed in one commit, loaded whole, offline, and of one revision."""

import copy
from pathlib import Path

import pytest
from chatting import REQUEST, assert_same
from loopback import LoopbackHub
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from talkplay_hf.errors import ArtifactError, HubError
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

REPO = "me/songs-model"


def load(name: str | Path = REPO, **options) -> Recommender:
    return Recommender.from_pretrained(name, device="cpu", **options)


@pytest.fixture
def repo(hub: LoopbackHub, recommender: Recommender) -> LoopbackHub:
    """A Hub with the recommender on it."""
    recommender.push_to_hub(REPO)
    return hub


def test_a_push_is_one_commit_and_what_it_holds_answers_as_before(
    hub: LoopbackHub, recommender: Recommender
) -> None:
    start = recommender.push_to_hub(REPO, commit_message="songs")
    log = hub.repo(REPO, "model").log()
    assert log[0].sha == start.commit
    assert log[0].message == "songs"
    assert sum("model.safetensors" in commit.tree for commit in log) == 1
    options = {"seed": 3, "max_new_tokens": 12}
    assert_same(load().chat(REQUEST, **options), recommender.chat(REQUEST, **options))
    # nothing to change, nothing written
    assert recommender.push_to_hub(REPO).commit == start.commit
    assert load().push_to_hub(REPO).commit == start.commit


def test_the_repo_loads_as_a_plain_model(repo: LoopbackHub, recommender: Recommender) -> None:
    model, tokenizer = (
        auto.from_pretrained(REPO) for auto in (AutoModelForCausalLM, AutoTokenizer)
    )
    assert type(model) is LlamaForCausalLM
    text = recommender.tokenizer.decode(recommender.prompt_ids(REQUEST))
    assert tokenizer(text).input_ids == recommender.tokenizer(text).input_ids


def test_a_repo_is_loaded_again_offline(
    repo: LoopbackHub, recommender: Recommender, tmp_path: Path
) -> None:
    with pytest.raises(HubError, match=REPO):
        load(cache_dir=tmp_path, local_files_only=True)
    load(cache_dir=tmp_path)
    with repo.down():
        again = load(cache_dir=tmp_path, local_files_only=True)
        assert again.rank(REQUEST, 3) == recommender.rank(REQUEST, 3)
        assert load(cache_dir=tmp_path).track_ids == recommender.track_ids


def test_a_revision_stays_what_it_was(
    repo: LoopbackHub, tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer
) -> None:
    first = repo.repo(REPO, "model").log()[0].sha
    changed = copy.deepcopy(tiny_model)
    changed.get_input_embeddings().weight.data *= 1.5
    other = Recommender(changed, tokenizer)
    other.push_to_hub(REPO)
    other.push_to_hub(REPO, revision="trial")
    best = {name: load(revision=name).rank(REQUEST, 5) for name in (first, "main", "trial")}
    assert best["main"] == best["trial"] == other.rank(REQUEST, 5)
    assert best[first] == Recommender(tiny_model, tokenizer).rank(REQUEST, 5)
    assert best[first] != best["main"]


def test_a_private_repo_takes_the_token_of_its_owner(
    hub: LoopbackHub, recommender: Recommender
) -> None:
    recommender.push_to_hub(REPO, private=True)
    assert load(token="hf_me").track_ids == recommender.track_ids
    with pytest.raises(HubError, match=REPO):
        load(token="hf_other")


def test_a_pull_request_leaves_the_branch_alone(
    repo: LoopbackHub, tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer
) -> None:
    first = repo.repo(REPO, "model").log()[0].sha
    changed = copy.deepcopy(tiny_model)
    changed.get_input_embeddings().weight.data *= 1.5
    pushed = Recommender(changed, tokenizer).push_to_hub(REPO, create_pr=True)
    assert pushed.pr_url
    assert repo.repo(REPO, "model").log()[0].sha == first


def test_a_card_that_a_person_edited_on_the_hub_stays(
    repo: LoopbackHub, recommender: Recommender
) -> None:
    repo.put(REPO, {files.CARD: "# My own words\n"})
    assert recommender.push_to_hub(REPO).kept_card
    assert repo.files(REPO)[files.CARD] == b"# My own words\n"
    assert not recommender.push_to_hub(REPO, overwrite_card=True).kept_card
    assert b"My own words" not in repo.files(REPO)[files.CARD]


def test_only_what_is_needed_is_fetched(repo: LoopbackHub) -> None:
    repo.put(REPO, {"training_curves.png": b"png", "pytorch_model.bin": b"\x80", "x.gguf": b"x"})
    source = load().source
    assert source is not None
    got = {path.name for path in source.folder.iterdir()}
    assert got >= {"model.safetensors", files.TOKEN_CATALOG, files.MANIFEST}
    assert not got & {"training_curves.png", "pytorch_model.bin", "x.gguf"}


def test_what_goes_with_a_model_is_kept_where_it_is_loaded_from_the_hub(
    hub: LoopbackHub, recommender: Recommender, tmp_path: Path
) -> None:
    recommender.save_pretrained(tmp_path / "model")
    files.write_json(tmp_path / "model" / files.TRAINING_REPORT, {"steps": 7})
    files.refresh_manifest(tmp_path / "model")
    load(tmp_path / "model").push_to_hub(REPO)
    hub.put(REPO, {"training_curves.png": b"a picture", "LICENSE": b"terms"})
    before = hub.files(REPO)
    loaded = load()
    loaded.save_pretrained(tmp_path / "copy")
    assert files.read_json(tmp_path / "copy" / files.TRAINING_REPORT) == {"steps": 7}
    assert (tmp_path / "copy" / "training_curves.png").read_bytes() == b"a picture"
    loaded.push_to_hub(REPO)
    after = hub.files(REPO)
    changed = {name for name in before.keys() | after if before.get(name) != after.get(name)}
    # the card shows the picture, the manifest names the licence
    assert changed <= {files.CARD, files.MANIFEST}


def test_a_file_that_was_changed_in_the_repo_is_named(repo: LoopbackHub) -> None:
    content = bytearray(repo.files(REPO)["model.safetensors"])
    content[-7] ^= 4
    repo.put(REPO, {"model.safetensors": bytes(content)})
    with pytest.raises(HubError, match=r"model\.safetensors"):
        load()


def test_a_repo_that_is_not_there_is_named(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="me/nothing"):
        load("me/nothing")
    with pytest.raises(ArtifactError, match="no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="no such folder"):
        load("./nothing/here")
    assert not hub.asked("nothing/here")


def test_what_plain_transformers_pushed_in_two_commits_loads(
    hub: LoopbackHub, recommender: Recommender
) -> None:
    recommender.model.push_to_hub(REPO)
    recommender.tokenizer.push_to_hub(REPO)
    assert load().rank(REQUEST, 3) == recommender.rank(REQUEST, 3)
    assert {"model.safetensors", files.CODEBOOKS} <= hub.files(REPO).keys()


def test_a_tokenizer_has_a_repo_of_its_own(
    hub: LoopbackHub, tokenizer: TalkPlayTokenizer, recommender: Recommender, tmp_path: Path
) -> None:
    pushed = tokenizer.push_to_hub("me/songs-tokenizer")
    assert hub.repo("me/songs-tokenizer", "model").log()[0].sha == pushed.commit
    held = hub.files("me/songs-tokenizer")
    assert {files.MANIFEST, files.CARD, files.CODEBOOKS, "tokenizer.json"} <= held.keys()
    loaded = TalkPlayTokenizer.from_pretrained("me/songs-tokenizer")
    assert loaded.config == tokenizer.config
    assert loaded.get_vocab() == tokenizer.get_vocab()
    plain = AutoTokenizer.from_pretrained("me/songs-tokenizer")
    assert plain("a song <|audio-1|>").input_ids == tokenizer("a song <|audio-1|>").input_ids
    with hub.down():
        offline = TalkPlayTokenizer.from_pretrained("me/songs-tokenizer", local_files_only=True)
    assert offline.get_vocab() == tokenizer.get_vocab()
    with pytest.raises(ArtifactError, match=r"me/songs-tokenizer: is a tokenizer, not a model"):
        load("me/songs-tokenizer")
    hub.put("me/songs-tokenizer", {"tokenizer.json": None, "picture.png": b"png"})
    where = {"revision": pushed.commit, "token": "hf_me", "cache_dir": tmp_path}
    earlier = TalkPlayTokenizer.from_pretrained("me/songs-tokenizer", **where)
    assert earlier.side_file("codebooks_file").is_relative_to(tmp_path)
    with pytest.raises(ArtifactError, match=r"has no tokenizer\.json"):
        TalkPlayTokenizer.from_pretrained("me/songs-tokenizer")
    assert not hub.asked(r"picture\.png")


def test_a_tokenizer_is_pushed_as_it_is_told(
    hub: LoopbackHub, tokenizer: TalkPlayTokenizer
) -> None:
    name = "me/songs-tokenizer"
    told = {"commit_message": "codes", "license": "mit", "revision": "trial"}
    tokenizer.push_to_hub(name, private=True, **told)
    assert hub.repo(name).private
    assert hub.repo(name).find("trial").message == "codes"
    assert b"license: mit" in hub.files(name, revision="trial")[files.CARD]
    for refused in (tokenizer.push_to_hub, TalkPlayTokenizer.from_pretrained):
        with pytest.raises(HubError, match=name):
            refused(name, token="hf_other", revision="trial")
    first = hub.put(name, {files.CARD: "# My own words\n"})
    pushed = tokenizer.push_to_hub(name, create_pr=True, overwrite_card=True)
    assert pushed.pr_url
    assert not pushed.kept_card
    assert hub.repo(name).log()[0].sha == first


def test_a_catalogue_of_another_repo_takes_the_place_of_the_models_own(
    repo: LoopbackHub, tokenizer: TalkPlayTokenizer, recommender: Recommender
) -> None:
    tokenizer.push_to_hub("me/more-songs")
    repo.put(REPO, {files.TOKEN_CATALOG: b"of no use", files.CATALOG_INDEX: None})
    with pytest.raises(HubError, match=r"catalog\.parquet"):
        load()
    swapped = load(catalog="me/more-songs")
    assert swapped.rank(REQUEST, 3) == recommender.rank(REQUEST, 3)
    asked = {r.path for r in repo.asked("/resolve/")}
    assert not [path for path in asked if "more-songs" in path and "tokenizer.json" in path]
