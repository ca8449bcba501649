"""README, guides and API page: short enough, links lead somewhere, and commands exist."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from helpers.command import blastogan
from helpers.processes import run_script

from blastogan.cli import LIGHTNING
from blastogan.presets import preset_names

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "blastogan").glob("*/GUIDE.md"))
GLOSSARY = ROOT / "blastogan/GLOSSARY.md"
RESULTS = [ROOT / "examples/RESULTS.md", ROOT / "examples/benchmarks/README.md"]
DOCS = [README, *GUIDES, GLOSSARY, *RESULTS]
COMMANDS = ("fit", "validate", "test", "predict", "audit", "phantom", "recipe", "generate")
COMMANDS += ("evaluate", "export", "folds", "grade fit", "grade test")
SLURM = {"--signal", "--requeue"}

by_name = pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))


def commands_in(text: str) -> list[list[str]]:
    """Every ``blastogan`` command of code blocks and of inline code, as its words."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(blastogan [^`]+)`", text)
    words = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [each[each.index("blastogan") + 1 :] for each in words if "blastogan" in each]


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Options of each command, as its help lists them."""
    found = {}
    for name in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            words = name.split()
            # of these, --help alone shows the most important options
            every = ["all"] if words[0] in LIGHTNING else []
            assert blastogan(*words, "--help", *every) == 0
        found[name] = set(re.findall(r"--[a-z][\w.-]*", text.getvalue()))
    return found


def test_the_readme_is_short_and_warns_of_clinical_use():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 160
    assert len(text.split()) <= 1200
    assert any(line.startswith("> **Not for clinical use.**") for line in text.splitlines())


@by_name
def test_relative_links_lead_to_files(path):
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.S)
    links = re.findall(r"\]\(([^)\s#]+)", text)
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_no_placeholder_is_left():
    assert [p for p in DOCS if re.search(r"@[A-Z]+@", p.read_text("utf-8"))] == []


def test_every_guide_is_linked_from_the_readme():
    text = README.read_text("utf-8")
    paths = [p.relative_to(ROOT).as_posix() for p in (*GUIDES, GLOSSARY, *RESULTS)]
    assert [p for p in paths if f"({p})" not in text] == []


@pytest.mark.parametrize("path", GUIDES, ids=lambda p: p.parent.name)
def test_a_guide_is_part_of_its_package(path):
    assert "\n.. include:: GUIDE.md\n" in (path.parent / "__init__.py").read_text("utf-8")


@by_name
def test_commands_and_presets_exist(path):
    for words in commands_in(path.read_text("utf-8")):
        name = " ".join(words[: 2 if words[0] == "grade" else 1])
        assert name in (*COMMANDS, "grade validate", "grade", "--help", "--version", "COMMAND")
        given = [words[n + 1] for n, word in enumerate(words[:-1]) if word == "--config"]
        assert [g for g in given if g not in preset_names() and not g.endswith(".yaml")] == []


def test_python_examples_are_python():
    for path in DOCS:
        for block in re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.S):
            compile(block, str(path), "exec")


@pytest.mark.slow
def test_options_exist(options):
    unknown = [
        f"{path.name}: {' '.join(words)}: {word}"
        for path in DOCS
        for words in commands_in(path.read_text("utf-8"))
        for word in words
        if word.startswith("--")
        and word not in ("--help", "--version")
        and word.partition("=")[0]
        not in options.get(" ".join(words[: 2 if words[0] == "grade" else 1]), ())
    ]
    assert unknown == []

    sources = "".join(p.read_text("utf-8") for p in ROOT.glob("examples/**/*.py"))
    known = {*SLURM, "--help", "--version", *re.findall(r"--[a-z][\w-]*", sources)}.union(
        *options.values()
    )
    # so is each option that a text names
    for path in DOCS:
        named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", path.read_text("utf-8")))
        assert named - known == set(), path


@pytest.mark.slow
def test_the_api_page_builds_without_a_warning_and_shows_all_guides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = run_script(ROOT / ".ci/api_page.py", tmp_path)
    assert code == 0, said
    for guide in (*GUIDES, GLOSSARY):
        title = guide.read_text("utf-8").splitlines()[0].removeprefix("# ")
        page = (tmp_path / guide.parent.relative_to(ROOT)).with_suffix(".html")
        text = page.read_text("utf-8")
        assert title.replace("&", "&amp;") in text
        assert re.findall(r'href="[^"]*\.md', text) == []
        linked = re.findall(r'href="([^"#:]+\.html)', text)
        assert [link for link in linked if not (page.parent / link).exists()] == []
