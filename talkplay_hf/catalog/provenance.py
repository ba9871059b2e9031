"""Under which licence tracks come, and where rows of a catalog come from."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.schema import Catalog, with_column
from talkplay_hf.errors import InputError

# An extra column and no standard one: catalogs that have none keep their bytes, and a column
# `source` of the user's own keeps its name.
PROVENANCE = "provenance"


def with_license(catalog: Catalog, license: str) -> Catalog:
    """A catalog with a licence for the tracks that have none.

    Args:
        catalog (`Catalog`): The catalog; it stays as it is.
        license (`str`): The licence, best by its short name, such as `"cc-by-4.0"`.
    """
    filled = pc.fill_null(catalog.tracks["license"], license)
    return catalog.with_tables(tracks=with_column(catalog.tracks, "license", filled))


def check_license(license: str | None) -> None:
    """Refuse a text that cannot be the name of a licence.

    Raises:
        InputError: If it is empty or has several lines.
    """
    if license is not None and (license.strip() != license or len(license.splitlines()) != 1):
        raise InputError(
            f"license: {license[:100]!r} is no name of a licence; give one line, such as cc-by-4.0"
        )


def license_fact(license: str | None) -> dict[str, Any]:
    """The licence as it stands in a manifest; nothing where none was given."""
    return {} if license is None else {"license": license}


def with_provenance(table: pa.Table, origins: str | Sequence[str | None]) -> pa.Table:
    """A table with the column `provenance`, unless it has one of its own.

    Args:
        table (`pa.Table`): Tracks or playlists.
        origins (`str` or `Sequence[str]`): Where each row comes from, or all of them: the name of a
            file or of a published set, never an absolute path.
    """
    if PROVENANCE in table.column_names:
        return table
    if isinstance(origins, str):
        values = pa.repeat(pa.scalar(origins, pa.string()), table.num_rows)
    else:
        values = pa.array(origins, pa.string())
    return table.append_column(PROVENANCE, values)
