"""The `talkplay` commands embed and tokenize: what they refuse before they do any work."""

from pathlib import Path

import pytest

from talkplay_hf.cli import main


def refused(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail; its one line."""
    assert main([str(argument) for argument in arguments]) == 2
    out, error = capfd.readouterr()
    assert not out
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("plot", "complaint"), [("x.jpg", "must end in .png"), ("gone/x.png", "there is no folder")]
)
def test_a_plot_that_cannot_be_drawn_is_told_before_the_codebooks_are_fitted(
    plot: str,
    complaint: str,
    world_folder: Path,
    features_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / plot
    error = refused(
        capfd, "tokenize", world_folder, features_folder, tmp_path / "out", "--plot", path
    )
    assert f"{path}: " in error
    assert complaint in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option",
    [
        ("--codes", "16"),
        ("--base", "x"),
        ("--conversations", "x"),
        ("--missing", "reserve"),
        ("--seed", "3"),
    ],
)
def test_options_that_fit_codebooks_do_not_go_with_add(
    option: tuple[str, str],
    world_folder: Path,
    features_folder: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    error = refused(
        capfd, "tokenize", world_folder, features_folder, out, "--add", tokenizer_folder, *option
    )
    assert f"--add fits nothing again; leave out {option[0]}" in error
    assert not out.exists()


def test_of_several_processes_the_first_prints(
    world_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = ["embed", str(world_folder), str(tmp_path / "out"), "--dim", "4"]
    for rank, lines in (("0", 5), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert main(words) == 0
        assert capfd.readouterr().out.count("\n") == lines
