"""Options that `dmask push` and `masklam push` share."""

from __future__ import annotations

from typing import Annotated

import typer

Private = Annotated[bool, typer.Option("--private", help="Only for you, or your organisation.")]
Revision = Annotated[str | None, typer.Option(help="The branch to push to.")]
Tag = Annotated[str | None, typer.Option(help="Name this release, such as v1.")]
Token = Annotated[str | None, typer.Option(help="Instead of HF_TOKEN or the stored login.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the files and the card.")]
