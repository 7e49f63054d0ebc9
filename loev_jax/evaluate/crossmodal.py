"""Music found by its score and by words, through a small adapter trained on a frozen space.

Clips are looked for by what belongs to them: the score at their tempo and in their key, as a piano
roll, or a caption in plain words; and the other way round. The adapter is trained on the train
split, one of its settings is picked on validation, and the pieces of the test split are new to it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from loev_jax.corpus import roll, scores
from loev_jax.errors import UserError
from loev_jax.evaluate import captions, figures, towers
from loev_jax.evaluate.captions import Known, Vocabulary
from loev_jax.evaluate.evaluator import SPLITS, too_few
from loev_jax.evaluate.features import Parts
from loev_jax.evaluate.metrics import KEYS, key_scores, ranks, tempo_hits
from loev_jax.evaluate.spaces import Facts, Vectored

VARIANTS = 8
"""Captions of each training clip."""

FIRST = 10
"""Clips that a targeted search looks at."""

ASKED = 24
"""Tempi, and keys, that targeted searches ask for."""

_TOLERANCE = 0.08  # of a tempo that was asked for, as of neighbours


def scored(pieces: Sequence[str] | np.ndarray, labels: Iterable[str]) -> bool:
    """Whether clips of these pieces with these labels are those of the built-in corpus."""
    try:
        there = {source.piece for source in scores.sources()}
    except UserError:  # the scores are not installed
        return False
    return set(pieces) <= there and {"tempo", "key"} <= set(labels)


def rolls(facts: Facts) -> np.ndarray | None:
    """What `roll.describe` keeps of each clip's score, at its tempo and in its key.

    Returns:
        [clips, size] f32; None where the clips are not those of the built-in corpus.
    """
    if not scored(facts.pieces, facts.labels):
        return None
    of = zip(facts.pieces, facts.labels["tempo"], facts.labels["key"], strict=True)
    return roll.describe(
        [roll.perform(scores.load(str(piece)), float(bpm), int(key)) for piece, bpm, key in of]
    )


def told(labels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[Known]]:
    """Which clips captions can speak of: those with a tempo or a key.

    Args:
        labels: [clips] by column.

    Returns:
        [clips] bool, and what is known about those clips.
    """
    clips = captions.known(labels)
    there = np.array([one.tempo is not None or one.key is not None for one in clips], bool)
    return there, [one for one, here in zip(clips, there, strict=True) if here]


def _both_ways(alike: np.ndarray, pieces: np.ndarray, name: str) -> dict[str, figures.Figure]:
    """R@1, R@5, R@10 and MRR of [other, audio], where the own one lies on the diagonal."""
    found = {}
    for way, cosines in (("to_audio", alike), ("from_audio", alike.T)):
        place = ranks(cosines)
        for k in (1, 5, 10):
            found[f"{name}_{way}_r{k}"] = figures.mean(place <= k, pieces)
        found[f"{name}_{way}_mrr"] = figures.mean(1.0 / place, pieces)
    return found


class ByScore:
    """Clips by their scores, and scores by their clips: an `Evaluator`."""

    name = "score"

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        if any(facts[split].rolls is None for split in SPLITS):
            return ["the clips are not those of the built-in corpus: there are no scores"]
        return too_few({split: len(facts[split].ids) for split in SPLITS}, "clips with a score")

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`. Shuffled, the adapter learns from scores of other clips."""
        if self.left_out(facts):
            return {}
        train, validation, test = (np.asarray(facts[split].rolls) for split in SPLITS)
        if shuffle is not None:
            train = shuffle.permutation(train)
        audio = Parts(*(vectors[split].tracks[space] for split in SPLITS))
        other = Parts(train[None], validation, test)
        return _both_ways(towers.match(audio, other), facts["test"].pieces, self.name)


@dataclasses.dataclass(frozen=True)
class Wording:
    """Captions of a train and a validation split, and the vocabulary that counts them.

    Attributes:
        vocabulary: of the train split's captions.
        train: counts, [variants, clips, terms].
        validation: counts, [clips, terms].
    """

    vocabulary: Vocabulary
    train: np.ndarray
    validation: np.ndarray

    @staticmethod
    def draw(train: Sequence[Known], validation: Sequence[Known], seed: int = 0) -> Wording:
        """Draws `VARIANTS` captions of each clip to train on, and one to validate."""
        return _wording(tuple(train), tuple(validation), seed)


@functools.lru_cache(maxsize=1)  # every space is searched by the same captions
def _wording(train: tuple[Known, ...], validation: tuple[Known, ...], seed: int) -> Wording:
    variants = [_captions(train, [seed, 0, number]) for number in range(VARIANTS)]
    vocabulary = Vocabulary.of([text for texts in variants for text in texts])
    counts = np.stack([vocabulary.count(texts) for texts in variants])
    validated = vocabulary.count(_captions(validation, [seed, 1]))
    for array in (counts, validated):
        array.setflags(write=False)
    return Wording(vocabulary, counts, validated)


def _captions(clips: Sequence[Known], seed: Sequence[int]) -> list[str]:
    random = np.random.default_rng(seed)
    return [captions.caption(one, random) for one in clips]


class ByWords:
    """Clips by captions, and captions by clips: an `Evaluator`.

    Besides the rank of a clip by its own caption: `text_tempo`, of the first ten clips for
    "N bpm" the share within 8 % of it, for tempi spread evenly over those of the test split; and
    `text_key`, the mean weighted score of the keys of the first ten for each "in KEY".
    """

    name = "text"

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        counts = {split: int(told(facts[split].labels)[0].sum()) for split in SPLITS}
        return too_few(counts, "clips with a tempo or a key")

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`. Shuffled, the adapter learns from captions of other clips."""
        if self.left_out(facts):
            return {}
        there, clips = {}, {}
        for split in SPLITS:
            there[split], clips[split] = told(facts[split].labels)
        audio = Parts(*(vectors[split].tracks[space][there[split]] for split in SPLITS))
        wording = Wording.draw(clips["train"], clips["validation"])
        train = wording.train
        if shuffle is not None:
            train = shuffle.permutation(train, axis=1)
        own, asked = _captions(clips["test"], [0, 2]), _targets(clips["test"])
        texts = own + [text for target in asked for text in target.texts]
        other = Parts(train, wording.validation, wording.vocabulary.count(texts))
        alike = towers.match(audio, other)
        pieces = facts["test"].pieces[there["test"]]
        found = _both_ways(alike[: len(own)], pieces, self.name)
        row = len(own)
        for target in asked:
            rows = alike[row : row + len(target.texts)]
            row += len(target.texts)
            shared = np.stack([target.agree(at, target.values) for at in range(len(rows))])
            found[f"{self.name}_{target.name}"] = figures.first(shared, rows, FIRST, pieces)
        return found


@dataclasses.dataclass(frozen=True)
class _Target:
    """Searches for one thing.

    Attributes:
        name: of what is asked for.
        texts: one for each value of it.
        values: of the test clips, NaN for none.
        agree: (number of the text, values of clips) → how well each agrees, 0..1.
    """

    name: str
    texts: list[str]
    values: np.ndarray
    agree: Callable[[int, np.ndarray], np.ndarray]


def _targets(clips: Sequence[Known]) -> list[_Target]:
    """Searches by the tempo alone and by the key alone, where the clips have them."""
    found = []
    tempi = np.array([one.tempo or np.nan for one in clips], np.float64)
    if np.isfinite(tempi).any():
        asked = np.nanquantile(tempi, (np.arange(ASKED) + 0.5) / ASKED)
        found.append(
            _Target(
                "tempo",
                [f"{one:.0f} bpm" for one in asked],
                tempi,
                lambda at, values: tempo_hits(asked[at], values, _TOLERANCE),
            )
        )
    keys = np.array([np.nan if one.key is None else one.key for one in clips], np.float64)
    if np.isfinite(keys).any():
        found.append(
            _Target(
                "key",
                [f"in {captions.key_names(key)[0]}" for key in range(KEYS)],
                keys,
                lambda at, values: np.where(
                    np.isfinite(values), key_scores()[at, np.nan_to_num(values).astype(int)], 0.0
                ),
            )
        )
    return found
