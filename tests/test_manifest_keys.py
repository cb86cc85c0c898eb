"""A manifest's keys are made a column at a time: they are the ones that its items have one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wanbatch.errors import ManifestError
from wanbatch.identity import SIGNATURE_PARAMETERS, item_key, without_signature
from wanbatch.manifest import Check, check_manifest, read_manifest, read_rows
from wanbatch.manifest.keys import key_texts
from wanbatch.models import AudioSetting, Ratio

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAMES = st.one_of(
    st.sampled_from(sorted(SIGNATURE_PARAMETERS)),
    st.sampled_from(
        [
            *("X-Amz-Signature", "x-goog-date", "x-amz-", "SIGNATURE", "sv", "se", "sig", "token", "v", ""),
            *("\u017fignature", "%53ignature", "Signature%3D", "auth+key", "x-oss-process", "key", "@", "?"),
        ]
    ),
)
VALUES = st.text("aZ09%=+/?@;:.-_~\u00e9", max_size=6)
PAIRS = st.builds("{}{}{}".format, NAMES, st.sampled_from(["=", "=", ""]), VALUES)
BASES = st.sampled_from(
    [
        *(
            "https://host.example",
            "http://host.example/",
            "https://host.example/a/b.mp4",
            "HTTPS://Host.example/a",
        ),
        *(
            "https://host.example:443/a&signature=b/c",
            "https://user:word@host.example/a",
            "https://host.example//a",
        ),
        *("https://h\u00f6st.example/\u00e9", "http://[::1]:80/a", "https://host.example/a.", "https://-/"),
        *("s3://bucket/a.mp4", "oss://bucket/a b", "gs://bucket/\u00e9"),
    ]
)
TAILS = st.sampled_from(["", "", "", "#x", "&", "?"])
URLS = st.builds(
    lambda base, pairs, tail: f"{base}{'?' if pairs else ''}{'&'.join(pairs)}{tail}",
    BASES,
    st.lists(PAIRS, max_size=4),
    TAILS,
)
IMAGES = st.one_of(
    st.sampled_from(["", "b.png", "data:image/png;base64,QUJD", "DATA:image/png;base64,QUJD"]), URLS
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"video": st.one_of(st.just("a.mp4"), URLS)},
        optional={
            "prompt": TEXTS,
            "negative_prompt": TEXTS,
            **{f"reference_image_{number}": IMAGES for number in (1, 2, 4)},
            "resolution": st.sampled_from(["", "720p", "1080P"]),
            "ratio": st.sampled_from(["", *map(str, Ratio)]),
            "duration": st.sampled_from(["", 0, "05", 10.0]),
            "audio_setting": st.sampled_from(["", "Auto", *map(str, AudioSetting)]),
            "prompt_extend": st.sampled_from(["", "yes", False]),
            "watermark": st.sampled_from(["", "1", False]),
            "seed": st.sampled_from(["", 0, "007", 2147483647]),
            "id": st.text("ab\u00e9 /", max_size=3),
            "tag_a": TEXTS,
        },
    ),
    min_size=1,
    max_size=6,
)
SIGNED = "https://host.example/a.mp4?Expires=1&Signature=a%2Fb"


@settings(deadline=None)
@given(rows=ROWS)
@example(rows=[{"video": "https://host.example/a.mp4?\u017fignature=a"}])
@example(rows=[{"video": SIGNED, "reference_image_1": f"{SIGNED}&v=2", "reference_image_4": SIGNED}])
def test_a_row_s_key_is_its_item_s(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    """Whatever the texts, media, signatures, gaps and defaults, and whatever stands in the rows around."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "a.mp4").write_bytes(b"frames")
    (folder / "b.png").write_bytes(b"pixels")
    manifest = folder / "m.jsonl"
    good = []
    for row in rows:
        manifest.write_text(json.dumps(row))
        good += [row] if check_manifest(manifest).ok else []
    manifest.write_text("\n".join(map(json.dumps, good)))
    items = list(read_manifest(manifest)) if good else []
    assert len(items) == len(good)
    assert [item.key for item in items] == [item_key(item.request, item.id) for item in items]


def test_most_signed_urls_need_no_second_look(tmp_path: Path) -> None:
    """What the clouds' tools sign is read by column, in any case of its letters; the rest is parsed one by one."""
    pairs = "X-Amz-Algorithm=AWS4&X-Amz-Credential=a%2Fb&x-amz-date=1&X-Amz-Signature=c"
    plain, own = "https://host.example/a.mp4", "https://host.example/a.mp4?v=2"
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(("video", plain, f"{plain}?{pairs}", SIGNED, own)))
    (checked,) = Check(manifest).read()
    parsed: list[str] = []

    def identify(url: str) -> str:
        parsed.append(url)
        return without_signature(url)

    texts = key_texts(checked, identify)
    assert parsed == [own]
    assert texts[0] == texts[1] == texts[2] != texts[3]


def test_no_cell_runs_into_the_next(tmp_path: Path) -> None:
    """Texts that put together are the same are other edits, in whatever columns they stand."""
    lines = [
        {"prompt": "ab"},
        {"prompt": "a", "negative_prompt": "b"},
        {"negative_prompt": "ab"},
        {"id": "ab"},
        {"prompt": "720P", "resolution": "1080P"},
        {"reference_image_1": "https://h.example/b"},
        {"reference_image_1": "https://h.example/b", "reference_image_2": "https://h.example/b"},
        {"prompt": "https://h.example/b"},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(json.dumps({"video": "https://h.example/a"} | line) for line in lines))
    assert len({key for rows in read_rows(manifest) for key in rows.keys}) == len(lines)


def test_a_local_file_that_is_gone_since_the_check_is_named_with_its_row(tmp_path: Path) -> None:
    """The rows are only handed out when their local files could be read."""
    manifest = tmp_path / "m.csv"
    manifest.write_text("video\nhttps://h.example/a.mp4\nb.mp4\n")
    (tmp_path / "b.mp4").write_bytes(b"frames")
    assert check_manifest(manifest).ok
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(ManifestError, match=r"m\.csv: row 2: .*b\.mp4: No such file"):
        list(read_manifest(manifest))
