"""README and docs are written in short sentences with few semicolons."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').rglob('*.md')])
LONG = 35
"""Words that a sentence may have."""
LONG_SHARE = 0.03
SEMICOLONS = 0.12
"""Semicolons per sentence."""

_BLOCKS = re.compile(r'^ *(`{3,}|~{3,}).*?^ *\1 *$|^---\n.*?^---$|<!--.*?-->', flags=re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r'^(?: {4,}|\t)(?![-*\d]).*$', flags=re.MULTILINE)
_BOUNDARY = re.compile(r'(?<=[.!?])["\')*_]*\s+(?=[A-Z0-9"\'(*_`~.])')
_ABBREVIATIONS = re.compile(r'\b(e\.g|i\.e|et al|vs|cf|Eq|Fig|Sec|approx)\.')
_ITEM = re.compile(r'^\s*(?:[-*+]|\d+\.|#+|>|:) +')


@dataclass(frozen=True)
class Prose:
    """The sentences of a page, and the cells of its tables."""

    sentences: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def semicolons(self) -> int:
        return sum(text.count(';') for text in self.sentences + self.cells)

    @property
    def long(self) -> list[str]:
        return [text for text in self.sentences + self.cells if words(text) > LONG]


def words(sentence: str) -> int:
    """Count words; a formula or a name in backticks is one."""
    return len([word for word in re.sub(r'`[^`]*`|\$[^$]*\$', 'code', sentence).split() if re.search(r'\w', word)])


def prose(markdown: str) -> Prose:
    """Split a page into sentences and table cells; code, comments, addresses and figures are left out."""
    text = _INDENTED.sub('', _BLOCKS.sub('\n', markdown))
    text = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', text)
    text = re.sub(r'`[^`\n]*`', lambda code: code.group().replace(';', ','), text)
    sentences, cells, paragraph = [], [], []

    def end() -> None:
        joined = _ABBREVIATIONS.sub(r'\1', ' '.join(paragraph))
        sentences.extend(part for part in _BOUNDARY.split(joined) if words(part) > 1)
        paragraph.clear()

    for line in text.splitlines():
        if line.lstrip().startswith('|'):
            end()
            cells += [
                cell for cell in map(str.strip, line.strip().strip('|').split('|')) if re.search('[a-z]{3}', cell)
            ]
            continue
        if not line.strip() or _ITEM.match(line):
            end()
        if line.strip() and not line.lstrip().startswith(('```', ':::', ':')):
            paragraph.append(_ITEM.sub('', line).strip())
    end()
    return Prose(tuple(sentences), tuple(cells))


def test_the_measure_is_right():
    measured = prose(
        '# Title of it\n\nOne is short. Two has `a; b` in it; and more.\nIt ends: see [the page](x;y).\n\n'
        '- an item; of a list\n\n| a table | with; one |\n|---|---|\n| .998 | two words |\n\n```bash\nls; ls\n```\n'
    )
    assert len(measured.sentences) == 5 and measured.semicolons == 3
    assert measured.cells == ('a table', 'with; one', 'two words')
    assert prose(' '.join(['word'] * 36) + '. Short one.').long == [' '.join(['word'] * 36) + '.']


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short_and_have_few_semicolons(page):
    measured = prose(page.read_text(encoding='utf-8'))
    sentences = len(measured.sentences)
    assert len(measured.long) <= LONG_SHARE * sentences, measured.long
    # Half a page has too few sentences for a share.
    assert measured.semicolons <= max(1, SEMICOLONS * sentences), measured.semicolons / sentences
