"""`pipeline("talkplay-recommendation")`: what it takes, what it gives, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chatting import REQUEST, played
from loopback import LoopbackHub
from torch.utils.data import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import talkplay_hf
from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import ArtifactError, InputError, NoTrackError
from talkplay_hf.recommend.pipeline import TASK, RecommendationPipeline
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

TRACK_KEYS = {"track_id", "title", "artist", "album", "release_date", "tags", "score", "codes"}
SHORT: dict[str, Any] = {"max_new_tokens": 8}


@pytest.fixture(scope="module")
def model_folder(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "model"
    tiny_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    talkplay_hf.register()


@pytest.fixture(scope="module")
def recommend(recommender: Recommender) -> RecommendationPipeline:
    return pipeline(TASK, model=recommender, device="cpu", **SHORT)


@pytest.fixture
def chats(recommender: Recommender) -> list[Any]:
    """Chats of several lengths and forms."""
    one, two = recommender.track_ids[:2]
    return [
        REQUEST,
        played(one),
        [Message("user", "rock, please")],
        played(one, two, then="something else"),
        [{"role": "user", "content": "slow songs about the sea, by anyone at all"}],
    ]


def expected(recommender: Recommender, chat: Any, seed: int, **options: Any) -> dict[str, Any]:
    answer = recommender.chat(chat, seed=seed, **SHORT, **options)
    return {
        "tracks": [
            {
                "track_id": track.track_id,
                "title": track.title,
                "artist": track.artist,
                "album": track.album,
                "release_date": track.release_date,
                "tags": list(track.tags),
                "score": pytest.approx(score, abs=1e-4),
                "codes": list(codes),
            }
            for track, score, codes in zip(answer.tracks, answer.scores, answer.codes, strict=True)
        ],
        "reply": answer.reply,
    }


# --- registering and loading -----------------------------------------------------------------


def test_registering_twice_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    before = PIPELINE_REGISTRY.supported_tasks[TASK]
    talkplay_hf.register()
    assert PIPELINE_REGISTRY.supported_tasks[TASK] is before
    assert "already registered" not in caplog.text


def test_the_task_is_unknown_until_it_is_registered() -> None:
    code = (
        "import talkplay_hf; from transformers.pipelines import PIPELINE_REGISTRY as known\n"
        f"assert {TASK!r} not in known.get_supported_tasks()\n"
        "talkplay_hf.register()\n"
        f"assert {TASK!r} in known.get_supported_tasks()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_folder_is_loaded_with_its_catalogue(
    model_folder: Path, recommender: Recommender
) -> None:
    recommend = pipeline(TASK, model=str(model_folder), device="cpu")
    assert isinstance(recommend, RecommendationPipeline)
    assert recommend.recommender.track_ids == recommender.track_ids
    assert recommend(REQUEST, seed=1, **SHORT) == expected(recommender, REQUEST, 1)


def test_a_folder_can_be_loaded_in_another_dtype(model_folder: Path) -> None:
    recommend = pipeline(TASK, model=model_folder, device="cpu", dtype=torch.bfloat16)
    assert recommend.model.dtype == torch.bfloat16
    assert recommend(REQUEST, **SHORT)["tracks"]


def test_a_private_repository_is_loaded_at_a_revision_and_its_weights_once(
    hub: LoopbackHub, model_folder: Path, recommender: Recommender
) -> None:
    contents = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    first = hub.put("other/songs", contents, repo_type="model", private=True)
    hub.put("other/songs", {"catalog.parquet": b"something else"}, repo_type="model")
    recommend = pipeline(TASK, model="other/songs", revision=first, token="hf_other", device="cpu")
    assert recommend(REQUEST, seed=1, **SHORT) == expected(recommender, REQUEST, 1)
    assert len(hub.asked(r"/resolve/.*/model\.safetensors$", "GET")) <= 1
    fetched = [request.path for request in hub.asked(r"^/cdn/", "GET")]
    assert len(fetched) == len(set(fetched))


@pytest.mark.parametrize("form", ["ours", "plain", "name", "none"])
def test_a_loaded_model_finds_the_tokenizer_with_its_catalogue(
    model_folder: Path, recommender: Recommender, form: str
) -> None:
    model = LlamaForCausalLM.from_pretrained(model_folder)
    tokenizer = {
        "ours": TalkPlayTokenizer.from_pretrained(model_folder),
        "plain": AutoTokenizer.from_pretrained(model_folder),
        "name": str(model_folder),
        "none": None,
    }[form]
    recommend = pipeline(TASK, model=model, tokenizer=tokenizer, device="cpu")
    assert recommend.model is model
    assert isinstance(recommend.tokenizer, TalkPlayTokenizer)
    assert recommend(REQUEST, seed=2, **SHORT) == expected(recommender, REQUEST, 2)


def test_what_cannot_be_loaded_is_one_clear_error(
    tmp_path: Path, model_folder: Path, tiny_model: LlamaForCausalLM
) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        pipeline(TASK, model=tiny_model, tokenizer=str(tmp_path / "nowhere"), device="cpu")
    with pytest.raises(ArtifactError, match=r"TalkPlayTokenizer\.from_pretrained"):
        pipeline(TASK, model=LlamaForCausalLM(tiny_model.config), device="cpu")
    given = {"output_loading_info": True}
    with pytest.raises(ArtifactError, match="output_loading_info: cannot be given here"):
        pipeline(TASK, model=str(model_folder), device="cpu", model_kwargs=given)
    plain = tmp_path / "plain"
    tiny_model.save_pretrained(plain)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (plain / name).write_bytes((model_folder / name).read_bytes())
    with pytest.raises(ArtifactError, match=r"talkplay_config\.json"):
        pipeline(TASK, model=str(plain), device="cpu")


# --- answers ---------------------------------------------------------------------------------


def test_every_form_of_chat_gets_the_answer_of_the_recommender(
    recommend: RecommendationPipeline, recommender: Recommender, chats: list[Any]
) -> None:
    for seed, chat in enumerate(chats):
        assert recommend(chat, seed=seed) == expected(recommender, chat, seed)


def test_answers_are_plain_values_of_a_fixed_form(recommend: RecommendationPipeline) -> None:
    answer = recommend(REQUEST, seed=0, tracks=3, top_k=4)
    assert json.loads(json.dumps(answer)) == answer
    assert set(answer) == {"tracks", "reply", "ranking"}
    assert len(answer["tracks"]) == 3
    assert len(answer["ranking"]) == 4
    assert all(set(track) == TRACK_KEYS for track in answer["tracks"] + answer["ranking"])
    assert set(recommend(REQUEST, seed=0)) == {"tracks", "reply"}


def test_the_ranking_is_that_of_the_recommender_under_the_same_rules(
    recommend: RecommendationPipeline, recommender: Recommender
) -> None:
    chat = played(recommender.track_ids[0])
    rules = "year >= 1990"
    found = recommend(chat, top_k=5, rules=rules, exclude_played=False)["ranking"]
    wanted = recommender.rank(chat, 5, rules=rules, exclude_played=False)[:5]
    assert [one["track_id"] for one in found] == [one.track.track_id for one in wanted]
    assert [one["score"] for one in found] == pytest.approx([one.score for one in wanted], abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
@pytest.mark.parametrize("strategy", ["sample", "rank"])
def test_batches_answer_as_one_by_one(
    recommend: RecommendationPipeline,
    recommender: Recommender,
    chats: list[Any],
    batch_size: int,
    strategy: str,
) -> None:
    seeds = [3, 1, 4, 1, 5]
    answers = recommend(chats, batch_size=batch_size, seeds=seeds, strategy=strategy)
    assert answers == [
        expected(recommender, chat, seed, strategy=strategy)
        for chat, seed in zip(chats, seeds, strict=True)
    ]


def test_one_seed_holds_for_every_chat_of_a_list(
    recommend: RecommendationPipeline, recommender: Recommender, chats: list[Any]
) -> None:
    answers = recommend(chats, batch_size=3, seed=9)
    assert answers == [expected(recommender, chat, 9) for chat in chats]


class Rows(Dataset[Any]):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Any:
        return self.rows[at]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_datasets_and_generators_are_read_as_answers_are_taken(
    recommend: RecommendationPipeline,
    recommender: Recommender,
    chats: list[Any],
    batch_size: int,
) -> None:
    wanted = [expected(recommender, chat, 6) for chat in chats]
    answers = recommend(Rows(chats), seed=6, batch_size=batch_size)
    assert list(answers) == wanted
    taken = []

    def asking() -> Iterator[Any]:
        for chat in chats:
            taken.append(chat)
            yield chat

    answers = recommend(asking(), seed=6, batch_size=batch_size)
    assert len(taken) <= 1
    assert next(iter(answers)) == wanted[0]
    assert len(taken) < len(chats)


def test_a_column_of_a_dataset_is_a_list_of_requests(
    recommend: RecommendationPipeline, recommender: Recommender
) -> None:
    datasets = pytest.importorskip("datasets")
    texts = ["something calm", "rock from the nineties", "a song about rain"]
    column = datasets.Dataset.from_dict({"text": texts})["text"]
    wanted = [expected(recommender, text, 2) for text in texts]
    assert list(recommend(column, seed=2, batch_size=2)) == wanted


def test_options_of_the_pipeline_are_defaults_of_its_calls(recommender: Recommender) -> None:
    recommend = pipeline(TASK, model=recommender, device="cpu", tracks=2, seed=4, batch_size=2)
    assert len(recommend(REQUEST, **SHORT)["tracks"]) == 2
    assert recommend(REQUEST, **SHORT) == expected(recommender, REQUEST, 4, tracks=2)
    assert len(recommend([REQUEST, REQUEST], tracks=1, **SHORT)[0]["tracks"]) == 1


# --- refusals --------------------------------------------------------------------------------


def test_nothing_to_answer_is_an_empty_list(recommend: RecommendationPipeline) -> None:
    assert recommend([]) == []
    assert list(recommend(one for one in ())) == []


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (17, {}, "must be a text, a chat"),
        ({"role": "user", "content": "hello"}, {}, "must be a text"),
        ([{"role": "narrator", "content": "hello"}], {}, "unknown role 'narrator'"),
        ([{"role": "assistant", "content": "hello"}], {}, "must be the user's"),
        (["hello", [{"role": "music", "track_id": "?"}]], {}, "input 1: message 0: .* no track"),
        (["hello", 17], {}, "input 1: "),
        ("hello", {"tempo": 3}, "unknown option 'tempo'; there are tracks, "),
        ("hello", {"tracks": 0}, "tracks 0"),
        ("hello", {"top_k": 0}, "top_k 0"),
        ("hello", {"top_k": "many"}, "top_k 'many'"),
        ("hello", {"seeds": [1]}, "one chat takes a seed"),
        (["hello"], {"seeds": [1, 2]}, "2 seeds for 1 chats"),
        ((one for one in ["hello"]), {"seeds": [1]}, "a dataset takes one seed"),
    ],
)
def test_what_cannot_be_used_is_named(
    recommend: RecommendationPipeline, inputs: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recommend(inputs, **options)


def test_rules_that_leave_no_track_are_told(recommend: RecommendationPipeline) -> None:
    with pytest.raises(NoTrackError):
        recommend([REQUEST, REQUEST], batch_size=2, rules="year >= 3000")


def test_an_unknown_option_is_refused_when_the_pipeline_is_made(recommender: Recommender) -> None:
    with pytest.raises(InputError, match="unknown option 'tempo'"):
        pipeline(TASK, model=recommender, device="cpu", tempo=3)


def test_a_saved_pipeline_is_a_model_folder_without_code(
    recommend: RecommendationPipeline, recommender: Recommender, tmp_path: Path
) -> None:
    recommend.save_pretrained(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert not [name for name in names if name.endswith(".py")]
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "custom_pipelines" not in config
    again = pipeline(TASK, model=str(tmp_path / "saved"), device="cpu")
    assert again(REQUEST, seed=0, **SHORT) == expected(recommender, REQUEST, 0)
