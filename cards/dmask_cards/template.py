"""Filling a card's template, and keeping what hands wrote into the card before.

Values may come from a stranger's records: `md`, `code` and Jinja's `tojson` make them text, and text alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distractor_data import untrusted
from distractor_data.errors import DmaskError, plain

_MARK = re.compile(r"<!-- (?:keep (?P<name>[^\s<>]{1,64})|/keep) -->")
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINK = re.compile(r"(?i)(https?|ftp|www)(:(?=//)|\.)")  # what GitHub's Markdown makes a link of by itself
_LICENSE = re.compile(r"[A-Za-z0-9.-]{1,64}")


def md(value: object) -> str:
    """A value as text in a line or a table cell of Markdown: no markup, no HTML, no link."""
    text = _SPECIAL.sub(r"\\\g<0>", plain(value))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINK.sub(r"\g<1>\\\g<2>", text)


def code(value: object) -> str:
    """A value as code in a line of Markdown."""
    text = plain(value)
    return f"<code>{md(text)}</code>" if re.search(r"[`<>&|]", text) or not text else f"`{text}`"


def kept(text: str, shown: object) -> dict[str, str]:
    """Name → text of what stands between `<!-- keep NAME -->` and `<!-- /keep -->`, where that is not empty.

    `shown` names the card in errors. Raises `DmaskError` where a section is not closed, whose text would be lost.
    """
    found: dict[str, str] = {}
    name, start = None, 0
    for mark in _MARK.finditer(text):
        if name is None:
            name, start = mark["name"], mark.end()
        elif mark["name"] is None:
            if text[start : mark.start()].strip():
                found[name] = text[start : mark.start()]
            name = None
    if name is not None:
        raise DmaskError(f"{shown}: <!-- keep {name} --> has no <!-- /keep --> after it; write it there")
    return found


def sections(card: Path) -> dict[str, str]:
    """`kept` of the card that lies there."""
    return kept(read_card(card), card)


def refuse_foreign(card: Path, advice: str = "move it elsewhere") -> None:
    """Raise `DmaskError` where a README.md lies that is no card of ours, which has sections to keep."""
    text = read_card(card)
    if text.strip() and _MARK.search(text) is None:
        raise DmaskError(f"{card} is no card of ours and would be lost; {advice}")


def stated_license(text: str) -> str | None:
    """The licence that a card's metadata state; None where they state none, or nothing that is the name of one."""
    from huggingface_hub import DatasetCard
    from yaml import YAMLError

    try:
        license = DatasetCard(text).data.get("license")
    except (ValueError, TypeError, RecursionError, YAMLError):
        return None
    return license if isinstance(license, str) and _LICENSE.fullmatch(license) else None


def fill(template: str, data: Any, old: Sequence[tuple[object, str]], **values: Any) -> str:
    """The card of `dmask_cards/TEMPLATE.md` with the metadata `data` (a `CardData`) and `values` filled in.

    Text between `<!-- keep NAME -->` and `<!-- /keep -->` is taken over from the `old` cards (name for errors, text),
    of which later ones win; sections of the template's own stay in their place, others go to the end.
    """
    from huggingface_hub.repocard import RepoCard

    written = {name: text for shown, card in old for name, text in kept(card, shown).items()}
    used: set[str] = set()

    def keep(section: str) -> str:
        used.add(section)
        return f"<!-- keep {section} -->{written.get(section, chr(10))}<!-- /keep -->"

    folder = Path(__file__).parent
    values["papers"] = (folder / "papers.bib").read_text(encoding="utf-8").strip()
    text = (folder / f"{template}.md").read_text(encoding="utf-8")
    card = RepoCard.from_template(data, template_str=text, keep=keep, md=md, code=code, **values)
    added = "".join(f"\n{keep(section)}\n" for section in written if section not in used)
    return str(card).rstrip("\n") + "\n" + added


def read_card(path: Path) -> str:
    """A card's text, or nothing where there is none yet."""
    if not path.exists():
        return ""
    with untrusted.opened(path) as file:
        return file.read().decode("utf-8", "replace")
