"""Fetch and check a finished video."""

from tasks.step import as_task
from wanbatch import steps

download_result = as_task(steps.download, name="download")
