from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noded.logs.window import MAX_IN_FLIGHT_BYTES, AckWindow


def test_acknowledged_bytes_make_room() -> None:
    window = AckWindow()
    window.send(MAX_IN_FLIGHT_BYTES, final=False)
    assert not window.room()
    window.answer(MAX_IN_FLIGHT_BYTES)
    assert window.room() and window.acked == MAX_IN_FLIGHT_BYTES


def test_after_a_refusal_it_waits_for_all_answers_and_goes_on_from_the_archives_end() -> None:
    window = AckWindow()
    for _ in range(3):
        window.send(10, final=False)
    window.answer(10)
    window.answer(10, error=True)
    assert not window.room()
    window.answer(10)
    assert (window.acked, window.sent, window.room(), window.take_rewound()) == (10, 10, True, True)
    assert not window.take_rewound()


def test_an_archive_that_has_more_is_believed() -> None:
    window = AckWindow()
    window.send(10, final=False)
    window.answer(500)
    assert (window.acked, window.sent) == (500, 500)


def test_an_archive_that_lost_its_end_gets_it_again() -> None:
    window = AckWindow(acked=100, sent=100)
    window.send(10, final=True)
    window.answer(40)
    assert (window.acked, window.sent, window.final_acked) == (40, 40, False)


def test_only_an_accepted_final_request_is_the_end() -> None:
    window = AckWindow()
    window.send(10, final=True)
    window.answer(0, error=True)
    assert not window.final_acked
    window.send(10, final=True)
    window.answer(10)
    assert window.final_acked


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans(), st.booleans()), max_size=60))
def test_every_byte_arrives_once_and_in_order(steps: list[tuple[int, bool, bool]]) -> None:
    """Whatever the archive refuses and wherever the connection breaks."""
    source = bytes(number % 251 for number in range(4000))
    archive = bytearray()
    window = AckWindow()
    on_the_way: list[tuple[int, bytes]] = []
    answers: list[tuple[int, bool]] = []

    def arrive(refuse: bool) -> None:
        offset, data = on_the_way.pop(0)
        if offset <= len(archive) and not refuse:
            archive.extend(data[len(archive) - offset :])
        answers.append((len(archive), refuse))

    for length, refuse, broken in steps:
        if window.room():
            data = source[window.sent : window.sent + length]
            on_the_way.append((window.sent, data))
            window.send(len(data), final=False)
        if broken:
            on_the_way.clear()
            answers.clear()
            window.disconnected()
        if len(on_the_way) > 2 or refuse:
            while on_the_way:
                arrive(refuse)
        while len(answers) > 1:
            next_offset, error = answers.pop(0)
            window.answer(next_offset, error=error)
        assert bytes(archive) == source[: len(archive)]
        assert window.acked <= len(archive)
    for _ in range(2):  # answers may have been lost: then the first exchange only tells the end
        while on_the_way:
            arrive(False)
        while answers:
            next_offset, error = answers.pop(0)
            window.answer(next_offset, error=error)
        assert window.room() and window.sent == window.acked <= len(archive)
        on_the_way.append((window.sent, source[window.sent : window.sent + 1]))
        window.send(1, final=False)
    arrive(False)
    window.answer(len(archive))
    assert window.acked == len(archive)
    assert bytes(archive) == source[: len(archive)]
