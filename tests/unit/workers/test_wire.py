"""What goes over a worker's line."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.workers.wire import NIL, Answers, Ask, Frames, Hello, Message, Reply, Said, framed, raw

MESSAGES: list[Message] = [
    Hello(),
    Ask(1, "purge", raw((["a"], True))),
    Answers(7, [Said(2, NIL, "away")]),
    Reply(2, raw("x" * 300)),
]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_messages_come_out_as_they_went_in_however_they_are_cut(cuts: list[int]) -> None:
    """A line has no borders between messages."""
    data, frames, found, at = b"".join(map(framed, MESSAGES)), Frames(), list[Message](), 0
    for cut in [*cuts, len(data)]:
        found += frames.feed(data[at : at + cut])
        at += cut
    assert [type(each) for each in found] == [type(each) for each in MESSAGES]
    assert found[1:3] == MESSAGES[1:3]
    assert found[3] == MESSAGES[3]
