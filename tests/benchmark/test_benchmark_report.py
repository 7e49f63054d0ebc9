"""benchmarks.json, and tables."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest

from loev_jax.benchmark import registry, report
from loev_jax.errors import UserError


def test_a_result_joins_those_of_other_runs(tmp_path):
    report.write(tmp_path, "speed", {"ratio": 2.0})
    report.write(tmp_path, "fidelity", {"scores": {"ours": 0.9}})
    report.write(tmp_path, "speed", {"ratio": 3.0})
    results = json.loads((tmp_path / "benchmarks.json").read_text())
    assert results["speed"]["ratio"] == 3.0
    assert results["fidelity"]["scores"] == {"ours": 0.9}
    assert results["speed"]["environment"]["packages"]["jax"]
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.json"]


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "benchmarks.json").write_text(text)
    with pytest.raises(UserError, match="remove it"):
        report.write(tmp_path, "speed", {})
    assert (tmp_path / "benchmarks.json").read_text() == text


def test_versions_of_all_peers_are_told(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    peers = {re.match(r"[\w-]+", one)[0] for one in project["optional-dependencies"]["benchmark"]}
    assert "mule-torch" in peers
    peers -= {"pytest", "pytest-timeout", "hypothesis"}  # what `make test-peers` runs with
    assert peers <= set(report.environment()["packages"])


def test_tables():
    result = {"pieces": 64, "scores": {"ours": {"mean": 0.98765}, "theirs": {"low": 0.5}}}
    assert report.markdown(result).splitlines() == [
        "|        | value |",
        "| ------ | ----- |",
        "| pieces | 64    |",
        "",
        "### scores",
        "",
        "|        | mean   | low |",
        "| ------ | ------ | --- |",
        "| ours   | 0.9877 | -   |",
        "| theirs | -      | 0.5 |",
    ]


def test_choice():
    assert registry.choose(None) == list(registry.BENCHMARKS)
    assert registry.choose(["speed", "speed"]) == ["speed"]
    with pytest.raises(UserError, match="fidelity, speed"):
        registry.choose(["spede"])
