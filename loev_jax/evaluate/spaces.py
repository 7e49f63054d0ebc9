"""Clips become vectors, in every space of one or more models at once.

The models share the log-mel, which costs more than the encoder on a CPU, and their parameters are
arguments of one compiled function: another checkpoint compiles nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from loev_jax import frontend
from loev_jax.augment.views import FULL_SCALE, Views
from loev_jax.data import records
from loev_jax.data.progress import Progress
from loev_jax.errors import UserError
from loev_jax.evaluate import changes, clips, sweep
from loev_jax.evaluate.clips import Source
from loev_jax.model import Model

Vectors = dict[str, np.ndarray]
"""By space, [rows, size] f32."""

_CLIPS = 1 << 24  # more than a split has: the splits' clips are numbered apart
_VIEWS_PER_DEVICE = 32  # about 0.4 GB for views of 5 s


@dataclasses.dataclass(frozen=True)
class Vectored:
    """Where a model puts the clips of a split.

    Attributes:
        tracks: by space, the mean over the segments of each clip, [clips, size].
        clean: by space, one segment of each clip that has a pair, [pairs, size].
        moved: by space, the same segment changed by the pair's `Facts.differences`, [pairs, size].
        swept: by space, the views of `sweep`, [clips, views, size]; nothing where none are made.
    """

    tracks: Vectors
    clean: Vectors
    moved: Vectors
    swept: Vectors = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about the clips of a split, whatever the model.

    Attributes:
        ids: [clips] str.
        pieces: [clips] str.
        labels: by name, [clips].
        differences: by parameter (`changes.parameters`), in its unit, of each pair, [pairs].
        paired: whether a clip has a pair, [clips] bool.
        skipped: ids of the clips that are shorter than a segment.
        digest: CRC-32 of the audio, to tell another data set of the same ids.
        swept: of the views of `sweep`; None where none are made.
        rolls: what is kept of each clip's score, [clips, size]; None where none is needed or known.
    """

    ids: np.ndarray
    pieces: np.ndarray
    labels: dict[str, np.ndarray]
    differences: dict[str, np.ndarray]
    paired: np.ndarray
    skipped: tuple[str, ...]
    digest: int
    swept: sweep.Sweep | None = None
    rolls: np.ndarray | None = None

    @property
    def pairs(self) -> int:
        """How many there are."""
        return int(self.paired.sum())


class Embedder:
    """Embeds splits with models of one structure, on all devices."""

    def __init__(
        self,
        views: Views,
        model: Model,
        segments: int,
        views_per_device: int = _VIEWS_PER_DEVICE,
        *,
        changed: Collection[str] = (),
    ) -> None:
        """Compiles nothing yet.

        Args:
            views: of the recipe: its front end, the length of a view, its ranges.
            model: any model of the structure; its parameters are not kept. Pairs differ in what its
                heads keep.
            segments: most segments of a clip.
            views_per_device: that are in memory at once.
            changed: augmentations of the recipe in which pairs differ, too.
        """
        self._kept = changes.kept_by(model.spec.heads) | {*changed}
        self.layout = clips.layout(views, segments, self._kept)
        self._views = views
        self._pair = clips.chain(views, changes.ranges(views.augmentations, self._kept))
        self._graph = nnx.graphdef(model)
        devices = jax.devices()
        self.batch = max(1, views_per_device // (segments + 1)) * len(devices)
        mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,))
        self._rows = NamedSharding(mesh, PartitionSpec("data"))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self.compiled = jax.jit(self._apply)
        self._chain = sweep.chain(views)
        self._sweep = jax.jit(self._apply_swept)
        self._views_per_device = views_per_device

    def embed(
        self,
        models: Sequence[Model],
        split: Source,
        *,
        number: int,
        seed: int,
        most: int | None = None,
    ) -> tuple[Facts, list[Vectored]]:
        """Embeds one split, holding one batch of audio at a time.

        Args:
            models: of the structure given to the constructor.
            split: what to embed.
            number: of the split, so that splits draw differently.
            seed: of the pairs' draws.
            most: use at most so many clips, spread evenly.

        Returns:
            The facts, and where each model puts the clips.

        Raises:
            UserError: every clip of the split is shorter than a segment, or there is none.
        """
        parameters = [jax.device_put(nnx.state(model), self._everywhere) for model in models]
        chosen = clips.choose(len(split), most)
        drawn = changes.draw(self._views.augmentations, seed, number * _CLIPS + chosen, self._kept)
        skipped: list[str] = []
        done: list[clips.Batch] = []
        results: list[list[Vectored]] = []
        progress = Progress(f"embedding {split.name}", len(chosen), "clips")
        ahead = None
        for batch in clips.batches(
            (split[int(index)] for index in chosen), self.layout, drawn, self.batch, skipped
        ):
            following = self.compiled(parameters, jax.device_put(batch.arrays, self._rows))
            if ahead is not None:  # fetched late: the device works while the host reads on
                results.append(_fetch(ahead, done[-1].paired))
            ahead = following
            done.append(batch.without_audio())
            progress.update(sum(len(one.clips) for one in done))
        if ahead is None:
            raise UserError(
                f"data set {split.path}: split {split.name!r} has no clip of "
                f"{self.layout.segment / self._views.frontend.sample_rate:g} s: add longer ones"
            )
        results.append(_fetch(ahead, done[-1].paired))
        progress.close()
        return _facts(done, split.label_names, skipped), [
            _join([batch[model] for batch in results]) for model in range(len(models))
        ]

    def sweep(
        self,
        models: Sequence[Model],
        split: Source,
        *,
        number: int,
        seed: int,
        most: int | None = None,
    ) -> tuple[sweep.Sweep | None, list[Vectors]]:
        """Embeds the views of `sweep`, of some clips of a split. Arguments as for `embed`.

        Returns:
            What is known about the views, and where each model puts them by space, [clips, views,
            size]; None and nothing where no clip is long enough.
        """
        parameters = [jax.device_put(nnx.state(model), self._everywhere) for model in models]
        chosen = clips.choose(len(split), min(most or sweep.CLIPS, sweep.CLIPS))
        drawn = sweep.draw(self._views.augmentations, seed, number * _CLIPS + chosen, self._kept)
        place = {int(clip): at for at, clip in enumerate(chosen)}
        views = len(next(iter(drawn.values()))[0])
        size = max(1, self._views_per_device // views) * len(jax.devices())
        results: list[list[Vectors]] = []
        pieces: list[str] = []
        swept: list[int] = []
        progress = Progress(f"sweeping {split.name}", len(chosen), "clips")
        for audio, kept, of in sweep.middles(split, place, self._chain.source_samples, size):
            rows = [place[clip] for clip in kept]
            filled = np.resize(rows, size)  # of what only fills the batch nothing is kept
            given = {name: value[filled] for name, value in drawn.items()}
            spaces = self._sweep(
                parameters, *(jax.device_put(one, self._rows) for one in (audio, given))
            )
            results.append(
                [{name: np.asarray(one)[: len(rows)] for name, one in s.items()} for s in spaces]
            )
            pieces += of
            swept += rows
            progress.update(len(swept))
        progress.close()
        if not results:
            return None, [{} for _ in models]
        several = {
            name: drawn[name][swept, : 1 + sweep.VIEWS] for name in changes.parameters(self._kept)
        }
        alone = sweep.measured(self._views.augmentations).augmentations
        changed = [
            np.any([drawn[name][swept, 1 + sweep.VIEWS + at] != 0 for name in own], axis=0)
            for at, own in enumerate(alone.values())
        ]
        known = sweep.Sweep(np.array(pieces), several, tuple(alone), np.stack(changed, axis=1))
        return known, [
            {name: np.concatenate([one[model][name] for one in results]) for name in results[0][0]}
            for model in range(len(models))
        ]

    def _apply_swept(
        self, parameters: list[nnx.State], audio: jax.Array, drawn: dict[str, jax.Array]
    ) -> list[dict[str, jax.Array]]:
        """Sources [clips, samples] and parameters [clips, views] → by model and space."""
        clips_, views = next(iter(drawn.values())).shape
        rows = jnp.repeat(audio.astype(jnp.float32) / FULL_SCALE, views, axis=0)
        mels = self._chain.apply(rows, {name: value.reshape(-1) for name, value in drawn.items()})
        return [
            {
                name: space.reshape(clips_, views, -1)
                for name, space in nnx.merge(self._graph, state).spaces(mels).items()
            }
            for state in parameters
        ]

    def _apply(
        self, parameters: list[nnx.State], batch: dict[str, jax.Array]
    ) -> list[dict[str, dict[str, jax.Array]]]:
        """By model: tracks, clean and moved, each by space [clips, size]."""
        number, segments, samples = batch["segments"].shape
        front = self._views.frontend
        plain = batch["segments"].reshape(number * segments, samples)
        mels = frontend.log_mel(front, plain.astype(jnp.float32) / FULL_SCALE)
        source = batch["source"].astype(jnp.float32) / FULL_SCALE
        names = (name for names in self._pair.augmentations.values() for name in names)
        other = self._pair.apply(source, {name: batch[name] for name in names})
        views = jnp.concatenate([mels, other])

        def split(space: jax.Array) -> dict[str, jax.Array]:
            each = space[: number * segments].reshape(number, segments, -1)
            return {
                "tracks": jnp.sum(each * batch["weight"][:, :, None], axis=1),
                "clean": each[jnp.arange(number), batch["clean"]],
                "moved": space[number * segments :],
            }

        results = []
        for state in parameters:
            spaces = nnx.merge(self._graph, state).spaces(views)
            of = {name: split(space) for name, space in spaces.items()}
            results.append(
                {
                    part: {name: values[part] for name, values in of.items()}
                    for part in ("tracks", "clean", "moved")
                }
            )
        return results


def _fetch(
    results: list[dict[str, dict[str, jax.Array]]], paired: Sequence[bool]
) -> list[Vectored]:
    """Brings a batch to the host, without the rows that only fill it."""
    mask = np.array(paired)

    def rows(part: str, spaces: Mapping[str, jax.Array]) -> Vectors:
        real = {name: np.asarray(space)[: len(mask)] for name, space in spaces.items()}
        return real if part == "tracks" else {name: space[mask] for name, space in real.items()}

    return [Vectored(**{k: rows(k, v) for k, v in one.items()}) for one in jax.device_get(results)]


def _join(parts: Sequence[Vectored]) -> Vectored:
    def join(many: Sequence[Vectors]) -> Vectors:
        return {name: np.concatenate([one[name] for one in many]) for name in many[0]}

    return Vectored(
        join([one.tracks for one in parts]),
        join([one.clean for one in parts]),
        join([one.moved for one in parts]),
    )


def _facts(done: Sequence[clips.Batch], labels: Sequence[str], skipped: Sequence[str]) -> Facts:
    known = [clip for batch in done for clip in batch.clips]

    def column(name: str) -> np.ndarray:
        return np.array([clip[name] for clip in known])

    differences = {
        name: np.concatenate([b.differences[name][: len(b.paired)][b.paired] for b in done])
        for name in done[0].differences
    }
    return Facts(
        column(records.ID),
        column(records.PIECE),
        {name: column(name) for name in labels},
        differences,
        np.concatenate([np.array(batch.paired, bool) for batch in done]),
        tuple(skipped),
        done[-1].digest,
    )
