"""The exceptions of the package: one family, so that one `except` catches all of it."""


class TalkPlayError(Exception):
    """Base of every error that the package raises on purpose."""


class InputError(TalkPlayError, ValueError):
    """A user's file or argument cannot be used; the message says what, where and the way out."""


class ConfigError(TalkPlayError, ValueError):
    """A configuration has an unknown key or an impossible value."""


class ArtifactError(TalkPlayError):
    """An artefact on disk is missing, damaged, of another format, or made from something else."""


class HubError(TalkPlayError):
    """The Hub refuses, cannot be reached, lacks something, or answers wrongly; the message names
    the repo and says what to do."""


class MissingExtraError(TalkPlayError, ImportError):
    """An optional dependency is absent; the message names the extra that brings it."""


class NoTrackError(TalkPlayError):
    """The rules in force leave no track to recommend."""


class LeakageError(TalkPlayError):
    """What is held out for testing has got into what trains; the message names it."""


class LanguageModelError(TalkPlayError):
    """A language model cannot be asked at all, so that no further call makes sense."""


class PromptRefusedError(LanguageModelError):
    """A language model refuses this one prompt (too long, filtered); others may still pass."""


class BudgetError(LanguageModelError):
    """The next call would pass the cap on calls or tokens."""


def first_line(error: BaseException) -> str:
    """The first line of what another library says, or the kind of error where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
