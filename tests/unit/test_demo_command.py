"""What the command line refuses before it starts anything."""

import pytest
from click.testing import CliRunner

from pgdbpool.commands.group import command

BAD_USAGE = 2


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "soon"])
def test_seconds_that_no_run_can_take_are_refused(seconds: str) -> None:
    """By the name of the option; NaN is neither below a limit nor above."""
    answer = CliRunner().invoke(command, ["demo", "--seconds", seconds])

    assert answer.exit_code == BAD_USAGE
    assert "--seconds" in answer.output


def test_standbys_of_the_users_database_are_refused() -> None:
    """They are the demo's to make only where the primary is."""
    given = ["demo", "--dsn", "host=db", "--standbys", "1"]
    answer = CliRunner().invoke(command, given)

    assert answer.exit_code == BAD_USAGE
    assert "--standbys" in answer.output


def test_json_without_an_end_is_refused() -> None:
    """It is the result of a run, so there must be one."""
    answer = CliRunner().invoke(command, ["demo", "--json"])

    assert answer.exit_code == BAD_USAGE
    assert "--seconds" in answer.output
