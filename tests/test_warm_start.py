"""Starting from another model: what fits is taken, what does not is told."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_run
from encoders import mule_peer
from flax import nnx
from safetensors.numpy import save_file

from loev_jax import checkpoint, config, export, fsdp, run_config, step, warm_start
from loev_jax import model as models
from loev_jax.config import Start
from loev_jax.encoders import mule
from loev_jax.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("warm") / "run"
    tiny_run.write(workdir, steps=(1, 2))
    return workdir


def drawn(spec, seed=7):
    return nnx.to_pure_dict(nnx.state(models.create(spec, seed)))


def started(spec, given, where="there"):
    """Parameters that start from those given, and what was drawn of them."""
    params = drawn(spec)
    taken, rest = warm_start.fit(spec, params, given, where)
    return warm_start.put(params, taken), rest


def other(run, **changes):
    """The recipe of the run with other sections."""
    return config.read(run_config.load_sections(run) | changes)


def equal(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_run_gives_all_its_parameters(run):
    recipe = run_config.load(run)
    for number, expected in ((0, 2), (1, 1)):
        given = warm_start.read(Start(str(run), number), recipe)
        params, rest = started(recipe.model, given)
        saved = nnx.state(checkpoint.restore_model(run, expected, recipe))
        assert rest == []
        equal(params, nnx.to_pure_dict(saved))


def test_an_exported_model_gives_what_both_have(run, tmp_path):
    export.save(run, None, tmp_path / "MODEL")
    recipe = run_config.load(run)
    target = other(run, heads={"level": "gain", "tempo": "time_stretch"})
    for path in (tmp_path / "MODEL", tmp_path / "MODEL" / "model.safetensors"):
        given = warm_start.read(Start(str(path)), target)
        params, rest = started(target.model, given)
        assert rest == ["heads.level", "readouts.level"]
        saved = nnx.to_pure_dict(nnx.state(checkpoint.restore_model(run, 2, recipe)))
        equal(params["encoder"], saved["encoder"])
        equal(params["heads"]["tempo"], saved["heads"]["tempo"])
        equal(params["heads"]["level"], drawn(target.model)["heads"]["level"])


def test_every_branch_starts_from_the_only_one(run):
    target = other(run, branched=True)
    given = warm_start.read(Start(str(run)), target)
    params, rest = started(target.model, given)
    assert rest == []
    one = given["encoder.branch.layers.0.convolution.kernel"]
    each = params["encoder"]["branch"]["layers"][0]["convolution"]["kernel"]
    np.testing.assert_array_equal(each, np.stack([one] * 3))


@pytest.mark.parametrize(
    ("heads", "origins"),
    [
        (("pitch", "tempo"), {"invariant": "invariant", "pitch": "pitch", "tempo": "tempo"}),
        # As many heads in another order: shapes alone would not tell.
        (("tempo", "timbre"), {"invariant": "invariant", "tempo": "tempo", "timbre": "invariant"}),
        (("tempo",), {"invariant": "invariant", "tempo": "tempo"}),
        (
            ("gain", "pitch", "tempo"),
            {"invariant": "invariant", "gain": "invariant", "pitch": "pitch", "tempo": "tempo"},
        ),
    ],
)
def test_a_branch_starts_from_that_of_its_head(run, heads, origins):
    keeps = {"pitch": "pitch_shift", "tempo": "time_stretch", "timbre": "filter", "gain": "gain"}
    source = other(run, branched=True).model
    target = other(run, branched=True, heads={head: keeps[head] for head in heads}).model
    theirs = drawn(source, 1)
    params, _ = started(target, warm_start.flat(theirs))
    equal(params["encoder"]["stem"], theirs["encoder"]["stem"])
    # By what they compute of the same music, not by the order in which they lie.
    mel = np.random.default_rng(0).uniform(0, 2, (2, 60, source.bands)).astype(np.float32)

    def features(spec, params):
        return nnx.merge(nnx.graphdef(models.create(spec, 0)), params)(mel).features

    before, after = features(source, theirs), features(target, params)
    assert after.keys() == origins.keys()
    for head, origin in origins.items():
        np.testing.assert_allclose(after[head], before[origin], atol=1e-5)
    assert np.abs(before["tempo"] - before["pitch"]).max() > 0.01


def test_one_space_starts_from_the_invariant_branch(run):
    theirs = drawn(other(run, branched=True).model, 1)
    params, rest = started(run_config.load(run).model, warm_start.flat(theirs))
    assert rest == []
    equal(params["encoder"]["branch"], jax.tree.map(lambda x: x[0], theirs["encoder"]["branch"]))


def test_a_head_of_another_size_is_drawn_whole(run):
    target = other(run, projection={"hidden": (16,), "outputs": 5}).model
    given = warm_start.read(Start(str(run)), run_config.load(run))
    params, rest = started(target, given)
    heads = {"heads.invariant", "heads.pitch", "heads.tempo"}
    assert heads <= set(rest)
    equal(params["heads"], drawn(target)["heads"])
    kernel = params["encoder"]["stem"]["layers"][0]["convolution"]["kernel"]
    np.testing.assert_array_equal(kernel, given["encoder.stem.layers.0.convolution.kernel"])


def test_parameters_in_shards_are_taken_where_they_lie(run, monkeypatch):
    """By shapes alone: a process may hold no more than a part of each."""
    monkeypatch.setattr(fsdp, "SMALLEST", 64)
    recipe, mesh = run_config.load(run), fsdp.make_mesh(shards=8)
    given = warm_start.read(Start(str(run)), recipe)
    abstract = step.abstract(recipe, mesh).params
    taken, rest = warm_start.fit(recipe.model, abstract, given, "there")
    assert rest == []
    own = step.init(recipe, mesh).params
    params = warm_start.put(own, taken)
    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(params))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.sharding, b.sharding), params, own)
    saved = nnx.to_pure_dict(nnx.state(checkpoint.restore_model(run, 2, recipe)))
    equal(jax.device_get(params), saved)


@pytest.mark.parametrize(
    "branched", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["LOEV", "LOEV++"]
)
def test_weights_of_mule_are_taken(run, tmp_path, branched):
    """A file in mule-torch's layout, of a small one."""
    sizes = dataclasses.asdict(mule_peer.SPEC)
    recipe = other(run, encoder={"name": "sf_nfnet_f0"} | sizes, branched=branched)
    shapes = {
        name: shape[::-1] if path[-1] == "kernel" else shape
        for name, (path, shape) in mule.names(mule_peer.SPEC).items()
    }
    weights = mule_peer.weights(shapes)
    save_file({f"backbone.{n}": w for n, w in weights.items()}, tmp_path / "mule.safetensors")
    given = warm_start.read(Start(str(tmp_path / "mule.safetensors")), recipe)
    params, rest = started(recipe.model, given)
    assert not any(part.startswith("encoder") for part in rest)
    for branch in range(3) if branched else (None,):
        for name, value in mule.exported(params["encoder"], mule_peer.SPEC, branch).items():
            np.testing.assert_array_equal(value, weights[name.removeprefix("backbone.")])


def test_what_cannot_be_used_is_told(run, tmp_path):
    recipe = run_config.load(run)
    with pytest.raises(UserError, match="nowhere'"):
        warm_start.read(Start(str(tmp_path / "nowhere")), recipe)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"broken\.safetensors'"):
        warm_start.read(Start(str(tmp_path / "broken.safetensors")), recipe)
    with pytest.raises(UserError, match="no parameter of this encoder"):
        started(recipe.model, {"else": np.zeros(3)})
    given = warm_start.read(Start(str(run)), recipe)
    bias = "encoder.branch.layers.0.norm.bias"
    for changed, message in (
        (given | {bias: np.zeros(3, np.float32)}, r"norm\.bias has the shape \(3,\), here \(8,\)"),
        ({name: given[name] for name in given if name != bias}, r"norm\.bias is not in it"),
        (given | {"encoder.stem.layers.7.bias": given[bias]}, r"layers\.7\.bias is not in the enc"),
    ):
        with pytest.raises(UserError, match=message):
            started(recipe.model, changed)
