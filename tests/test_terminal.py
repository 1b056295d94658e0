"""What is shown is text: no value moves a cursor, changes a colour or is taken for markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from distractor_data import terminal
from distractor_data.errors import DmaskError, plain, run_cli
from distractor_data.hub.repository import Push
from distractor_data.masks.annotate import Report

EVIL = "x\x1b[2J\x1b]0;title\x07\r\n\u202e\u2028[red]y[/red][/]:warning:"
SHOWN = "[red]y[/red][/]:warning:"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\r\n\tc", "a b c"),
        ("a\x1b[31mb\x07\x00", "a[31mb"),
        ("a\u202eb\u200bc\ufeff", "abc"),
        ("a\u2028b\x85c", "a b c"),
        ("\udcff", ""),
        ("org/name: ± → é", "org/name: ± → é"),
    ],
)
def test_a_line_is_one_line_of_what_can_be_seen(text: str, line: str) -> None:
    assert plain(text) == line


def test_an_error_is_one_line_whatever_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    def app(prog_name: str) -> None:
        raise DmaskError(f"{EVIL} is wrong")

    with pytest.raises(SystemExit) as ended:
        run_cli(app, "dmask")
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("dmask: error: x")
    assert line.endswith(f"{SHOWN} is wrong\n")
    assert line[:-1].isprintable()


def test_an_error_of_the_system_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_cli(lambda prog_name: (tmp_path / "x" / "y").read_text(), "dmask")
    assert capsys.readouterr().err == f"dmask: error: No such file or directory ({tmp_path / 'x' / 'y'})\n"


def report(name: str) -> Report:
    fields = dict.fromkeys(Report.__dataclass_fields__, 0.5)
    counts = dict.fromkeys(("episodes", "frames", "lost_frames", "lost_episodes"), 1)
    return Report(**fields | counts | {"name": name, "source": name, "worst": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["verified", "masks", "pushed", "dry run", "bar"])
def test_values_are_shown_as_they_are(
    what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    if what == "verified":
        terminal.print_verified({EVIL: 1})
    elif what == "masks":
        terminal.print_masks([report(EVIL)])
    elif what == "bar":
        with terminal.frame_progress(EVIL) as on_frames:
            on_frames(1, 1)
    else:
        terminal.print_pushed([Push(EVIL, EVIL, {EVIL: 1}, f"a:\n  b: {EVIL}")], what == "dry run", "{}")
    shown = "".join(capsys.readouterr())
    assert SHOWN in shown
    assert all(line.isprintable() for line in shown.split("\n"))
    assert what != "dry run" or "\n  b: x" in shown
