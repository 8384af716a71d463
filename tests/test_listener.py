"""What is written of an answer, and when."""

import asyncio

from guardian.listener import Joining


class Written:
    """A transport that remembers."""

    def __init__(self):
        self.parts = []

    def write(self, data):
        self.parts.append(data)

    def close(self):
        self.parts.append("closed")

    def is_closing(self):
        return "closed" in self.parts


def written(script):
    """What script(joining) leaves in the transport, turn by turn of the loop."""

    async def run():
        transport, turns = Written(), []
        joining = Joining(transport, asyncio.get_running_loop())
        for part in script:
            part(joining)
            turns.append(list(transport.parts))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return turns, transport.parts

    return asyncio.run(run())


def lost(joining):
    joining._transport.close()


def head(joining):
    joining.write(b"head")


def head_and_body(joining):
    joining.write(b"head")
    joining.write(b"body")
    joining.write(b"more")


def test_head_and_body_that_are_there_at_once_leave_in_one_piece():
    assert written([head_and_body])[1] == [b"headbody", b"more"]


def test_head_whose_body_takes_longer_does_not_wait_for_it():
    turns, parts = written([head, lambda joining: joining.write(b"body")])
    assert turns == [[], [b"head", b"body"]]
    assert parts == [b"head", b"body"]


def test_nothing_that_is_held_gets_lost_when_the_connection_is_closed():
    def head_then_close(joining):
        joining.write(b"head")
        joining.close()
        assert joining.is_closing()

    assert written([head_then_close])[1] == [b"head", "closed"]


def broken_after(*script):
    found = []
    written([*script, lambda joining: found.append(not joining.stands)])
    return found[0]


def head_then_lost(joining):
    head(joining)
    lost(joining)


def body_then_close(joining):
    joining.write(b"body")
    joining.close()


def test_what_was_written_to_a_closing_connection_is_known():
    assert broken_after(lost, head_and_body)
    assert broken_after(head, lost, lambda joining: joining.write(b"body"))
    assert broken_after(head_then_lost)
    assert not broken_after(head_and_body, lost)
    assert not broken_after(head, body_then_close)


def test_nothing_is_written_to_a_connection_that_is_closing():
    assert written([lost, head_and_body])[1] == ["closed"]


def test_a_write_that_fails_is_known_at_once():
    async def run():
        transport = Written()
        joining = Joining(transport, asyncio.get_running_loop())
        transport.write = lambda data: transport.close()
        joining.write(b"head")
        joining.write(b"body")
        return not joining.stands

    assert asyncio.run(run())
