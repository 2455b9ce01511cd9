"""Every move an entry may make, and that it makes no other."""

import pytest

from pgdbpool.endpoint.state import MOVES, IllegalMoveError, Reason, State, move
from tests.unit.scripted_roster import ScriptedRoster

LEGAL = {
    (State.CONNECTING, State.IDLE),
    (State.CONNECTING, State.CLOSED),
    (State.IDLE, State.IN_USE),
    (State.IDLE, State.RESERVED),
    (State.IDLE, State.CLOSED),
    (State.IN_USE, State.IDLE),
    (State.IN_USE, State.CLOSED),
    (State.RESERVED, State.IDLE),
    (State.RESERVED, State.CLOSED),
}
ILLEGAL = {(old, new) for old in State for new in State} - LEGAL


@pytest.mark.parametrize(("old", "new"), sorted(LEGAL))
def test_a_legal_move_changes_the_state(old: State, new: State) -> None:
    """The moves of the drawing in the design are made."""
    entry = ScriptedRoster().endpoint.new_entry(0.0)
    entry.state = old

    move(entry, new)

    assert entry.state is new


@pytest.mark.parametrize(("old", "new"), sorted(ILLEGAL))
def test_an_illegal_move_is_a_defect_that_changes_nothing(
    old: State, new: State
) -> None:
    """Any other move raises, names the entry and both states, and is not made."""
    entry = ScriptedRoster().endpoint.new_entry(0.0)
    entry.state = old

    with pytest.raises(IllegalMoveError, match=f"{old.name}.* become {new.name}"):
        move(entry, new)

    assert entry.state is old


def test_every_state_has_its_row_in_the_table() -> None:
    """No state is without an entry in the table of moves."""
    assert set(MOVES) == set(State)


def test_nothing_leaves_closed() -> None:
    """A closed entry is never filled again."""
    assert MOVES[State.CLOSED] == ()


def test_a_new_entry_is_connecting() -> None:
    """The life of an entry begins with its connect."""
    assert ScriptedRoster().endpoint.new_entry(0.0).state is State.CONNECTING


def test_every_reason_has_words_of_its_own() -> None:
    """No two reasons read the same in the log."""
    assert len({reason.value for reason in Reason}) == len(Reason)
