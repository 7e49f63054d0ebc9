import numpy as np

from loev_jax.evaluate import unions


def test_all_weighs_every_space_alike():
    rng = np.random.default_rng(0)
    train = {"large": 100 * rng.normal(size=(50, 30)) + 7, "small": rng.normal(size=(50, 2))}
    both = unions.with_unions(train, train, ["small"])
    assert set(both) == {"large", "small", "all"}
    assert both["all"].shape == (50, 32)
    np.testing.assert_allclose(np.linalg.norm(both["all"][:, :30], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(both["all"][:, 30:], axis=1), 1, rtol=1e-5)


def test_a_cosine_in_the_space_of_heads_is_the_mean_of_theirs():
    rng = np.random.default_rng(0)
    sizes = {"encoder": 9, "invariant": 4, "tempo": 4, "pitch": 3}
    rows = {name: rng.normal(size=(20, size)) for name, size in sizes.items()}
    heads = ["invariant", "tempo", "pitch"]
    for head in heads:
        rows[head] /= np.linalg.norm(rows[head], axis=1, keepdims=True)
    together = unions.with_unions(rows, rows, heads)["heads"]
    lengths = np.linalg.norm(together, axis=1)
    cosines = together @ together.T / np.outer(lengths, lengths)
    np.testing.assert_allclose(cosines, np.mean([rows[h] @ rows[h].T for h in heads], axis=0))


def test_a_cosine_in_a_mix_is_the_weighted_mean_of_cosines():
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=(6, 4)), "b": 50.0 * rng.normal(size=(6, 9))}
    mix = unions.Mix.parse("a=3+b")
    mixed = unions.with_unions(rows, rows, ["a"], [mix])[str(mix)]

    def cosines(of):
        unit = of / np.linalg.norm(of, axis=1, keepdims=True)
        return unit @ unit.T

    expected = (3 * cosines(rows["a"]) + cosines(rows["b"])) / 4
    np.testing.assert_allclose(cosines(mixed.astype(float)), expected, atol=1e-6)
