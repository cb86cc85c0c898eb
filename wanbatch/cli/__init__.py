"""The command line: one function a command, no logic of its own. Heavy imports wait until a command needs them."""

from __future__ import annotations

import logging
import sys
from importlib.abc import MetaPathFinder
from typing import Any

from wanbatch.errors import ExitCode, ManifestError, WanbatchError

_PROBLEMS_SHOWN = 20


class _NoPandas(MetaPathFinder):
    """Hides pandas: Arrow imports it as soon as it makes an array, and no command needs it."""

    def find_spec(self, fullname: str, *_: Any) -> None:
        """Find nothing; raises `ImportError` for pandas."""
        if fullname == "pandas":
            raise ImportError("left out: half of the time of most checks would be its import")


def main() -> None:
    """Run the command line; what a person or the network can cause ends in one clear line and its exit code.

    A fault of ours is logged with its traceback: Python itself would print it with whatever secrets it quotes.
    """
    sys.meta_path.insert(0, _NoPandas())
    from wanbatch.cli.commands import app
    from wanbatch.cli.logs import show_logs

    try:
        show_logs()
        app()
    except WanbatchError as error:
        _explain(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has gone; Python would complain about that at exit
        sys.exit(ExitCode.OK)
    except Exception:
        logging.getLogger("wanbatch").critical("a fault of wanbatch; please report it", exc_info=True)
        sys.exit(ExitCode.BUG)


def _explain(error: WanbatchError) -> None:
    from wanbatch.cli import logs
    from wanbatch.redact import scrub

    lines = [f"wanbatch: {scrub(str(error))}"]
    if isinstance(error, ManifestError) and error.problems:
        lines += [f"  {scrub(str(problem))}" for problem in error.problems[:_PROBLEMS_SHOWN]]
        if (more := len(error.problems) - _PROBLEMS_SHOWN) > 0:
            lines.append(f"  … and {more} more; `wanbatch check` shows them all")
    if logs.are_json():
        for line in lines:
            logging.getLogger("wanbatch").error("%s", line.strip())
    else:
        print("\n".join(lines), file=sys.stderr)  # noqa: T201 - the command line
