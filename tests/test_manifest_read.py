import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wanbatch.errors import ManifestError
from wanbatch.identity import item_key
from wanbatch.manifest import check_manifest, read_manifest
from wanbatch.models import AudioSetting, EditRequest, Ratio, Resolution

URL = "https://host.example/a.mp4"
Row = dict[str, Any]


def write_csv(path: Path, rows: list[Row], *, end: str = "\n", delimiter: str = ",", mark: str = "") -> None:
    """Write rows as the csv module does."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "reference_images"))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator=end, delimiter=delimiter, extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    path.write_bytes((mark + text.getvalue()).encode())


def write_json_lines(path: Path, rows: list[Row]) -> None:
    """Write one object a line."""
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def write_parquet(path: Path, rows: list[Row]) -> None:
    """Write a column for every name that some row has."""
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)


WRITERS: Mapping[str, Callable[[Path, list[Row]], None]] = {
    "m.csv": write_csv,
    "crlf.csv": lambda path, rows: write_csv(path, rows, end="\r\n"),
    "marked.csv": lambda path, rows: write_csv(path, rows, mark="\ufeff"),
    "semicolons.csv": lambda path, rows: write_csv(path, rows, delimiter=";", mark="\ufeff"),
    "m.tsv": lambda path, rows: write_csv(path, rows, delimiter="\t"),
    "m.jsonl": write_json_lines,
    "m.parquet": write_parquet,
}

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=30)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"video": st.integers(0, 99).map(lambda n: f"https://host.example/{n}.mp4"), "prompt": TEXTS},
        optional={
            "negative_prompt": TEXTS,
            "reference_image_1": st.just("oss://bucket/1.png"),
            "reference_image_3": st.just("oss://bucket/3.png"),
            "resolution": st.sampled_from(["720P", "1080P"]),
            "ratio": st.sampled_from(list(map(str, Ratio))),
            "duration": st.sampled_from([0, *range(2, 11)]),
            "audio_setting": st.sampled_from(["auto", "origin"]),
            "prompt_extend": st.booleans(),
            "watermark": st.booleans(),
            "seed": st.integers(0, 2147483647),
            "service": st.sampled_from(["singapore", "beijing"]),
            "tag_ä b": TEXTS,
        },
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("name", WRITERS)
@settings(deadline=None)
@given(rows=ROWS, ids=st.lists(NAMES, min_size=12, max_size=12, unique=True))
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, rows: list[Row], ids: list[str]
) -> None:
    """Any text, in any format, comes back as it was: quotes, line breaks, emoji, other scripts."""
    rows = [row | {"id": item_id} for row, item_id in zip(rows, ids, strict=False)]
    path = tmp_path_factory.mktemp("manifest") / name
    WRITERS[name](path, rows)
    assert check_manifest(path).problems == ()
    items = list(read_manifest(path))
    assert [item.row for item in items] == list(range(1, len(rows) + 1))
    assert [item.request for item in items] == [wanted(row) for row in rows]
    assert [(item.id, item.service) for item in items] == [(row["id"], row.get("service")) for row in rows]
    assert [item.tags for item in items] == [
        {"ä b": row["tag_ä b"]} if "tag_ä b" in row else {} for row in rows
    ]
    assert [item.key for item in items] == [item_key(item.request, item.id) for item in items]


def wanted(row: Row) -> EditRequest:
    """Make the request that a row stands for, the plain way."""
    images = (row.get("reference_image_1"), row.get("reference_image_3"))
    return EditRequest(
        video=row["video"],
        prompt=row["prompt"],
        negative_prompt=row.get("negative_prompt"),
        reference_images=tuple(image for image in images if image),
        resolution=Resolution(row.get("resolution", "1080P")),
        ratio=Ratio(row["ratio"]) if "ratio" in row else None,
        duration=row.get("duration", 0),
        audio_setting=AudioSetting(row.get("audio_setting", "auto")),
        prompt_extend=row.get("prompt_extend", True),
        watermark=row.get("watermark", False),
        seed=row.get("seed"),
    )


def test_an_empty_cell_is_the_default(tmp_path: Path) -> None:
    """A row that says nothing gets the service's own defaults, with the resolution spelled out."""
    path = tmp_path / "m.csv"
    path.write_text(
        "video,prompt,resolution,ratio,duration,audio_setting,prompt_extend,watermark,seed,id,service,tag_a\n"
        f"{URL},,,,,,,,,,,\n"
    )
    (item,) = read_manifest(path)
    assert item.request == EditRequest(video=URL)
    assert item.request.resolution is Resolution.P1080
    assert (item.id, item.service, item.tags) == (None, None, {})


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".gz", "gzip"), (".bz2", "bz2"), (".zst", "zstd"), (".lz4", "lz4"), (".br", "brotli")],
)
@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.JSONL"])
def test_text_may_be_compressed(tmp_path: Path, name: str, suffix: str, codec: str) -> None:
    """A compressed manifest is read by its name."""
    plain = tmp_path / name
    WRITERS[name.lower()](plain, [{"video": f"{URL}{n}", "prompt": "p"} for n in range(5)])
    path = tmp_path / f"{name}{suffix}"
    with pa.output_stream(str(path), compression=codec) as stream:
        stream.write(plain.read_bytes())
    assert [item.request.video for item in read_manifest(path)] == [f"{URL}{n}" for n in range(5)]
    assert check_manifest(path).rows == 5


def test_compressed_files_may_be_joined(tmp_path: Path) -> None:
    """Compressed parts put behind each other are one file, as gzip and bzip2 have it."""
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        path = tmp_path / f"m.csv{suffix}"
        path.write_bytes(compress(f"video,prompt\n{URL},a\n".encode()) + compress(f"{URL},b\n".encode()))
        assert [item.request.prompt for item in read_manifest(path)] == ["a", "b"]


def test_parquet_columns_have_any_fitting_type(tmp_path: Path) -> None:
    """Numbers as floats with gaps, categories, large strings and dates are what they look like."""
    table = pa.table(
        {
            "video": pa.array([URL, URL], pa.large_string()),
            "prompt": pa.array(["a", "b"]).dictionary_encode(),
            "duration": pa.array([5.0, float("nan")]),
            "seed": pa.array([2147483647.0, None]),
            "watermark": pa.array([1, 0], pa.int8()),
            "reference_images": pa.array([[f"{URL}1", None, f"{URL}2"], None], pa.large_list(pa.string())),
            "tag_day": pa.array([20_000, None], pa.date32()),
            "tag_a.b": pa.array([1, 2]),
        }
    )
    path = tmp_path / "m.parquet"
    pq.write_table(table, path)
    first, second = read_manifest(path)
    assert first.request == EditRequest(
        video=URL,
        prompt="a",
        duration=5,
        seed=2147483647,
        watermark=True,
        reference_images=(f"{URL}1", f"{URL}2"),
    )
    assert second.request == EditRequest(video=URL, prompt="b")
    assert (first.tags, second.tags) == ({"day": "2024-10-04", "a.b": "1"}, {"a.b": "2"})


def test_local_media_count_from_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest and its clips can be moved together, and read from any folder."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"frames")
    (tmp_path / "b.png").write_bytes(b"pixels")
    write_csv(tmp_path / "m.csv", [{"video": "clips/a.mp4", "reference_image_1": str(tmp_path / "b.png")}])
    monkeypatch.chdir(tmp_path)
    (item,) = read_manifest(Path("m.csv"))
    assert item.request.media == (str(tmp_path / "clips" / "a.mp4"), str(tmp_path / "b.png"))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "clips").rename(moved / "clips")
    (tmp_path / "m.csv").rename(moved / "m.csv")
    (again,) = read_manifest(moved / "m.csv")
    assert again.key == item.key


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_a_part_of_the_rows_can_be_read(tmp_path: Path, name: str) -> None:
    """Parts have the numbers of the whole, over every batch, and put together they are the whole."""
    path = tmp_path / name
    WRITERS[name](path, [{"video": f"{URL}{n}", "prompt": "p" * 40} for n in range(1, 20_001)])
    part = list(read_manifest(path, first_row=4_000, last_row=17_000))
    assert [item.row for item in part] == list(range(4_000, 17_001))
    assert all(item.request.video == f"{URL}{item.row}" for item in part)
    assert [item.row for item in read_manifest(path, first_row=19_999)] == [19_999, 20_000]
    assert [item.row for item in read_manifest(path, last_row=1)] == [1]
    assert list(read_manifest(path, first_row=20_001)) == []


def test_a_bad_row_stops_the_reader(tmp_path: Path) -> None:
    """A manifest nobody checked gives an error with the row and the column, never a wrong item."""
    path = tmp_path / "m.csv"
    path.write_text(f"video,duration\n{URL},5\n{URL},99\n{URL},5,6\n{URL},5\n")
    with pytest.raises(ManifestError, match="row 2, duration: '99'") as caught:
        list(read_manifest(path))
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [
        (2, "duration"),
        (3, "row"),
    ]
    path.write_text(f"{URL}\n{URL}\n")
    with pytest.raises(ManifestError, match="is not a column"):
        list(read_manifest(path))


def test_rows_after_the_wanted_ones_are_not_read(tmp_path: Path) -> None:
    """The reader streams: it hands out the first items of a file whose end is damaged."""
    path = tmp_path / "m.csv.gz"
    rows = "".join(f"{URL},{n * n},{n}\n" for n in range(200_000))
    path.write_bytes(gzip.compress(f"video,prompt,id\n{rows}".encode(), compresslevel=1)[:-1000])
    assert [item.id for item in islice(read_manifest(path), 3)] == ["0", "1", "2"]
    assert [item.id for item in read_manifest(path, last_row=2)] == ["0", "1"]
    with pytest.raises(ManifestError):
        list(read_manifest(path))


@pytest.mark.parametrize(
    "name", ["m.csv", "m.tsv", "m.jsonl", "m.parquet", "m.csv.gz", "m.jsonl.zst", "m.csv.lz4", "m.jsonl.br"]
)
@settings(deadline=None)
@given(content=st.binary(max_size=200))
@example(content=b"video\n")
@example(content=b'video\n"')
@example(content=b"video\n\xff\n")
@example(content=b'{"video": 1}')
@example(content=b'{"video": [1], "reference_images": [[1], null, {}, 2]}')
@example(content=b"PAR1\x00\x00\x00\x00PAR1")
def test_any_bytes_are_problems_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    """Whatever a file holds, there is a report or a ManifestError, and the reader agrees with it."""
    path = tmp_path_factory.mktemp("manifest") / name
    path.write_bytes(content)
    agree(path)


@settings(deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_a_damaged_parquet_file_is_problems_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]
) -> None:
    """Bytes changed anywhere in a Parquet file, its names and its counts included, never stop the program."""
    path = tmp_path_factory.mktemp("manifest") / "m.parquet"
    write_parquet(
        path, [{"video": URL, "prompt": "é", "seed": n, "reference_images": [URL]} for n in range(3)]
    )
    content = bytearray(path.read_bytes())
    for place, byte in changes:
        content[int(place * len(content))] = byte
    path.write_bytes(content)
    agree(path)


CELLS = st.sampled_from(
    [
        "",
        "a",
        URL,
        f"{URL}?Signature=x",
        "5",
        "5.5",
        "true",
        "720p",
        "\n",
        '"',
        "é",
        "\0",
        "16:9",
        "a b://c",
        "x" * 300,
    ]
)
COLUMNS = st.sampled_from(
    [
        "video",
        "prompt",
        "seed",
        "duration",
        "resolution",
        "watermark",
        "id",
        "tag_a",
        "reference_image_1",
        "vidoe",
    ]
)


@settings(deadline=None)
@given(
    names=st.lists(COLUMNS, min_size=1, max_size=6),
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=8),
    quoted=st.booleans(),
)
def test_check_and_reader_agree_on_tables(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], rows: list[list[str]], *, quoted: bool
) -> None:
    """On tables of likely cells under likely columns, with rows too short and too long."""
    path = tmp_path_factory.mktemp("manifest") / "m.csv"
    text = io.StringIO()
    if quoted:
        csv.writer(text).writerows([names, *rows])
    else:
        text.write("\n".join(",".join(row) for row in [names, *rows]))
    path.write_text(text.getvalue(), newline="")
    agree(path)


def agree(path: Path) -> None:
    """Hold the reader to the report: as many items as rows when it is good, an error when it is not."""
    try:
        report = check_manifest(path)
    except ManifestError:
        with pytest.raises(ManifestError):
            list(read_manifest(path))
        return
    assert report.problem_count == len(report.problems)
    if report.ok:
        assert [item.row for item in read_manifest(path)] == list(range(1, report.rows + 1))
    elif any(problem.column != "id" for problem in report.problems):
        with pytest.raises(ManifestError):
            list(read_manifest(path))
