"""A page in one file: markup, style, script and data, and a policy that lets it run nothing else and ask nobody."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from distractor_data.dataset import storage

_FOLDER = "templates"


def render(
    template: str, scripts: Sequence[str], title: str, data: Any, attached: Iterable[tuple[str, Any]] = ()
) -> Iterable[str]:
    """The page `template` with its `scripts`, piece by piece.

    `data` and what is `attached` (name, content) are JSON for the scripts; attached content is read when it is asked
    for. All of it may be a stranger's: Jinja2 escapes text, and `tojson` all that could end a script.
    """
    jinja = Environment(
        loader=PackageLoader("distractor_data.viewer", _FOLDER), autoescape=True, undefined=StrictUndefined
    )
    jinja.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    style = _source(jinja, "style.css")
    script = "\n".join(_source(jinja, name) for name in ("page.js", "plots.js", "player.js", *scripts))
    return jinja.get_template(template).generate(
        title=title,
        data=data,
        attached=attached,
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


def write(
    path: Path, template: str, scripts: Sequence[str], title: str, data: Any, attached: Iterable[tuple[str, Any]] = ()
) -> None:
    """`render` into a file, which appears whole."""
    with storage.atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", errors="replace") as file:
        file.writelines(render(template, scripts, title, data, attached))


def _source(jinja: Environment, name: str) -> str:
    assert jinja.loader is not None
    return jinja.loader.get_source(jinja, name)[0]


def _digest(text: str) -> str:
    """SHA-256 as a Content-Security-Policy names what may run."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def pack(columns: Mapping[str, Sequence[bytes]]) -> bytes:
    """Encoded pictures as `player.js` unpacks them: the header's size (uint32, little-endian), the header (JSON:
    column → sizes in bytes), then the pictures of one column after the other."""
    header = json.dumps({name: [len(blob) for blob in blobs] for name, blobs in columns.items()}).encode()
    pictures = (blob for blobs in columns.values() for blob in blobs)
    return b"".join([len(header).to_bytes(4, "little"), header, *pictures])


def base64_text(content: bytes) -> str:
    """Bytes as JSON can hold them."""
    return base64.b64encode(content).decode()
