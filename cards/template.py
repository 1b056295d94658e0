"""Filling a card's template, and keeping what hands wrote into the card before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_KEPT = re.compile(r"<!-- keep (?P<name>\S+) -->(?P<text>.*?)<!-- /keep -->", re.DOTALL)


def fill(template: str, data: Any, old: list[str], **values: Any) -> str:
    """The card of `cards/TEMPLATE.md` with the metadata `data` (a `CardData`) and `values` filled in.

    Text between `<!-- keep NAME -->` and `<!-- /keep -->` is taken over from the `old` cards, of which later ones
    win; sections of the template's own stay in their place, others go to the end.
    """
    from huggingface_hub.repocard import RepoCard

    kept = {match["name"]: match["text"] for text in old for match in _KEPT.finditer(text) if match["text"].strip()}
    used: set[str] = set()

    def keep(section: str) -> str:
        used.add(section)
        return f"<!-- keep {section} -->{kept.get(section, chr(10))}<!-- /keep -->"

    folder = Path(__file__).parent
    values["papers"] = (folder / "papers.bib").read_text(encoding="utf-8").strip()
    text = (folder / f"{template}.md").read_text(encoding="utf-8")
    card = RepoCard.from_template(data, template_str=text, keep=keep, **values)
    added = "".join(f"\n{keep(section)}\n" for section in kept if section not in used)
    return str(card).rstrip("\n") + "\n" + added


def read(path: Path) -> str:
    """A card's text, or nothing where there is none yet."""
    return path.read_text(encoding="utf-8") if path.exists() else ""
