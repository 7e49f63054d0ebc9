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
    (found,) = (row for row in rows if row[:2] == ["LOEV, both", "encoder"] and len(row) == 11)
    assert found[2:] == ["3", *[cell] * 8]
    (missing,) = (row for row in rows if row[:2] == ["LOEV, both", "tempo"] and len(row) == 11)
    assert missing[3:5] == ["-", cell]
    for space in ("encoder", "tempo"):
        assert ["random init", space, "3", *[".05 ± .00"] * 8] in rows
    assert ["LOEV, both", "100", "500", "50, 50, 50"] in rows
    assert ["librosa, Krumhansl", "-", "1", ".70", ".90", "-", ".80", *["-"] * 4] in rows


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
    assert ["LOEV, both", "encoder", "3", ".20 to .30", "-", ".10 to .50", "-"] in rows
    assert ["SimCLR", "encoder", "2", ".20 to .30", "-", ".10 to .50", "-"] in rows
    classical = ["librosa, Krumhansl", "-", "1", ".65 to .74", ".85 to .94", ".75 to .84", "-"]
    assert classical in rows
    bare = dataclasses.replace(found, runs={}, classical_intervals={})
    assert "95 %" not in report.markdown(bare)


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
    (searched,) = (row for row in rows if row[:2] == ["SimCLR", "encoder"] and len(row) == 10)
    assert searched[2] == "2"  # the third run was not asked
    assert (
        dict(zip(report.SEARCHES.values(), searched[3:], strict=True))["first ten for a key"]
        == ".30 ± .07"
    )
    assert "humming" not in report.markdown(made_up.results())


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
