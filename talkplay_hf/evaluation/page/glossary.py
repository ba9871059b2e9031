"""What metrics, systems and slices are, in one line each."""

from collections.abc import Iterable

from talkplay_hf.evaluation.report import CHANCE, CHAT, LABEL, MODEL
from talkplay_hf.hub.markdown import natural

# shown beside the systems, but none of them
ASIDE = (CHAT, CHANCE, LABEL)
# baselines that put several rankings together
STAGES = ("hybrid", "rerank")
# a baseline that is told what others have to read
ORACLE = "filter"

METRICS = {
    "mrr": "mean reciprocal rank: one divided by the place of the first right track, so 1 is "
    "always first and 0.1 is tenth place",
    "hit@1": "the share of turns in which the first track is right",
    "hit@10": "the share of turns with a right track among the first 10",
    "hit@100": "the share of turns with a right track among the first 100",
    "ndcg@10": "discounted gain of all right tracks among the first 10, over the best possible",
    "ndcg@20": "discounted gain of all right tracks among the first 20, over the best possible",
    "fit": "the share of requests whose every demand the first track meets",
}
SYSTEMS = {
    MODEL: "the model: it writes music tokens, and these name tracks",
    CHAT: "the model's sampled answer, as a listener gets it in a chat",
    CHANCE: "any candidate, all alike",
    LABEL: "the track of the conversation itself",
    "random": "every track alike: chance",
    "popularity": "tracks by how many training playlists hold them",
    "last-track": "tracks that share training playlists with the last one played",
    "bm25": "word match (BM25) between the whole chat and the text about a track",
    "bm25-last-turn": "word match (BM25) between the last message and the text about a track",
    "dense": "likeness of sentence embeddings of the whole chat and the text about a track",
    "dense-last-turn": "likeness of sentence embeddings of the last message and that text",
    "clap": "likeness of the last message and the sound of a track (CLAP)",
    "hybrid": "two of these rankings put together (reciprocal-rank fusion)",
    "filter": "tracks that meet the request, which it is told as rules, the popular ones first",
    "two-tower": "a text model that was trained on the training conversations",
    "rerank": "candidates by retrieval, put in order by a second, trained stage",
}
LISTS = {
    "coverage": ("coverage", "the share of the catalog that is in any list; higher is broader"),
    "gini": ("Gini of exposure", "0 if all tracks are shown equally often, 1 if only one is"),
    "popularity_rank": ("popularity rank", "mean place by popularity, 1 being the most popular "
                        "track; higher is less popular"),
    "artists": ("artists", "different artists over tracks within a list; 1 if no artist is in it "
                "twice"),
}  # fmt: skip
REPLIES = {
    "distinct-1": "different words over all words: low means the same phrases again and again",
    "distinct-2": "different pairs of words over all pairs",
    "title": "replies that name the title of the track that is played",
    "artist": "replies that name its artist",
    "tag": "replies that name one of its tags",
    "about": "replies that name its title, its artist or a tag",
    "other": "replies that name another track or artist of the catalog instead",
}
SLICES = {
    "warm": "tracks that playlists of training or validation hold",
    "cold": "tracks that held-out playlists alone hold",
    "in no playlist": "tracks that no playlist of the catalog holds",
    "first turn": "the first request of a conversation",
    "later turns": "all further requests",
    "direction change": "turns in which the listener wants something else than before",
}


def metric_name(metric: str) -> str:
    """A metric as it is written."""
    name, at, level = metric.partition("@")
    known = {"mrr": "MRR", "hit": "Hit", "ndcg": "nDCG", "fit": "Request fit"}
    return known.get(name, name) + at + level


def in_order(metrics: Iterable[str]) -> list[str]:
    """Metrics as tables list them."""
    return sorted(metrics, key=lambda metric: (place(metric, METRICS), natural(metric)))


def place(name: str, usual: Iterable[str]) -> int:
    """Where a name stands in a usual order; after all of it where it does not."""
    names = list(usual)
    return names.index(name) if name in names else len(names)


def missing_modality(name: str) -> str | None:
    """The modality that the tracks of a slice lack, for a slice of that kind."""
    before, colon, modality = name.partition(":")
    return modality.strip() if before == "missing" and colon else None


def slice_meaning(name: str) -> str:
    """What a slice holds."""
    modality = missing_modality(name)
    return f"tracks without {modality}" if modality else SLICES.get(name, "")
