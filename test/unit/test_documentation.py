"""Documentation holds together: cited papers, links between files, and headings that code points to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from test.helpers.paths import CHECKOUT

CITATION = re.compile(r"\[([A-Z][a-zé]+\d{4}[a-z]?)\]")
DANGLING = re.compile(
    r"\b(paper 00\d|facts [A-G]\d|recipe, step|golden README|house_review|interface\.md)\b", re.I
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
RECIPE = re.compile(r"docs/model_recipe\.md, (step \d+|[A-Z][a-z]+(?: [a-z]+)*)")
REFERENCES = (CHECKOUT / "docs" / "references.md").read_text()
PAGES = sorted(
    [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md"), *(CHECKOUT / "test").glob("**/*.md")]
)


def _texts() -> Iterator[tuple[Path, str]]:
    for folder in ("model", "test", "docs"):
        for path in sorted((CHECKOUT / folder).rglob("*")):
            if path.suffix in (".py", ".md") and path != Path(__file__):
                yield path, path.read_text()
    for path in sorted(CHECKOUT.glob("*.md")):
        yield path, path.read_text()


def _anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_cited_paper_is_listed() -> None:
    listed = set(re.findall(r"\*\*\[(\w+)\]\*\*", REFERENCES))
    cited = {(path.name, key) for path, text in _texts() for key in CITATION.findall(text)}
    assert len(cited) > 10
    assert {(name, key) for name, key in cited if key not in listed} == set()


def test_nothing_points_outside_of_the_repository() -> None:
    found = [(path.name, match.group()) for path, text in _texts() for match in DANGLING.finditer(text)]
    assert found == []


def test_the_recipe_has_every_section_that_code_points_to() -> None:
    recipe = (CHECKOUT / "docs" / "model_recipe.md").read_text()
    steps = {f"step {number}" for number in re.findall(r"^\| (\d+) ", recipe, flags=re.MULTILINE)}
    headings = re.findall(r"^#+ (.+)$", recipe, flags=re.MULTILINE)
    cited = {
        (path.name, part)
        for path, text in _texts()
        for part in RECIPE.findall(re.sub(r"\s*\n\s*(# )?", " ", text))
    }
    assert len(cited) > 10
    missing = {
        (name, part)
        for name, part in cited
        if part not in steps
        and not any(part == heading or part.startswith(f"{heading} ") for heading in headings)
    }
    assert missing == set()


def test_the_architecture_page_lists_every_module() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text()
    section = page[page.index("## Modules") : page.index("## The way of a case")]
    listed = set(re.findall(r"`([a-z_]+)`", section))
    modules = {path.stem for path in (CHECKOUT / "model").rglob("*.py") if not path.stem.startswith("__")}
    assert modules - listed == set()
    rooms = {
        "case",
        "prompts",
        "click_simulation",
        "network",
        "propagation",
        "inference",
        "installation",
        "interactive",
        "tracking",
        "data",
        "synthesis",
        "training",
    }
    rooms |= {"protocol", "floor", "report", "serve", "crossval", "comparison", "evaluation", "cli"}
    assert listed - modules - rooms - {"__init__"} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(path), f"{page.name}: {target}"
