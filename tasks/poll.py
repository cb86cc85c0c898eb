"""Wait until the service has finished an edit."""

from tasks.step import as_task
from wanbatch import steps

await_edit = as_task(steps.wait, name="poll")
