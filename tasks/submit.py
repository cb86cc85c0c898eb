"""Submit an edit, once, or take up its open attempt."""

from tasks.step import as_task
from wanbatch import steps

submit_edit = as_task(steps.submit, name="submit")
