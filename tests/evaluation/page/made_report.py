"""Reports as an evaluation would give them, made up: every section, as many systems as wanted."""

from typing import Any

METRICS = ("mrr", "hit@1", "hit@10", "hit@100", "ndcg@10", "ndcg@20")
SYSTEMS = {
    "talkplay": 0.31, "hybrid": 0.29, "two-tower": 0.27, "rerank": 0.33, "bm25": 0.15,
    "bm25-last-turn": 0.21, "dense": 0.18, "last-track": 0.08, "popularity": 0.025,
    "random": 0.017,
}  # fmt: skip
MODALITIES = ("playlist", "semantic", "metadata", "lyrics", "audio")


def figure(value: float, half: float | None = 0.02, n: int = 400) -> dict[str, Any]:
    """A figure with an interval of so much on either side."""
    low, high = (None, None) if half is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "n": n}


def track(title: str, artist: str = "The Plums", *tags: str) -> dict[str, Any]:
    return {"title": title, "artist": artist, "tags": list(tags)}


def said(role: str, content: str, played: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"role": role, "content": content, "track": played}


def example(others: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A turn after the paper's Table 3: folk first, then something more upbeat."""
    first = track("Paper Boats", "Lena Ash", "folk", "mellow")
    truth = track("Kettle Dance", "Marrow Lane", "upbeat", "folk")
    return {
        "conversation": "talk-7",
        "turn": 2,
        "history": [
            said("user", "I am after mellow folk for a long road trip."),
            said("music", "", first),
            said("assistant", "Paper Boats is a quiet folk tune."),
            said("user", "Lovely! Now something more upbeat and folk-inspired, please."),
        ],
        "truth": {"track": truth, "reply": "Kettle Dance has fiddles and a quick step."},
        "answer": {
            "track": track("Hay & Thunder", "Otter Street", "upbeat", "indie folk", "2010s"),
            "reply": "Here is an upbeat folk song by Otter Street.",
            "meets_request": True,
        },
        "others": {"bm25": first, "popularity": track("Big Lights", "Nova", "pop")}
        if others is None
        else others,
        **changes,
    }


def made_report(systems: dict[str, float] | None = None, **changes: Any) -> dict[str, Any]:
    """A report of systems with the given MRR; keys set to `None` are left out."""
    levels = systems or SYSTEMS
    ours = levels["talkplay"]

    def metrics(level: float, n: int = 400, half: float = 0.02) -> dict[str, Any]:
        factors = (1.0, 0.6, 1.9, 3.0, 1.3, 1.5)
        return {
            m: figure(min(1.0, level * f), half, n) for m, f in zip(METRICS, factors, strict=True)
        }

    def turns(level: float, fall: float) -> dict[str, Any]:
        return {
            str(turn): figure(level * (1 - fall * turn), 0.01 * turn, 600 // turn**2)
            for turn in range(1, 10)
        }

    differences = {
        name: {
            m: figure((ours - level) * f, 0.03) | {"p": 0.0004 if abs(ours - level) > 0.03 else 0.4}
            for m, f in zip((*METRICS, "fit"), (1.0, 0.6, 1.9, 3.0, 1.3, 1.5, 1.1), strict=True)
        }
        for name, level in levels.items()
        if name != "talkplay"
    }
    kinds = {"all": 1.0, "macro": 0.95, "artist": 1.2, "era": 0.8, "genre": 1.1, "mood": 0.7}
    asked = {**levels, "talkplay-chat": ours * 0.9, "chance": 0.03, "label": 0.33}
    slices = {"warm": 1.0, "cold": 0.6, "missing: lyrics": 0.8, "missing: audio": 0.9,
              "first turn": 1.1, "later turns": 0.95, "direction change": 0.7}  # fmt: skip
    report: dict[str, Any] = {
        "format_version": 1,
        "talkplay_hf": "0.1.0",
        "catalog_kind": "catalog",
        "conversations": 120,
        "turns": 400,
        "candidates": 39_471,
        "k": 100,
        "ranking_options": {"strategy": "beam", "beam_width": 256, "temperature": 1.0},
        "seed": 0,
        "resamples": 1000,
        "exclude_played": True,
        "skipped": {"negative": 31, "no_request": 0, "not_in_catalog": 4, "played_before": 2},
        "hashes": {"model": "a" * 64, "catalog": "b" * 64, "conversations": "c" * 64},
        "ranking": {name: metrics(level) for name, level in levels.items()},
        "ranking_with_negatives": {name: metrics(0.9 * level) for name, level in levels.items()},
        "differences": differences,
        "fit": {
            name: {kind: figure(min(1.0, 2.2 * level * f)) for kind, f in kinds.items()}
            for name, level in asked.items()
        },
        "mrr_by_turn": {
            name: turns(level, 0.01 if name == "talkplay" else 0.05)
            for name, level in levels.items()
        },
        "hit_curve": {
            name: {
                str(k): figure(min(1.0, level * (0.6 + 0.5 * at)))
                for at, k in enumerate((1, 2, 5, 10, 20, 50, 100))
            }
            for name, level in levels.items()
        },
        "slices": {
            name: {system: metrics(level * f, 80, 0.06) for system, level in levels.items()}
            for name, f in slices.items()
        },
        "lists": {
            name: {"coverage@10": 0.1 + level, "gini@10": 0.9 - level,
                   "popularity_rank@10": 9_000.5 * level, "artists@10": 0.8}
            for name, level in levels.items()
        },
        "replies": {
            "talkplay": {"distinct-1": 0.04, "distinct-2": 0.21, "title": figure(0.61)},
            "label": {"distinct-1": 0.09, "distinct-2": 0.43, "title": figure(0.66)},
        },
        "matching": matching(),
        "examples": [example()],
        "training": training(),
        "codebooks": codebooks(),
    }  # fmt: skip
    report |= changes
    return {key: value for key, value in report.items() if value is not None}


def matching() -> dict[str, Any]:
    def counts(exact: tuple[int, int], partial: dict[str, tuple[int, int]], none: int) -> Any:
        def split(pair: tuple[int, int]) -> dict[str, int]:
            return {"warm": pair[0], "cold": pair[1]}

        return {
            "queries": sum(exact) + sum(map(sum, partial.values())) + none,
            "exact": split(exact),
            "partial": {name: split(pair) for name, pair in partial.items()},
            "none": none,
            "distinct": split((90, 4)),
            "tracks": split((37_114, 2_357)),
        }

    four, two = "playlist + semantic + metadata + lyrics", "playlist + semantic"
    return {
        "samples": 1000,
        "seed": 0,
        "well_formed": {"none": 0.98, "grammar": 1.0, "catalog": 1.0},
        "exact": {"none": 0.49, "grammar": 0.5, "catalog": 1.0},
        "independent": 0.0003,
        "matches": {
            "none": counts((460, 30), {four: (210, 20), two: (190, 10), "audio": (40, 0)}, 20),
            "grammar": counts((470, 30), {four: (220, 20), two: (200, 10)}, 50),
            "catalog": counts((960, 40), {}, 0),
        },
    }


def training() -> dict[str, Any]:
    log: list[dict[str, Any]] = []
    for step in range(10, 4010, 10):
        loss = 0.4 + 30 / (step + 9)
        log.append(
            {
                "step": step,
                "loss": loss,
                "loss_conversations": loss,
                "loss_playlists": loss + 0.2,
                "self_similarity": 0.06 + 2 / (step + 9),
            }
        )
        if step % 500 == 0:
            log.append({"step": step, "eval_conversations_loss": loss + 0.05,
                        "eval_playlists_loss": loss + 0.3})  # fmt: skip
    return {
        "base_model": "scratch",
        "parameters": 551_808,
        "steps": 4000,
        "tokens_seen": 3_638_510,
        "seed": 0,
        "best": {"metric": "eval_conversations_loss", "step": 4000, "value": 0.4575},
        "evaluation": {"eval_conversations_loss": 0.4575},
        "log": log,
    }


def codebooks() -> dict[str, Any]:
    one = {"codes": 32, "used": 31, "perplexity": 28.6, "largest_share": 0.06, "explained": 0.52,
           "training": {"below_10": 1, "never": 0}}  # fmt: skip
    return {
        "tracks": 300,
        "distinct_tuples": 291,
        "collision_rate": 0.0567,
        "largest_bucket": 3,
        "modalities": dict.fromkeys(MODALITIES, one),
    }
