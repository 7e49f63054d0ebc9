"""Learning curves of a comparison: tables, differences and a plot."""

import made_up

from loev_jax.comparison import curves, report

NAMES = ("key_weighted_1of8", "key_weighted_1of4", "key_weighted_1of2", "key_weighted")


def with_curves(found, *keys):
    """Gives runs a curve of the key; that of the pitch head ends highest."""
    for run in found.runs.values():
        run["intervals"]["pitch"] = {}
    for number, key in enumerate(keys):
        run = found.runs[key]
        run["spaces"] = {space: dict(metrics) for space, metrics in run["spaces"].items()}
        for space, offset in (("encoder", 0.0), ("pitch", 0.1)):
            values = [0.4 + 0.1 * number + offset + 0.05 * place for place in range(4)]
            run["spaces"][space] |= dict(zip(NAMES, values, strict=True))
            ends = {name: [v - 0.1, v + 0.1] for name, v in zip(NAMES, values, strict=True)}
            run["intervals"][space] = ends
    return found


def rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_a_curve_has_a_table_with_intervals_means_over_the_seeds_that_have_one():
    found = with_curves(made_up.results(), "simclr/0", "simclr/2", "loev_tempo_pitch/0")
    table = rows(report.markdown(found))
    at = table.index(["recipe", "space", "seeds", *curves.columns("key_weighted").values()])
    assert curves.columns("key_weighted")["key_weighted_1of8"] == "key, weighted, 1/8 of the labels"
    simclr, *_ = (row for row in table[at:] if row[:2] == ["SimCLR", "encoder"])
    assert simclr[2:] == [
        "2", ".45 ± .07 (.35 to .55)", ".50 ± .07 (.40 to .60)", ".55 ± .07 (.45 to .65)",
        ".60 ± .07 (.50 to .70)",
    ]  # fmt: skip
    there = [row[:2] for row in table[at + 2 : at + 8]]
    assert there == [
        [name, space]
        for name in ("SimCLR", "LOEV, both")
        for space in ("encoder", "tempo", "pitch")
    ]
    assert table[at + 3][3] == "-"  # of the tempo head nothing was asked
    assert curves.markdown(made_up.results(), "key_weighted") == ""
    assert curves.markdown(found, "tempo_acc1") == ""


def test_random_init_has_a_curve_too_where_it_was_measured(tmp_path, monkeypatch):
    found = with_curves(made_up.results(), "simclr/0", "loev_tempo_pitch/0")
    values = dict(zip(NAMES, (0.2, 0.3, 0.4, 0.5), strict=True))
    found.runs["loev_tempo_pitch/0"]["random_init"] = {"encoder": values}
    table = rows(curves.markdown(found, "key_weighted"))
    assert table[2] == ["random init", "encoder", "1", ".20", ".30", ".40", ".50"]
    found.runs["simclr/0"]["random_init"] = {"encoder": values}  # the reference's is shown
    assert rows(curves.markdown(found, "key_weighted")) == table
    drawn, draw = {}, curves.learning_curves.draw_line

    def spied(axes, name, values, ends, **style):
        drawn[style["label"]] = (values, ends)
        draw(axes, name, values, ends, **style)

    monkeypatch.setattr(curves.learning_curves, "draw_line", spied)
    curves.plot(found, tmp_path / "curves.png")
    assert list(drawn) == ["random init: encoder", "SimCLR: pitch", "LOEV, both: pitch"]
    assert drawn["random init: encoder"] == (values, {})


def test_differences_by_the_share_of_the_labels_have_a_table():
    found = with_curves(made_up.results(), "simclr/0", "loev_tempo_pitch/0")
    cells = {name: [0.01 * n, 0.0, 0.02 * n] for n, name in enumerate(NAMES, start=1)}
    found.differences = {"loev_tempo_pitch": {"0": {"pitch": cells}}}
    shown = [f"+.0{n}0 (+.000 to +.0{2 * n}0)" for n in (1, 2, 3, 4)]
    assert ["LOEV, both", "pitch", "1", *shown] in rows(report.markdown(found))


def test_the_plot_has_the_best_space_of_each_recipe(tmp_path, monkeypatch):
    drawn, draw = [], curves.learning_curves.draw_line

    def spied(axes, name, values, ends, **style):
        drawn.append((name, style["label"], values, ends))
        draw(axes, name, values, ends, **style)

    monkeypatch.setattr(curves.learning_curves, "draw_line", spied)
    path = tmp_path / "curves.png"
    curves.plot(made_up.results(), path)
    assert not path.exists()
    curves.plot(with_curves(made_up.results(), "simclr/0", "loev_tempo_pitch/0"), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [one[:2] for one in drawn] == [
        ("key_weighted", "SimCLR: pitch"), ("key_weighted", "LOEV, both: pitch")
    ]  # fmt: skip
    assert drawn[0][2]["key_weighted"] == 0.65
    assert list(drawn[0][2]) == list(NAMES)
