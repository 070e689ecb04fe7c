"""Commands, Python blocks and size of README and docs, and the offline site."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.test_configs import composed
from voslab.cli.main import PROGRAMS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(rf"(?:python -m src\.|voslab )({'|'.join(PROGRAMS)})\b((?: [^`\n]*)?)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(page: Path) -> list[tuple[str, str]]:
    blocks = re.findall(r"^```\w*\n(.*?)^```$|`([^`\n]+)`", page.read_text(), re.DOTALL | re.MULTILINE)
    text = "\n".join(block or inline for block, inline in blocks).replace("\\\n", " ")
    return [(program, rest) for program, rest in COMMAND.findall(text) if "=NAME" not in rest]


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120
    assert (ROOT / "docs" / "segment.gif").stat().st_size < 3_000_000


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_avoid_words_of_the_old_vocabulary(page: Path) -> None:
    assert re.findall(r"\b(?:told|alike|ruler|nobody|so many)\b", page.read_text(), re.IGNORECASE) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_composes(page: Path) -> None:
    for program, rest in commands(page):
        words = shlex.split(rest, comments=True)
        overrides = [word for word in words if "=" in word]
        if "-m" in words:
            [[overrides, *_]] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
        composed(program, *overrides)


def test_the_pages_have_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) >= 30


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_compile_and_import_existing_names(page: Path) -> None:
    for block in re.findall(r"^```python[^\n]*\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "voslab":
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_exist(page: Path) -> None:
    for link in re.findall(r"\]\((?!http|#)([^)#\s]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_reliability_names_existing_tests() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", (ROOT / "docs" / "reliability.md").read_text())
    assert [path for path in named if not (ROOT / "tests" / path).exists() and path != "tests/"] == []


class Loads(HTMLParser):
    """URLs that a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and not {"stylesheet", "preload", "icon"} & set((values.get("rel") or "").split()):
            return
        if tag in {"link", "script", "img", "iframe", "source", "video"}:
            self.urls += [url for url in (values.get("src"), values.get("href")) if url]


def test_the_site_builds_without_warnings_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    loads = Loads()
    pages = list(tmp_path.rglob("*.html"))
    for page in pages:
        loads.feed(page.read_text())
    styles = "".join(style.read_text() for style in tmp_path.rglob("*.css"))
    urls = loads.urls + re.findall(r"(?:@import\s+|url\()[\"']?([^\"')\s]+)", styles)
    assert len(pages) >= 20
    assert [url for url in urls if url.startswith(("http:", "https:", "//"))] == []
