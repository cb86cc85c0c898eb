"""The command line: one function a command, no logic of its own. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys

import click

from wanbatch.errors import ExitCode, ManifestError, WanbatchError

_PROBLEMS_SHOWN = 20


def main() -> None:
    """Run the command line; what a person or the network can cause ends in one clear line and its exit code."""
    from wanbatch.cli.commands import app

    try:
        app(standalone_mode=False)
    except WanbatchError as error:
        _explain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("wanbatch: interrupted; run it again to go on", file=sys.stderr)  # noqa: T201 - the command line
        sys.exit(ExitCode.INCOMPLETE)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has gone; Python would complain about that at exit
        sys.exit(ExitCode.OK)
    except click.exceptions.Exit as told:
        sys.exit(told.exit_code)
    except click.exceptions.Abort:
        sys.exit(ExitCode.INCOMPLETE)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)


def _explain(error: WanbatchError) -> None:
    from wanbatch.redact import scrub

    lines = [f"wanbatch: {scrub(str(error))}"]
    if isinstance(error, ManifestError) and error.problems:
        lines += [f"  {problem}" for problem in error.problems[:_PROBLEMS_SHOWN]]
        if (more := len(error.problems) - _PROBLEMS_SHOWN) > 0:
            lines.append(f"  … and {more} more; `wanbatch check` shows them all")
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - the command line
