"""The commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from wanbatch.cli import ledger as ledger_commands
from wanbatch.errors import ExitCode, UsageError
from wanbatch.pace import POLL_INTERVAL_S
from wanbatch.settings import KEY_VARIABLE

app = typer.Typer(
    name="wanbatch",
    help="Paid video edits on Alibaba Cloud's Wan2.7 in bulk: never pay twice, never lose a paid result.",
    epilog="Exit codes: 0 all succeeded, 2 bad usage or manifest and nothing submitted, 3 some rows failed, "
    "4 incomplete: run it again, 5 attempts are parked, 6 the account stopped the run, 1 a bug.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ledger_commands.app)

Ledger = Annotated[
    str, typer.Option("--ledger", help="Folder or URL of the Parquet ledger.", metavar="DIR_OR_URL")
]
Journal = Annotated[
    Optional[str],  # noqa: UP045 - Typer on Python 3.11 wants it so
    typer.Option(
        "--journal",
        help="Path or postgresql:// URL; default: journal.db in the ledger folder, if that is local.",
        metavar="URL",
    ),
]
Service = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--service", help="singapore, beijing, emulator, or a URL ending in /api/v1.", metavar="NAME_OR_URL"
    ),
]
Name = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--name", help="Names of the videos: {tag_campaign}/{id}-{resolution}.mp4", metavar="TEMPLATE"
    ),
]
KeyVariable = Annotated[
    str, typer.Option("--key-variable", help="Environment variable that holds the key.", metavar="NAME")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
LogFormat = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--log-format", help="Logs on standard error: text or json.", metavar="FORMAT"),
]
LogLevel = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--log-level", help="debug, info, warning or error.", metavar="LEVEL"),
]


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where to put it all.", metavar="DIR")] = Path(
        "wanbatch-demo"
    ),
    speed: Annotated[
        float,
        typer.Option("--speed", help="How much faster the emulator's time runs.", min=1, metavar="NUMBER"),
    ] = 60.0,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Run the main job on the embedded emulator with sample clips: no key, no network."""
    from wanbatch.cli.demo import run_demo
    from wanbatch.cli.logs import show_logs

    show_logs(log_format, log_level)
    sys.exit(run_demo(folder, speed=speed))


@app.command()
def run(
    manifest: Annotated[str, typer.Argument(help="CSV, TSV, JSON Lines or Parquet.", metavar="MANIFEST")],
    service: Service = None,
    ledger: Ledger = "ledger",
    journal: Journal = None,
    videos: Annotated[
        str,
        typer.Option(
            "--videos", help="Folder of the finished videos, or s3://bucket/prefix.", metavar="DIR_OR_URL"
        ),
    ] = "videos",
    name: Name = None,
    stage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--stage", help="Put local files into this bucket for the service.", metavar="URL"),
    ] = None,
    budget: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--budget",
            help="Most that may be spent: 50 in this run, 200/month in all runs.",
            metavar="AMOUNT",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Submit at most so many new edits.", min=1, metavar="NUMBER")
    ] = None,
    max_runtime: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--max-runtime", help="Stop after this long: 90m, 8h, 1h30m.", metavar="DURATION"),
    ] = None,
    retry: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--retry",
            help="Edit again what ended so: failed, expired, parked, refused, or an error code.",
            metavar="OUTCOME",
        ),
    ] = None,
    poll_interval: Annotated[
        float,
        typer.Option(
            "--poll-interval",
            help="Seconds between two looks at the service.",
            min=0.05,
            max=3600,
            metavar="SECONDS",
        ),
    ] = POLL_INTERVAL_S,
    rate_card: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--rate-card", help="Name of a built-in rate card, or a TOML file.", metavar="NAME_OR_FILE"
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Look at every input before it is submitted.")
    ] = True,
    plan: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--plan",
            help="Hold the run to a file of `wanbatch plan --out`, its cost included.",
            metavar="FILE",
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", help="Edits your account runs at once (5).", min=1, metavar="NUMBER"),
    ] = None,
    submit_rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--submit-rate", help="Submits a second your account may make (5).", metavar="NUMBER"),
    ] = None,
    query_rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--query-rate", help="Queries a second your account may make (20).", metavar="NUMBER"),
    ] = None,
    rows: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--rows", help="Only these rows of the manifest: 1-5000.", metavar="FIRST-LAST"),
    ] = None,
    key_variable: KeyVariable = KEY_VARIABLE,
    shared_slots: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--shared-slots",
            help="Prefect concurrency limit that holds the slots of several runs.",
            metavar="NAME",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            help="Serve Prometheus metrics on this loopback port.",
            min=1,
            max=65_535,
            metavar="PORT",
        ),
    ] = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Edit the videos of a manifest. Run it again to go on: nothing is paid twice."""
    from wanbatch.cli.run import run_flow
    from wanbatch.options import RunOptions

    options = RunOptions(
        manifest=manifest,
        service=service,
        ledger=ledger,
        journal=journal,
        videos=videos,
        name=name,
        stage=stage,
        budget=budget,
        limit=limit,
        max_runtime=max_runtime,
        retry=tuple(retry or ()),
        poll_interval=poll_interval,
        rate_card=rate_card,
        probe=probe,
        plan=plan,
        slots=slots,
        submit_rate=submit_rate,
        query_rate=query_rate,
        rows=rows,
        key_variable=key_variable,
        shared_slots=shared_slots,
    )
    sys.exit(
        run_flow(
            options,
            as_json=as_json,
            log_format=log_format,
            log_level=log_level,
            metrics_port=metrics_port,
        )
    )


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="CSV, TSV, JSON Lines or Parquet.", metavar="MANIFEST")],
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Also look at every input itself.")
    ] = False,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Show every problem of every row, before any money."""
    from wanbatch.cli.check import run_check

    sys.exit(run_check(manifest, probe=probe, name=name, as_json=as_json))


@app.command()
def plan(
    manifest: Annotated[str, typer.Argument(help="CSV, TSV, JSON Lines or Parquet.", metavar="MANIFEST")],
    service: Service = None,
    ledger: Ledger = "ledger",
    journal: Journal = None,
    retry: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--retry",
            help="Edit again what ended so: failed, expired, parked, refused, or an error code.",
            metavar="OUTCOME",
        ),
    ] = None,
    rate_card: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--rate-card", help="Name of a built-in rate card, or a TOML file.", metavar="NAME_OR_FILE"
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Look at every input that would be submitted.")
    ] = True,
    slots: Annotated[
        int | None,
        typer.Option("--slots", help="Edits your account runs at once (5).", min=1, metavar="NUMBER"),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Keep the plan for `wanbatch run --plan`.", metavar="FILE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run would do, what it would cost and how long it would take. Needs no key."""
    from wanbatch.cli.plan import show_plan
    from wanbatch.options import RunOptions

    options = RunOptions(
        manifest=manifest,
        service=service,
        ledger=ledger,
        journal=journal,
        retry=tuple(retry or ()),
        rate_card=rate_card,
        probe=probe,
        slots=slots,
    )
    sys.exit(show_plan(options, out=out, as_data=as_json))


@app.command()
def status(ledger: Ledger = "ledger", journal: Journal = None, as_json: AsJson = False) -> None:
    """Show what is open, in doubt and parked, and what is spent and reserved."""
    from wanbatch.cli.journal import show_status

    sys.exit(show_status(_journal(ledger, journal), as_json=as_json))


@app.command()
def resolve(
    item: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="The parked item: its id or key.", metavar="ITEM"),
    ] = None,
    adopt: Annotated[
        str | None,
        typer.Option("--adopt", help="The provider task that is this item's.", metavar="TASK_ID"),
    ] = None,
    not_created: Annotated[
        bool, typer.Option("--not-created", help="No provider task was made; it may be sent again.")
    ] = False,
    ledger: Ledger = "ledger",
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """List parked attempts, or settle one by a person's word."""
    from wanbatch.cli.journal import list_parked, settle_parked

    where = _journal(ledger, journal)
    if item is None:
        if adopt or not_created:
            raise UsageError("say which item: wanbatch resolve ITEM --adopt TASK_ID, or --not-created")
        sys.exit(list_parked(where, as_json=as_json))
    if bool(adopt) == not_created:
        raise UsageError("say one of --adopt TASK_ID and --not-created")
    sys.exit(settle_parked(where, item, adopt=adopt, ledger=ledger))


@app.command()
def cancel(
    service: Service = None,
    ledger: Ledger = "ledger",
    journal: Journal = None,
    key_variable: KeyVariable = KEY_VARIABLE,
) -> None:
    """Cancel what is still waiting (PENDING) at the provider; what runs can't be stopped."""
    from wanbatch.cli.journal import cancel_pending

    sys.exit(cancel_pending(_journal(ledger, journal), service, key_variable))


@app.command()
def restore(ledger: Ledger = "ledger", journal: Journal = None) -> None:
    """Rebuild a lost or damaged journal from the ledger, as far as the ledger goes."""
    from wanbatch.cli.journal import restore as restore_journal

    sys.exit(restore_journal(_journal(ledger, journal), ledger))


@app.command()
def report(
    ledger: Ledger = "ledger",
    run: Annotated[Optional[str], typer.Option("--run", help="One run alone.", metavar="RUN_ID")] = None,  # noqa: UP045
    by: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--by",
            help="day, week, month, service, resolution, status, code, run or tag:NAME; repeatable.",
            metavar="GROUP",
        ),
    ] = None,
    since: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--since", help="First UTC day, or so many days back: 7d.", metavar="DAY"),
    ] = None,
    until: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--until", help="Last UTC day, or so many days back: 7d.", metavar="DAY"),
    ] = None,
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--against", help="The provider's bill, CSV: explain each difference.", metavar="FILE"),
    ] = None,
    form: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--format", help="table, csv, json, markdown, or focus.", metavar="FORMAT"),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Where it goes; focus: FILE.csv or FILE.parquet.", metavar="FILE"),
    ] = None,
    focus_version: Annotated[
        str, typer.Option("--focus-version", help="1.2 or 1.4.", metavar="VERSION")
    ] = "1.2",
    billing_account: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--billing-account", help="FOCUS's BillingAccountId; default: the service.", metavar="ID"
        ),
    ] = None,
    html: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--html", help="Write one page with charts, failures, before and after.", metavar="FILE"
        ),
    ] = None,
    stills: Annotated[
        int, typer.Option("--stills", help="Attempts the page shows pictures of.", min=0, metavar="NUMBER")
    ] = 200,
    as_json: AsJson = False,
) -> None:
    """Show what was spent; hold it against a bill; or write it as a page or as FOCUS rows."""
    from wanbatch.cli.export import export_focus, export_html
    from wanbatch.cli.report import compare, period, show_report

    if html is not None:
        where = period(since, until).filter
        sys.exit(export_html(ledger, run_id=run, to=html, stills=stills, where=where))
    if form == "focus":
        sys.exit(
            export_focus(
                ledger,
                run_id=run,
                to=out,
                version=focus_version,
                account=billing_account,
                where=period(since, until).filter,
            )
        )
    form = form or ("json" if as_json else "table")
    if against is not None:
        sys.exit(compare(ledger, against, since=since, until=until, run_id=run, form=form, out=out))
    sys.exit(show_report(ledger, by=by or (), since=since, until=until, run_id=run, form=form, out=out))


@app.command()
def emulator(
    port: Annotated[
        int, typer.Option("--port", help="0 takes a free one.", min=0, max=65535, metavar="PORT")
    ] = 8765,
    speed: Annotated[
        float, typer.Option("--speed", help="How much faster its time runs.", min=0.001, metavar="NUMBER")
    ] = 1.0,
    key: Annotated[str, typer.Option("--key", help="The API key it knows.", metavar="KEY")] = "sk-emulator",
    slots: Annotated[int, typer.Option("--slots", help="Edits at once.", min=1, metavar="NUMBER")] = 5,
    submit_rate: Annotated[
        int, typer.Option("--submit-rate", help="Submits a second; 0 is no limit.", min=0, metavar="NUMBER")
    ] = 5,
    query_rate: Annotated[
        int, typer.Option("--query-rate", help="Queries a second; 0 is no limit.", min=0, metavar="NUMBER")
    ] = 20,
    seed: Annotated[
        int, typer.Option("--seed", help="The same seed tells the same story.", metavar="NUMBER")
    ] = 0,
    media: Annotated[
        Optional[Path], typer.Option("--media", help="A folder to serve under /media/.", metavar="DIR")  # noqa: UP045
    ] = None,
    render: Annotated[
        bool, typer.Option("--render/--no-render", help="Really fetch and edit the videos.")
    ] = True,
    faults: Annotated[Path | None, typer.Option("--faults", help="A file of faults.", metavar="FILE")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="A fault such as accept-then-drop:p=0.1; repeatable.", metavar="FAULT"),
    ] = None,
) -> None:
    """Serve the Wan API on a loopback port, for any client."""
    from wanbatch.cli.emulator import serve_emulator

    serve_emulator(
        port=port,
        speed=speed,
        key=key,
        slots=slots,
        submit_rate=submit_rate,
        query_rate=query_rate,
        seed=seed,
        media=media,
        render=render,
        faults_file=faults,
        faults=tuple(fault or ()),
    )
    sys.exit(ExitCode.OK)


def _journal(ledger: str, journal: str | None) -> str:
    from wanbatch.options import find_journal

    return find_journal(ledger, journal)
