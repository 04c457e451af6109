"""How far a long run has come, on a terminal."""

from __future__ import annotations

import io

from controlplane.simulation.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What stood in the line, one after the other."""
        return self.getvalue().split("\r\x1b[K")[1:]


def test_a_bar_says_how_much_is_done_and_how_long_the_rest_takes() -> None:
    times = iter((100.0, 200.0))
    terminal = Terminal()
    progress = Progress(terminal, lambda: next(times))
    progress.show(0.4, "4 of 10 seeds done")
    progress.clear()
    bar = "#" * 12 + "." * 18
    assert terminal.lines == [f"[{bar}]  40%, 2m30s left  4 of 10 seeds done", ""]


def test_it_is_written_a_few_times_a_second_at_most() -> None:
    now = 0.0
    terminal = Terminal()
    progress = Progress(terminal, lambda: now)
    for step in range(1000):
        now = step / 1000
        progress.show(step / 1000)
    assert 3 <= len(terminal.lines) <= 5


def test_nothing_is_known_of_the_rest_before_something_is_done() -> None:
    times = iter((0.0, 1.0))
    terminal = Terminal()
    Progress(terminal, lambda: next(times)).show(0.0)
    assert "left" not in terminal.lines[0]


def test_files_and_pipes_are_left_alone() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.show(0.5)
    progress.clear()
    assert stream.getvalue() == ""
