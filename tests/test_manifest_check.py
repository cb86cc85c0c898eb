import bz2
import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wanbatch.errors import ManifestError, Problem, Severity
from wanbatch.manifest import CheckReport, check_manifest, read_manifest
from wanbatch.manifest.findings import KEPT

URL = "https://host.example/a.mp4"


def check_text(folder: Path, text: str | bytes, name: str = "m.csv") -> CheckReport:
    """Write a manifest and check it."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return check_manifest(path)


def check_rows(folder: Path, *rows: Mapping[str, object]) -> CheckReport:
    """Check rows written as JSON Lines, where every cell keeps its type."""
    return check_text(
        folder, "\n".join(json.dumps({"video": URL, "prompt": "p", **row}) for row in rows), "m.jsonl"
    )


def places(problems: tuple[Problem, ...]) -> list[tuple[int, str]]:
    """Give where the problems are."""
    return [(problem.row, problem.column) for problem in problems]


def test_a_good_manifest_has_no_problems(tmp_path: Path) -> None:
    """Every column may stand in a manifest, and every documented form of a value is taken."""
    (tmp_path / "a.mp4").touch()
    report = check_text(
        tmp_path,
        "video,prompt,negative_prompt,reference_image_1,reference_image_3,resolution,ratio,duration,audio_setting,"
        "prompt_extend,watermark,seed,id,service,tag_campaign,tag_shop\n"
        f"{URL},p,n,{URL},oss://bucket/b.png,720p,16:9,0,auto,TRUE,no,0,a,singapore,x,y\n"
        "a.mp4,p,,,,1080P,,10,Origin,yes,0,2147483647,b,https://127.0.0.1:8000/api/v1,,\n"
        "s3://bucket/a.mov,p,,,,,,2,,1,False,007,c,emulator,,\n"
        "HTTP://[::1]:80/a?b=c,p,,,,,,5.0,,,,,d,beijing,,\n"
        "gs://bucket/a.mp4,p,,,,,,,,,,,é/ü 2,,,\n",
    )
    assert report == CheckReport(
        rows=5, problems=(), warnings=(), problem_count=0, warning_count=0, local_files=True
    )
    assert report.ok


def test_every_problem_of_every_row_is_reported_at_once(tmp_path: Path) -> None:
    """One check lists everything that is wrong, in row order, each with its place and what to do."""
    report = check_text(
        tmp_path,
        "video,prompt,resolution,duration,seed,watermark,id,service,ratio,audio_setting,reference_image_1\n"
        f"{URL},x,1080p,5,1,yes,a,singapore,16:9,auto,\n"
        ",x,1081,11,5.5,maybe,a,bejing,16:09,orgin,nope.png\n"
        "clips/a.mp4,x\n"
        f"{URL},y,,,,,,,,,,,,\n"
        "htp://a/b.mp4,z,,,,,,,,,\n",
    )
    assert report.rows == 5
    assert [str(problem) for problem in report.problems] == [
        "row 2, video: is empty; give a URL or a path",
        f"row 2, reference_image_1: 'nope.png': there is no such file; paths count from {tmp_path}",
        "row 2, resolution: '1081': is not one of 720P, 1080P; did you mean 1080P?",
        "row 2, ratio: '16:09': is not one of 16:9, 9:16, 1:1, 4:3, 3:4; did you mean 16:9?",
        "row 2, audio_setting: 'orgin': is not one of auto, origin; did you mean origin?",
        "row 2, watermark: 'maybe': is neither true nor false; write true, false, yes, no, 1 or 0",
        (
            "row 2, duration: '11': must be 0 (keep the length) or 2 to 10 whole seconds; "
            "correct it, or leave the cell empty"
        ),
        "row 2, seed: '5.5': must be a whole number from 0 to 2147483647; correct it, or leave the cell empty",
        "row 2, service: 'bejing': is not singapore, beijing, emulator or a URL; did you mean beijing?",
        "row 2, id: 'a': is the id of row 1 too; give every row its own",
        "row 3, row: '2 cells': the header has 11; check its delimiters and quotes",
        "row 4, row: '14 cells': the header has 11; check its delimiters and quotes",
        (
            "row 5, video: 'htp://a/b.mp4': has a scheme wanbatch can't read; "
            "use http://, https://, s3://, oss://, gs:// or a plain path"
        ),
    ]


def test_unknown_columns_come_with_the_nearest_known(tmp_path: Path) -> None:
    """A misspelt column is an error: its cells would silently not count."""
    report = check_text(tmp_path, f"Video,promt,tag_,,budget,prompt,prompt\n{URL},a,b,c,d,e,f\n")
    assert [(problem.column, problem.value) for problem in report.problems] == [
        ("column 1", "Video"),
        ("column 2", "promt"),
        ("column 3", "tag_"),
        ("column 4", ""),
        ("column 5", "budget"),
        ("prompt", ""),
        ("video", ""),
    ]
    mends = [problem.mend for problem in report.problems]
    assert mends[0].startswith("did you mean video?")
    assert mends[1].startswith("did you mean prompt?")
    assert "tag_campaign" in mends[2]
    assert mends[4] == "tag_budget carries a value of your own"


@pytest.mark.parametrize(
    "video",
    [
        "ftp://host/a.mp4",
        "file:///a.mp4",
        "https://host/a b.mp4",
        "https://host/a\u00a0b.mp4",
        "https://host/a\tb.mp4",
        "https://",
        "https:///a.mp4",
        "https://user:pa/ss@host/a.mp4",
        "https://host:port/a.mp4",
        "http://[bad/a.mp4",
        "s3://bucket",
        "oss://bucket/",
        "OSS://bucket/a.mp4",
        "s3:///key",
        "data:video/mp4;base64,AAAA",
        "no/such/file.mp4",
        "www.example.com/a.mp4",
        ".",
        "a\x00b",
        "x" * 300,
        "",
    ],
)
def test_bad_media_are_errors(tmp_path: Path, video: str) -> None:
    """A video is a whole URL of a known kind, or a file that exists."""
    report = check_rows(tmp_path, {"video": video})
    assert set(places(report.problems)) == {(1, "video")}


def test_reference_images_may_be_data(tmp_path: Path) -> None:
    """An image may stand in the row itself, as Base64 of a known format; nothing of it is shown."""
    good = check_rows(tmp_path, {"reference_image_1": "data:image/png;base64,AAAA"})
    assert good.ok
    bad = check_rows(tmp_path, {"reference_image_1": "data:text/html;base64,PHNlY3JldD4="})
    assert places(bad.problems) == [(1, "reference_image_1")]
    assert "PHNl" not in str(bad.problems)


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        (
            "duration",
            [0, 2, 10, "5", 5.0, " 5 ", "05", ""],
            [1, 11, -2, 5.5, "five", "1e1", True, "\u0665", 10**30],
        ),
        ("seed", [0, 2147483647, "12", 5.0], [-1, 2147483648, 5.5, "0x1", "1_000", 10**30, "NaN"]),
        ("watermark", [True, False, "YES", "no", 1, 0, "True", None], ["on", 2, "ja", 0.5]),
        ("prompt_extend", [True, "false", "No"], ["off", "t"]),
        ("resolution", ["720p", "1080P", " 720P "], ["480P", 720, "HD"]),
        ("ratio", ["16:9", "3:4"], ["21:9", "16x9", 1.78]),
        ("audio_setting", ["auto", "ORIGIN"], ["mute", True]),
        ("id", ["a", "a/b", "ü" * 200, 7], ["a\nb", "\x7f", "x" * 201, "a\u2028b"]),
        (
            "service",
            ["beijing", "http://127.0.0.1:1/api/v1"],
            ["Singapore!", "ftp://x/", "https://a b/", "https://u@h/", "https://h/?a"],
        ),
        ("prompt", ["a\nb", "👩‍🚀", "x" * 5000], ["a\x00b"]),
    ],
)
def test_cells_hold_what_their_column_allows(
    tmp_path: Path, column: str, good: list[object], bad: list[object]
) -> None:
    """Every documented form of a value is taken, and every other one is an error of exactly its row."""
    rows = [{column: value, "tag_n": n} for n, value in enumerate([*good, *bad])]
    if column != "id":
        rows = [row | {"id": f"row {n}"} for n, row in enumerate(rows)]
    report = check_rows(tmp_path, *rows)
    assert places(report.problems) == [(len(good) + n, column) for n in range(1, len(bad) + 1)]


def test_what_the_service_would_do_silently_is_a_warning(tmp_path: Path) -> None:
    """Texts that will be cut, a fourth image and an edit without instructions run, but are pointed out."""
    images = {f"reference_image_{n}": f"{URL}{n}" for n in range(1, 5)}
    report = check_rows(
        tmp_path,
        {"prompt": "x" * 5001},
        {"negative_prompt": "é" * 501},
        images,
        {"prompt": "", "tag_a": "b"},
        {"prompt": "", "reference_image_2": URL},
    )
    assert report.ok
    assert places(report.warnings) == [
        (1, "prompt"),
        (2, "negative_prompt"),
        (3, "reference_image_4"),
        (4, "prompt"),
    ]
    assert {warning.severity for warning in report.warnings} == {Severity.WARNING}
    assert "April 2026" in report.warnings[2].rule


def test_a_list_of_images_holds_four_at_most(tmp_path: Path) -> None:
    """The list column counts as the four do, alone and together with them."""
    assert places(check_rows(tmp_path, {"reference_images": [URL] * 5}).problems) == [(1, "reference_images")]
    both = {"reference_images": [URL] * 3, "reference_image_1": URL, "reference_image_2": URL}
    assert places(check_rows(tmp_path, both).problems) == [(1, "reference_image_4")]
    wrong = check_rows(tmp_path, {"reference_images": [URL, "gone.png"]}, {"reference_images": URL})
    assert places(wrong.problems) == [(1, "reference_images[2]"), (2, "reference_images")]
    assert not check_text(tmp_path, f"video,reference_images\n{URL},{URL}\n").ok


def test_the_same_edit_twice_is_pointed_out(tmp_path: Path) -> None:
    """Rows that ask for the same are made once, however they are signed and written; ids tell them apart."""
    report = check_rows(
        tmp_path,
        {"video": f"{URL}?Expires=1&Signature=a", "resolution": "1080P"},
        {"video": f"{URL}?Expires=2&Signature=b", "seed": ""},
        {"video": f"{URL}?v=2"},
        {"id": "a"},
        {"id": "b"},
        {"seed": 5},
        {"seed": "5", "prompt_extend": "yes", "audio_setting": "AUTO", "duration": 0},
    )
    assert report.ok
    assert [(warning.row, warning.rule) for warning in report.warnings] == [
        (2, "the same edit as row 1: it is made once"),
        (7, "the same edit as row 6: it is made once"),
    ]


def test_a_repeated_id_is_an_error_that_names_the_first_row(tmp_path: Path) -> None:
    """An id names one row, even when the rows have other faults."""
    report = check_rows(tmp_path, {"id": "a"}, {"id": "b"}, {"id": "a", "video": ""}, {"id": "a"})
    assert [str(problem) for problem in report.problems if problem.column == "id"] == [
        "row 3, id: 'a': is the id of row 1 too; give every row its own",
        "row 4, id: 'a': is the id of row 1 too; give every row its own",
    ]


def test_no_problem_shows_a_secret(tmp_path: Path) -> None:
    """Reports are pasted into tickets: signatures and passwords are not in them, whatever the cell."""
    leaky = [
        "htps://user:SECRET@host/a.mp4?Signature=SECRET",
        "https://user:SECRET/x@host/a b.mp4",
        "https://host /a.mp4?Expires=1&Signature=SECRET",
        "host/a.mp4?Signature=SECRET",
        "see https://user:SECRET@host/a.mp4",
    ]
    rows = [
        {column: value}
        for value in leaky
        for column in ("video", "reference_image_1", "seed", "ratio", "watermark", "service")
    ]
    report = check_rows(tmp_path, *rows)
    assert report.problem_count >= len(rows)
    assert "SECRET" not in "".join(map(str, report.problems))


def test_long_values_are_shortened(tmp_path: Path) -> None:
    """A problem stays one line."""
    (problem,) = check_rows(tmp_path, {"ratio": "x" * 10_000}).problems
    assert len(problem.value) == 60


def test_rows_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    """One bad byte is one problem of one cell, in any format, and the other rows are still checked."""
    csv = check_text(tmp_path, b"video,prompt\nhttps://a/1,\xff\nhttps://a/2,\xc3\xa9\n,x\n,\xff,\n")
    assert places(csv.problems) == [(1, "prompt"), (3, "video"), (4, "row")]
    header = check_text(tmp_path, b"video,prom\xfft\nhttps://a/1,x\n")
    assert places(header.problems) == [(0, "column 2")]
    lines = check_text(tmp_path, b'{"video": "https://a/1", "prompt": "\xff"}\n{"video": ""}\n', "m.jsonl")
    assert places(lines.problems) == [(1, "row"), (2, "video")]
    half = check_text(tmp_path, b'{"video": "https://a/1", "prompt": "\\ud800"}', "m.jsonl")
    assert places(half.problems) == [(1, "prompt")]
    cells = pa.array([b"https://a/1", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"video": cells}), tmp_path / "m.parquet")
    parquet = check_manifest(tmp_path / "m.parquet")
    assert (2, "video") in places(parquet.problems)


def test_wrong_lines_of_json_are_named(tmp_path: Path) -> None:
    """Every line that is no object, says a name twice or holds a nested value is a problem of its row."""
    lines = [
        '{"video": "https://a/1", "prompt": "p"}',
        "",
        "{",
        "[]",
        '{"video": "https://a/1", "video": "https://a/2"}',
        '{"video": "https://a/1", "prompt": {"a": 1}}',
        '{"video": "https://a/1", "seed": NaN}',
        "[" * 100_000,
        '{"video": "https://a/1", "seed": ' + "9" * 5000 + "}",
        '{"prompt": "p"}',
    ]
    report = check_text(tmp_path, "\n".join(lines), "m.jsonl")
    expected = ["row", "row", "video", "prompt", "row", "row", "row", "video"]
    assert places(report.problems) == list(enumerate(expected, start=2))


def test_a_quote_that_is_never_closed_is_an_error(tmp_path: Path) -> None:
    """Rows swallowed by an open quote would be one long prompt and no edits."""
    rest = "".join(f"{URL},row {n}\n" for n in range(3)).replace(",", " ")
    report = check_text(tmp_path, f'video,prompt\n{URL},first\n{URL},"open\n{rest}')
    assert [problem.rule for problem in report.problems] == ["a quote is never closed"]
    assert check_text(tmp_path, f'video,prompt\n{URL},"closed\nwith a ""quote""\n"\n').ok


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b""),
        ("m.csv", b"\n\n"),
        ("m.csv", b"video"),
        ("m.csv", "video\nhttps://a/1\n".encode("utf-16")),
        ("m.xlsx", b"PK"),
        ("m.cvs", b"video\nhttps://a/1\n"),
        ("m", b"video\nhttps://a/1\n"),
        ("m.json", b"[]"),
        ("m.parquet", b"PAR1 and no more"),
        ("m.parquet.gz", gzip.compress(b"PAR1", mtime=0)),
        ("m.csv.gz", b"video\nhttps://a/1\n"),
        ("m.csv.gz", gzip.compress(b"video\nhttps://a/1\n" * 1000, mtime=0)[:-20]),
        ("m.jsonl.bz2", bz2.compress(b'{"video": "https://a/1"}')[:-9]),
        ("m.csv.zst", b"\x28\xb5\x2f\xfd"),
    ],
)
def test_a_file_that_is_no_manifest_is_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    """Empty, damaged, misnamed: one line that names the file, from the check and from the reader."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=name) as caught:
        check_manifest(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ManifestError, match=name):
        list(read_manifest(path))


def test_a_missing_manifest_is_one_error(tmp_path: Path) -> None:
    """A file that is not there, and a folder in its place."""
    with pytest.raises(ManifestError, match="No such file"):
        check_manifest(tmp_path / "m.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ManifestError, match=r"folder\.csv"):
        check_manifest(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("name", "content"), [("m.csv", "video,prompt\n"), ("m.tsv", "\ufeffvideo\r\n"), ("m.jsonl", "\n\n")]
)
def test_a_manifest_without_rows_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    """A header alone asks for nothing: that is hardly what was meant."""
    report = check_text(tmp_path, content, name)
    assert report.rows == 0
    assert [problem.rule for problem in report.problems] == ["there are no rows"]


def test_types_a_cell_cannot_have_are_errors_of_the_column(tmp_path: Path) -> None:
    """A Parquet column of structures can't be a prompt; the index that pandas leaves is named as such."""
    table = pa.table(
        {
            "video": ["https://a/1"],
            "prompt": [{"a": 1}],
            "reference_images": ["https://a/1"],
            "__index_level_0__": [0],
            "blob": [b"\xff"],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    report = check_manifest(tmp_path / "m.parquet")
    assert places(report.problems) == [
        (0, "column 4"),
        (0, "column 5"),
        (0, "prompt"),
        (0, "reference_images"),
    ]
    assert "index=False" in report.problems[0].mend


def test_a_file_of_bad_rows_keeps_the_first_and_counts_all(tmp_path: Path) -> None:
    """The lists are bounded, the counts are not, and rows keep their numbers over every block."""
    block = f"{URL},x\n,x\n{URL}\n"
    report = check_text(tmp_path, "video,prompt\n" + block * 70_000)
    assert report.rows == 210_000
    assert report.problem_count == 140_000
    assert len(report.problems) == KEPT
    assert report.problems[-1].row <= 210_000
    assert all(problem.row % 3 == (2 if problem.column == "video" else 0) for problem in report.problems)
    assert report.warning_count == 69_999


def test_a_row_longer_than_a_block_is_read(tmp_path: Path) -> None:
    """Images as data make rows of megabytes; the rows around them keep their numbers and are judged once."""
    image = "data:image/png;base64," + "A" * 3_000_000
    rows = [f"{URL},{n},,{n}\n" for n in range(40_000)]
    rows[30_000] = f'{URL},big,"{image}",b\n'
    rows[10] = f"{URL}\n"
    rows[39_000] = ",late,,c\n"
    report = check_text(tmp_path, "video,prompt,reference_image_1,id\n" + "".join(rows))
    assert report.rows == 40_000
    assert places(report.problems) == [(11, "row"), (39_001, "video")]
