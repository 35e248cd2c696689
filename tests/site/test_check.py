"""The check of the built site sees what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.site.check import headings, problems

PAGE = "# The `page`\n\nText, [a link](other.md#there).\n\n```policy\n# no heading\n```\n\n## More {#more}\n"
OTHER = "# Other\n\n## There\n"
HTML = """<html><head><title>The page - site</title><link rel="stylesheet" href="../style.css"></head><body>
<article><h1 id="p">The <code>page</code><a class="headerlink" href="#p">¶</a></h1>
<p>Text, <a href="../other/#there">a link</a>.</p>
<pre><code># no `heading`</code></pre><h2 id="more">More</h2></article></body></html>"""
OTHER_HTML = "<html><title>Other - site</title><article><h1>Other</h1><h2 id='there'>There</h2></article></html>"


def site(folder: Path, html: str = HTML, *, search: tuple[str, ...] = ("page/", "other/")) -> list[str]:
    docs, built = folder / "docs", folder / "site"
    for path, text in {
        docs / "page.md": PAGE,
        docs / "other.md": OTHER,
        built / "page" / "index.html": html,
        built / "other" / "index.html": OTHER_HTML,
        built / "style.css": "",
        built / "search" / "search_index.json": json.dumps({"docs": [{"location": name} for name in search]}),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(problems(built, docs))


def test_a_whole_site_has_no_problem(tmp_path: Path) -> None:
    assert [] == site(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('<h2 id="more">More</h2>', "<p>## More</p>", "headings that are not in the page: ['More']"),
        ("a link</a>.", "a link</a>. ```policy", "a backtick in the text"),
        ("a link</a>.", "a link</a>.\n* <code>.name</code>: it", "a bullet that is text"),
        ("../other/#there", "../others/", "leads nowhere"),
        ("../other/#there", "../other/#gone", "a place that is not in its page"),
        ("../other/#there", "../../../etc/passwd", "leads nowhere"),
        ("../style.css", "https://example.org/style.css", "from elsewhere"),
        ("../style.css", "../gone.css", "which is not there"),
        ("<title>The page", "<title>Else", "is not the first heading"),
    ],
)
def test_faults_are_seen(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in HTML
    found = site(tmp_path, HTML.replace(old, new))
    assert any(said in problem for problem in found), found


def test_a_page_that_search_does_not_know_is_seen(tmp_path: Path) -> None:
    assert ["page.md: search does not find it"] == site(tmp_path, search=("other/",))


def test_a_page_that_was_not_built_is_seen(tmp_path: Path) -> None:
    site(tmp_path)
    (tmp_path / "docs" / "new.md").write_text("# New\n")
    assert ["new.md: was not built", "new.md: search does not find it"] == list(
        problems(tmp_path / "site", tmp_path / "docs")
    )


def test_headings_are_those_outside_of_fences() -> None:
    text = "# A `b_c` *\n\n````text\n```\n# no\n```\n# no\n````\n\n## [D](d.md) \\_e\n"
    assert ["A b_c *", "D _e"] == headings(text)
