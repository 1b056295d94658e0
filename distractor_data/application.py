"""What makes `dmask` and `masklam` command lines of one kind: errors of usage in one line, and an exit code."""

from __future__ import annotations

import os
import re
import sys
from itertools import pairwise
from typing import Any

import typer

from distractor_data.errors import DmaskError, plain

# Of Click, which some versions of Typer import and others carry in themselves.
UsageError: Any = typer.BadParameter.__base__


class Application(typer.Typer):
    """A Typer app that leaves its errors to `run_cli`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(no_args_is_help=True, pretty_exceptions_enable=False, **options)

    def __call__(self, *args: Any, **options: Any) -> int:
        """Run what the arguments ask for; returns the exit code. Raises `DmaskError` where they are wrong."""
        for before, argument in pairwise(sys.argv):
            if not argument or re.fullmatch("--[a-z-]+=", argument):  # "$OUT" of a variable that was never set
                named = argument.rstrip("=") or (before if before.startswith("-") else "an argument")
                raise DmaskError(f"{plain(named)} is empty; say what it is, or leave it out")
            if not argument.isascii() and any("\udc80" <= letter <= "\udcff" for letter in argument):
                raise DmaskError(f"{os.fsencode(argument)!r} is no UTF-8, which records are written in; rename it")
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # which know of no log
        try:
            code = super().__call__(*args, **{"standalone_mode": False, **options})
        except UsageError as error:
            if not (message := plain(error.format_message())):
                return int(error.exit_code)  # there were none, and the help was shown
            path = error.ctx.command_path if error.ctx else options.get("prog_name", "")
            raise DmaskError(f"{message.rstrip('.')}; see `{path} --help`") from error
        return code if isinstance(code, int) else 0
