"""Puts the numbers of the shipped files into the sentences of the pages.

python -m tests.docs.sentences         # after new results, with python -m tests.docs.tables

A sentence that the files make false, or whose words must change, is printed and left to its author.
"""

from __future__ import annotations

import re

from . import other_pages, readme, speed, which_model
from .claims import ROOT, Claim

PAGES = (readme, which_model, speed, other_pages)
_NUMBER = re.compile(r"\d(?:[\d,]*\d)?(?:\.\d+)?")


def fill(page: str, text: str) -> str | None:
    """Return a page with the numbers of a text, None if the page has not the text's words once."""
    words = [r"\s+".join(map(re.escape, part.split(" "))) for part in _NUMBER.split(text)]
    [*found] = re.finditer(f"({_NUMBER.pattern})".join(words), page)
    if len(found) != 1:
        return None
    numbers = _NUMBER.findall(text)
    for place in reversed(range(len(numbers))):
        begin, end = found[0].span(place + 1)
        page = page[:begin] + numbers[place] + page[end:]
    return page


def _update(claim: Claim) -> None:
    path = ROOT / claim.page
    page = path.read_text()
    filled = fill(page, claim.text)
    if filled is None:
        print(f"{claim.page} needs other words: {claim.text}")
    elif not claim.holds:
        print(f"{claim.page} is no longer right: {claim.text}")
    elif filled != page:
        path.write_text(filled)
        print(f"{claim.page}: {claim.text}")


if __name__ == "__main__":
    for module in PAGES:
        for each in module.claims():
            _update(each)
