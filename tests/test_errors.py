"""What another library says becomes one line of ours."""

import pytest

from talkplay_hf.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("\n no such file\nand a long story"), "no such file"),
        (ValueError(), "ValueError"),
        (OSError("  \n "), "OSError"),
    ],
)
def test_an_error_is_told_in_a_line_even_where_it_says_nothing(error: Exception, line: str) -> None:
    assert first_line(error) == line
