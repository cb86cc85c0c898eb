"""CSV, TSV, JSON Lines and Parquet to items, streamed; every problem of every row at once.

`sources` turns any format into batches of text cells, `rules` judges a whole column at a time, `items` makes
values of the rows. What the columns mean: `manifests/README.md`.
"""

from wanbatch.manifest.check import Check, CheckReport, check_manifest
from wanbatch.manifest.items import Rows, keyed, read_manifest, read_rows

__all__ = ["Check", "CheckReport", "Rows", "check_manifest", "keyed", "read_manifest", "read_rows"]
