"""CSV, TSV, JSON Lines and Parquet to items, streamed; every problem of every row at once.

`sources` turns any format into batches of text cells, `rules` judges a whole column at a time, `items` makes
values of the rows. What the columns mean: `manifests/README.md`.
"""

from wanbatch.manifest.check import CheckReport, check_manifest
from wanbatch.manifest.items import read_manifest

__all__ = ["CheckReport", "check_manifest", "read_manifest"]
