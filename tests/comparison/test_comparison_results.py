"""The file that holds a comparison, and how it is shown."""

import dataclasses
import re
import statistics

import made_up
import pytest

from loev_jax.comparison import report, runs
from loev_jax.errors import UserError


def test_what_is_written_is_read_again(tmp_path):
    assert runs.read(tmp_path) is None
    written = made_up.results(("simclr", 0), ("loev_tempo_pitch", 0))
    runs.write(tmp_path, written)
    assert runs.read(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert written.missing()[0] == ("loevpp_tempo_pitch", 0)
    assert len(written.missing()) == 7


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"plan": {}, "runs": {}}', '{"runs": {}}'])
def test_what_is_no_comparison_is_one_line(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=r"results\.json is no comparison .*: remove it"):
        runs.read(tmp_path)


def test_means_and_deviations():
    text = report.markdown(made_up.results())
    assert text.startswith("9 of 9 runs are done.")
    values = [0.1, 0.2, 0.3]
    cell = f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}".replace("0.", ".")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    (found,) = (row for row in rows if row[:2] == ["LOEV, both", "encoder"] and len(row) == 12)
    assert found[2:] == ["3", *[cell] * 8, "-"]
    (missing,) = (row for row in rows if row[:2] == ["LOEV, both", "tempo"] and len(row) == 12)
    assert missing[3:5] == ["-", cell]
    for space in ("encoder", "tempo"):
        assert ["random init", space, "3", *[".05 ± .00"] * 8, "-"] in rows
    assert ["LOEV, both", "100", "500", "50, 50, 50"] in rows
    assert ["librosa, Krumhansl", "-", "1", ".70", ".90", ".80", *["-"] * 6] in rows


def test_a_single_run_has_no_deviation():
    text = report.markdown(made_up.results(("simclr", 0)))
    assert "±" not in text
    assert "random init" not in text  # it is the reference's
    assert re.search(r"\| SimCLR +\| encoder \| 1 +\| \.10 ", text)


def test_what_heads_keep_against_what_they_do_not():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(made_up.results(("simclr", 0), ("simclr", 2))).splitlines()
    ]
    # Kept: tempo .1 and .3, pitch .9 and .7. Not kept: tempo .1 and .3, pitch .1.
    assert ["SimCLR", "2", ".50 ± .00", ".15 ± .07", ".35 ± .07"] in rows
    without = made_up.results(("simclr", 0))
    without.runs["simclr/0"]["heads"] = {}
    assert "difference" not in report.markdown(without)


def test_intervals_are_means_over_seeds_of_the_runs_that_have_them():
    found = made_up.results()
    del found.runs["simclr/1"]["intervals"]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(found).splitlines()
    ]
    there = [".20 to .30", "-", ".10 to .50", *["-"] * 5]
    assert ["LOEV, both", "encoder", "3", *there] in rows
    assert ["SimCLR", "encoder", "2", *there] in rows
    classical = [".65 to .74", ".85 to .94", ".75 to .84", *["-"] * 5]
    assert ["librosa, Krumhansl", "-", "1", *classical] in rows
    assert "humming, MRR, 95 %" not in report.markdown(found)
    bare = dataclasses.replace(found, runs={}, classical_intervals={})
    assert "95 %" not in report.markdown(bare)


def test_intervals_of_random_init_are_the_references_where_its_runs_have_kept_them():
    found = made_up.results()
    for run, end in (("loev_tempo_pitch/0", 0.2), ("loev_tempo_pitch/1", 0.4), ("simclr/0", 0.9)):
        found.runs[run]["random_init_intervals"] = {"encoder": {"tempo_acc1": [0.1, end]}}
    lines = report.markdown(found).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if " to " in line]
    untrained = [row for row in rows if row[0] == "random init"]
    assert untrained == [["random init", "encoder", "2", ".10 to .30", *["-"] * 7]]


def test_searches_have_a_table_and_a_resumed_training_no_time():
    found = made_up.results(("simclr", 0), ("simclr", 1), ("simclr", 2))
    for one, value in (("simclr/0", 0.25), ("simclr/1", 0.35)):
        found.runs[one]["spaces"]["encoder"]["text_key"] = value
    del found.runs["simclr/1"]["seconds"]["training"]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(found).splitlines()
    ]
    assert ["SimCLR", "125", "400", "50, -, 50"] in rows
    at = rows.index(["recipe", "space", "seeds", *report.SEARCHES.values()])
    (searched,) = (row for row in rows[at:] if row[:2] == ["SimCLR", "encoder"])
    assert searched[2] == "2"  # the third run was not asked
    cells = dict(zip(report.SEARCHES, searched[3:], strict=True))
    assert cells["text_key"] == ".30 ± .07"
    for none in ("humming, first", "R@", "chance"):
        assert none not in report.markdown(made_up.results())


def test_ranks_of_searches_stand_below_chance_and_beside_their_intervals():
    found = made_up.results(("simclr", 0))
    run = found.runs["simclr/0"]
    metrics = [*report.SEARCHES, *report.WORDS, *report.SCORES]
    run["spaces"]["encoder"] |= dict.fromkeys(metrics, 0.5)
    run["intervals"]["encoder"] |= {"humming_h10": [0.4, 0.6], "time_stretch_r2": [0.3, 0.7]}
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(found).splitlines()
    ]
    harmonic = sum(1 / (1 + place) for place in range(40)) / 40
    for columns in (report.SEARCHES, report.WORDS, report.SCORES):
        at = rows.index(["recipe", "space", "seeds", *columns.values()])
        chance, searched = rows[at + 2 : at + 4]
        assert searched == ["SimCLR", "encoder", "1", *[".50"] * len(columns)]
        assert chance[:3] == ["chance", "among 40", "1"]
        for metric, cell in zip(columns, chance[3:], strict=True):
            if metric.endswith("mrr"):
                assert float(cell) == pytest.approx(harmonic, abs=0.005)
            elif metric in ("text_tempo", "text_key"):
                assert cell == "-"
            else:
                tenths = {"1": ".03", "5": ".12", "0": ".25"}
                assert cell == tenths[metric[-1]], metric
    titles = [f"{title}, 95 %" for title in report.SEARCHES.values()]
    bounded = rows[rows.index(["recipe", "space", "seeds", *titles]) + 2]
    cells = dict.fromkeys(report.SEARCHES, "-") | {"humming_h10": ".40 to .60"}
    assert bounded == ["SimCLR", "encoder", "1", *cells.values()]
    first = [".20 to .30", "-", ".00 to .50", *["-"] * 3, ".30 to .70", "-"]
    assert ["SimCLR", "encoder", "1", *first] in rows
    found.candidates = 0  # an older comparison
    assert "chance" not in report.markdown(found)


def test_the_plot_shows_every_run(tmp_path):
    drawn = []

    class Axes:
        def plot(self, x, y, *style, **more):
            drawn.extend(zip(x, y, strict=True))

    found = report.rows(made_up.results())
    names = list(dict.fromkeys(name for name, _, _ in found))
    report._dots(Axes(), "key_weighted", found, names, ["encoder", "tempo", "pitch"])
    assert len(drawn) == len(set(drawn)) + 4 == 3 * (2 + 3 * 3)  # random init's are all equal
    report.plot(made_up.results(("simclr", 0)), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_is_of_the_runs_that_were_asked():
    """Hums are searched for with the first seed only."""
    found = made_up.results(("simclr", 0), ("simclr", 1))
    found.runs["simclr/0"]["spaces"]["encoder"]["humming_mrr"] = 0.25
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(found).splitlines()
    ]
    assert ["SimCLR", "encoder", "2", *[".15 ± .07"] * 8, ".25"] in rows


def test_what_is_measured_beside_has_tables_of_its_own():
    found = made_up.results(("loev_tempo_pitch", 0))
    run = found.runs["loev_tempo_pitch/0"]
    tables = (report.PROBES, report.COPIES, report.PREDICTED, report.ALIKE)
    for value, columns in enumerate(tables, start=1):
        run["spaces"]["encoder"] |= dict.fromkeys(columns, value / 10)
    run["shuffled_labels"] = {"encoder": {"metre_accuracy": 0.3}}
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(found).splitlines()
    ]
    for value, columns in enumerate(tables, start=1):
        at = rows.index(["recipe", "space", "seeds", *columns.values()])
        assert ["LOEV, both", "encoder", "1", *[f".{value}0"] * len(columns)] in rows[at : at + 4]
    assert ["shuffled labels", "encoder", "1", "-", "-", ".30", "-"] in rows
