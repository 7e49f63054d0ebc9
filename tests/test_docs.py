"""Whatever the documents link to, tell the reader to type, or name in code, exists."""

import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loev_jax import presets

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# Where the project's own files lie; data, runs and models are the reader's.
FOLDERS = "benchmarks|configs|docs|launch|loev_jax|tests"


def code_of(text: str) -> list[str]:
    """Fenced and indented blocks line by line, and inline spans; continued lines are joined."""
    text = re.sub(r"\\\n\s*", " ", text)
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    # After a blank line or another such line; other indented lines continue a list.
    indented = re.findall(r"(?:\A|(?<=\n\n))((?:(?: {4}|\t).*\n?|\n(?=    ))+)", prose)
    lines = [line.strip() for block in (*fenced, *indented) for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", prose)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(document: Path, text: str) -> Iterator[str]:
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if path and not file.exists():
            yield f"link {target}: no such file"
        elif anchor:
            linked = text if file == document else file.read_text()
            headings = re.findall(r"^#+ (.*)$", linked, re.MULTILINE)
            if anchor not in map(slug, headings):
                yield f"link {target}: no such heading"


def unknown_targets(line: str) -> Iterator[str]:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in re.findall(r"(?:^|[;&$] ?)make((?: [a-z][a-z-]*\b(?!=))+)", line):
        for word in words.split():
            if word not in targets:
                yield f"make {word}: no such target"


def missing_files(line: str) -> Iterator[str]:
    for path in re.findall(rf"(?<![\w./-])((?:{FOLDERS})/[a-z0-9_./-]*\w)", line):
        if not (ROOT / path).exists():
            yield f"{path}: no such file"


def unknown_flags(line: str) -> Iterator[str]:
    found = re.search(r"(launch/[a-z_]+\.py)(.*)", line)
    if not found or not (ROOT / found[1]).exists():
        return
    # What follows a comment sign is not typed.
    typed = found[2].split(" #")[0]
    defined = re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", (ROOT / found[1]).read_text())
    for flag in re.findall(r"--([a-z_.]+)", typed):
        name, *fields = flag.split(".")
        if name not in defined:
            yield f"{found[1]} --{name}: no such flag"
        # Heads are named by the user. The recipes of either size have an encoder of their own.
        if fields and fields[0] != "heads" and not any(_has(v, fields) for v in ("", "small")):
            yield f"{found[1]} --{flag}: no such field"


def _has(variant: str, fields: list[str]) -> bool:
    section = presets.recipe(variant, {"tempo": "time_stretch", "pitch": "pitch_shift"})
    for field in fields:
        if not (hasattr(section, "keys") and field in section):
            return False
        section = section[field]
    return True


def unknown_names(line: str) -> Iterator[str]:
    for name in re.findall(r"\bloev_jax(?:\.[A-Za-z_]\w*)+", line):
        if name.endswith((".py", ".git")):
            continue
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            yield f"{name}: no such name"


def problems(document: Path, text: str) -> list[str]:
    checks = (unknown_targets, missing_files, unknown_flags, unknown_names)
    found = list(broken_links(document, text))
    return found + [
        problem for line in code_of(text) for check in checks for problem in check(line)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_that_a_document_names_exists(document):
    assert problems(document, document.read_text()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("see [it](docs/none.md)", "link docs/none.md: no such file"),
        ("see [it](#nowhere)\n\n# Here", "link #nowhere: no such heading"),
        ("type\n\n    make setup brain   # comment\n", "make brain: no such target"),
        ("type `make brain`", "make brain: no such target"),
        ("```\nmake brain\n```\n", "make brain: no such target"),
        ("`loev_jax/none.py` does it", "loev_jax/none.py: no such file"),
        ("`configs/none.py:small` does it", "configs/none.py: no such file"),
        ("`launch/export.py --none=1`", "launch/export.py --none: no such flag"),
        ("\n\n    python launch/export.py \\\n      --none=1", "launch/export.py --none: no such"),
        ("`loev_jax.none.Thing`", "loev_jax.none.Thing: no such name"),
        ("`loev_jax.errors.none()`", "loev_jax.errors.none: no such name"),
    ],
)
def test_a_defect_is_found(text, problem):
    (found,) = problems(ROOT / "README.md", text)
    assert found.startswith(problem)


def test_what_exists_is_no_defect():
    text = (
        "# A heading, here\n\n[a](#a-heading-here) [b](CHANGELOG.md) [c](https://example.org/x)\n\n"
        "    make lint test PYTHON=python3.11\n"
        "    python launch/export.py --workdir=runs/mine --out=models/mine  # --not=typed\n\n"
        "`loev_jax.load`, `loev_jax/errors.py`, `make` and `git clone x/loev_jax.git`\n"
    )
    assert problems(ROOT / "README.md", text) == []
