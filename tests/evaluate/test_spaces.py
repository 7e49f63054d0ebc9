import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_music
from scipy import signal

from loev_jax import frontend
from loev_jax import model as models
from loev_jax.augment import (
    Augmentations,
    Clipping,
    Filter,
    Gain,
    PitchShift,
    Reverb,
    TimeStretch,
    analysis,
    reverb,
)
from loev_jax.augment.views import Views
from loev_jax.data import records
from loev_jax.encoders.cnn import Cnn
from loev_jax.errors import UserError
from loev_jax.evaluate import changes, spaces
from loev_jax.heads import Projection

VIEWS = Views(
    frontend.LogMel(n_fft=512, hop=320, bands=16),
    Augmentations(
        time_stretch=TimeStretch(-0.3, 0.3),
        pitch_shift=PitchShift(-4, 4),
        gain=Gain(-12, 6),
        clipping=Clipping(1, 20),
        filter=Filter(probability=0.1),
    ),
    seconds=0.5,
)
SPEC = models.ModelSpec(
    bands=16,
    frame_rate=50.0,
    heads={"tempo": ("time_stretch",), "loudness": ("gain", "clipping"), "colour": ("filter",)},
    readouts={},
    encoder=Cnn(
        channels=(8, 8),
        kernels=(3, 3),
        strides=(2, 1),
        dilations=(1, 1),
        rhythm_channels=0,
        compute_dtype="float32",
    ),
    projection=Projection(hidden=(8,), outputs=4),
)
SPACES = {"encoder": 16, "invariant": 4, "tempo": 4, "loudness": 4, "colour": 4}
DIFFERENCES = ["time_stretch", "pitch_shift", "gain", "clipping", "filter"]
PARAMETERS = [*DIFFERENCES[:4], "filter_kind", "filter_frequency"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("spaces") / "data"
    return tiny_music.write(path, {"test": 11}, lengths={"test3": 0.3, "test7": 0.52, "test9": 1.1})


@pytest.fixture(scope="module")
def split(data):
    return records.open_split(data, "test")


@pytest.fixture(scope="module")
def embedder():
    return spaces.Embedder(VIEWS, models.create(SPEC, 0), segments=3, views_per_device=4)


@pytest.fixture(scope="module")
def embedded(embedder, split):
    these = [models.create(SPEC, seed) for seed in (1, 2)]
    return these, *embedder.embed(these, split, number=2, seed=5)


def test_facts_name_the_clips_that_were_embedded(embedded):
    _, facts, (one, other) = embedded
    assert facts.ids.tolist() == [f"test{n}" for n in range(11) if n != 3]
    assert facts.skipped == ("test3",)
    expected = [tiny_music.record("test", n)["tempo"] for n in range(11) if n != 3]
    np.testing.assert_allclose(facts.labels["tempo"], expected, rtol=1e-6)
    assert set(facts.labels) == set(tiny_music.LABELS)
    for vectors in (one, other):
        assert {s: v.shape for s, v in vectors.tracks.items()} == {
            space: (10, size) for space, size in SPACES.items()
        }
        assert {len(v) for v in (*vectors.clean.values(), *vectors.moved.values())} == {9}
    assert list(facts.differences) == PARAMETERS  # stretch and shift, and what heads keep
    assert {len(v) for v in facts.differences.values()} == {9}


def test_tracks_and_pairs_equal_those_computed_one_by_one(embedded, embedder, split):
    """In batches over eight devices, some rows empty, against single clips and segments."""
    these, facts, found = embedded
    drawn = changes.draw(VIEWS.augmentations, 5, (2 << 24) + np.arange(11), DIFFERENCES)
    where = embedder.layout
    for model, vectors in zip(these, found, strict=True):
        pair = 0
        for row, number in enumerate(n for n in range(11) if n != 3):
            audio = split[number]["audio"].astype(np.float32) / 32768
            starts = where.starts(len(audio))
            cut = jnp.asarray(np.stack([audio[s : s + where.segment] for s in starts]))
            each = model.spaces(frontend.log_mel(VIEWS.frontend, cut))
            for space in SPACES:
                np.testing.assert_allclose(
                    vectors.tracks[space][row], np.mean(each[space], axis=0), atol=2e-5
                )
            pairable = where.pairable(len(audio))
            if not len(pairable):
                continue
            place = pairable[int(drawn["place"][number] * len(pairable))]
            source = audio[starts[place] :][None, : where.source]
            limit = np.abs(source).max() * 10 ** (-drawn["clipping"][number] / 20)
            source = jnp.asarray(np.clip(source, -limit, limit))
            change = {}
            for name in (*PARAMETERS, "filter_bandwidth"):
                change[name] = jnp.asarray(drawn[name][number : number + 1])
                if name in PARAMETERS:
                    assert facts.differences[name][pair] == drawn[name][number]
            mel = analysis.log_mel(VIEWS.frontend, source, change, VIEWS.frames)
            moved = model.spaces(mel)
            for space in SPACES:
                np.testing.assert_allclose(
                    vectors.clean[space][pair], each[space][place], atol=2e-5
                )
                np.testing.assert_allclose(vectors.moved[space][pair], moved[space][0], atol=2e-5)
            pair += 1
        assert pair == 9


def test_a_room_is_of_the_whole_clip_not_of_the_segment(split):
    """A pair's view against the clip convolved as a whole, and cut where its segment starts."""
    views = dataclasses.replace(
        VIEWS, augmentations=dataclasses.replace(VIEWS.augmentations, reverb=Reverb(seconds=0.1))
    )
    spec = dataclasses.replace(SPEC, heads={"room": ("reverb",)})
    model = models.create(spec, 1)
    embedder = spaces.Embedder(views, model, segments=3, views_per_device=4)
    facts, (found,) = embedder.embed([model], split, number=2, seed=5)
    drawn = changes.draw(views.augmentations, 5, (2 << 24) + np.arange(11), ("reverb",))
    where = embedder.layout
    assert where.lead == 1_599
    assert facts.pairs >= 5
    pair = 0
    for number in (n for n in range(11) if n != 3):
        audio = split[number]["audio"].astype(np.float32) / 32768
        pairable = where.pairable(len(audio))
        if not len(pairable):
            continue
        assert where.starts(len(audio))[0] == where.lead  # before which there is nothing
        change = {name: jnp.asarray(value[number : number + 1]) for name, value in drawn.items()}
        start = where.starts(len(audio))[pairable[int(drawn["place"][number] * len(pairable))]]
        response = reverb.impulse_response(
            change["reverb_seed"], change["reverb_decay"], 1_600, 16_000
        )[0]
        wet = drawn["reverb"][number]
        heard = (1 - wet) * audio + wet * signal.fftconvolve(audio, response)[: len(audio)]
        source = jnp.asarray(heard[start : start + where.source - where.lead], jnp.float32)[None]
        mel = analysis.log_mel(views.frontend, source, change, views.frames)
        np.testing.assert_allclose(
            found.moved["room"][pair], model.spaces(mel)["room"][0], atol=2e-4
        )
        pair += 1
    assert pair == facts.pairs


def test_another_checkpoint_compiles_nothing(embedded, embedder, split):
    _, _, (_, second) = embedded
    _, (alone,) = embedder.embed([models.create(SPEC, 2)], split, number=2, seed=5)
    compiled = embedder.compiled._cache_size()
    _, (another,) = embedder.embed([models.create(SPEC, 3)], split, number=2, seed=5)
    assert embedder.compiled._cache_size() == compiled
    np.testing.assert_allclose(alone.tracks["encoder"], second.tracks["encoder"], atol=1e-6)
    assert not np.allclose(another.tracks["encoder"], alone.tracks["encoder"], atol=1e-2)


def test_a_split_of_short_clips_is_refused(tmp_path, embedder):
    path = tiny_music.write(tmp_path / "data", {"test": 2}, lengths={"test0": 0.2, "test1": 0.2})
    short = records.open_split(path, "test")
    with pytest.raises(UserError, match=r"'test' has no clip of 0\.\d+ s"):
        embedder.embed([], short, number=0, seed=0)
