"""Dense retrieval by a text model that was fine-tuned on the training conversations."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.evaluation.baselines.base import BaselineSources, History
from talkplay_hf.evaluation.baselines.dense import TextIndex, load_encoder
from talkplay_hf.evaluation.baselines.texts import track_documents, words
from talkplay_hf.evaluation.metrics.ranking import FloatArray
from talkplay_hf.hub import files

KIND = "two-tower"
MODEL = "model"  # the folder of the weights inside the artefact
BEFORE = "_"  # stands before each word that was said or played before the last message


class QueryTexts:
    """The text of a dialogue: the last message, then what was played and said before it.

    Args:
        catalog (`Catalog`): The tracks, for the text of those that were played.
        marked (`bool`): Write single words and mark those from before the last message, for a
            model without word order; else lines, the newest first.
    """

    def __init__(self, catalog: Catalog, *, marked: bool) -> None:
        self.documents = track_documents(catalog)
        self._catalog, self._marked = catalog, marked

    def __call__(self, history: History) -> str:
        """The text of one history."""
        newest_first = list(reversed(history))
        last = next((at for at, m in enumerate(newest_first) if m.role == "user"), None)
        if last is None:
            return ""
        before = []
        for message in newest_first[last + 1 :]:
            if message.role == "user":
                before.append(message.content)
            elif message.track_id is not None and message.track_id in self._catalog:
                before.append(self.documents[self._catalog.row(message.track_id)])
        request = newest_first[last].content
        if not self._marked:
            return "\n".join([request, *before])
        return " ".join([*words(request), *(BEFORE + word for word in words(" ".join(before)))])


class TwoTowerRanker:
    """The cosine between dialogue and track of a model that was trained on such pairs.

    The query is the last message with all that was played and asked for before, the document is
    the text of the track that BM25 sees.

    Args:
        sources (`BaselineSources`): `two_tower` names a folder that `train_two_tower` wrote;
            without one the model is trained first, from `conversations`.

    Raises:
        InputError: If there is no folder and no conversation to train on.
        ArtifactError: If the folder is not one of a two-tower model.
        MissingExtraError: If sentence-transformers is not installed.
    """

    def __init__(self, sources: BaselineSources) -> None:
        if sources.two_tower is None:
            from talkplay_hf.evaluation.baselines.two_tower_training import train_two_tower

            with tempfile.TemporaryDirectory() as folder:
                model, marked = _load(train_two_tower(sources, Path(folder) / KIND), sources.device)
        else:
            model, marked = _load(sources.two_tower, sources.device)
        self._text = QueryTexts(sources.catalog, marked=marked)
        self._index = TextIndex(model, self._text.documents)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        return self._index.cosines([self._text(history) for history in histories])


def _load(folder: Path, device: str) -> tuple[Any, bool]:
    """The model of a two-tower folder, and whether it wants its texts marked."""
    marked: bool = files.read_manifest(folder, KIND)["marked"]
    return load_encoder(str(folder / MODEL), device), marked
