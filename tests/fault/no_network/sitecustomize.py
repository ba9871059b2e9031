"""Read by every Python that a test starts, through PYTHONPATH."""

import no_network  # noqa: F401
