import os
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanbatch.errors import UsageError
from wanbatch.identity import is_url, item_key, media_identity, without_signature
from wanbatch.models import AudioSetting, EditRequest, Ratio, Resolution

OBJECT = "https://bucket.oss-ap-southeast-1.aliyuncs.com/clips/street.mp4"
SECRETS = st.text("abcdefghijklmnopqrstuvwxyz0123456789+/=", min_size=12, max_size=40).map(
    lambda s: f"SECRET{s}"
)
PATHS = st.lists(st.text("abcxyz019-_~.", min_size=1, max_size=8), min_size=1, max_size=3).map("/".join)
SCHEMES = {
    "OSS V1": ("Expires", "OSSAccessKeyId", "Signature", "security-token"),
    "OSS V4": (
        "x-oss-signature-version",
        "x-oss-credential",
        "x-oss-date",
        "x-oss-expires",
        "x-oss-signature",
    ),
    "S3 V4": ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature"),
    "S3 V2": ("AWSAccessKeyId", "Signature", "Expires"),
    "CloudFront": ("Policy", "Signature", "Key-Pair-Id"),
    "Google V4": ("X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Signature"),
    "Google V2": ("GoogleAccessId", "Expires", "Signature"),
    "Azure": ("sv", "st", "se", "sr", "sp", "spr", "sig"),
    "Azure with a stored policy": ("sv", "si", "sr", "sig"),
    "COS": ("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-signature"),
    "TOS": ("X-Tos-Algorithm", "X-Tos-Credential", "X-Tos-Date", "X-Tos-Expires", "X-Tos-Signature"),
    "CDN": ("auth_key",),
}
SIGNERS = st.sampled_from(sorted(SCHEMES))


@st.composite
def signed(draw: st.DrawFn, url: str) -> str:
    """Sign a URL in one of the ways of the clouds, with made-up values."""
    values = {name: draw(SECRETS) for name in SCHEMES[draw(SIGNERS)]}
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values)}"


@settings(deadline=None)
@given(signed(OBJECT))
def test_a_signed_url_is_the_object_it_opens(url: str) -> None:
    """However a URL is signed, and however often, it names the same medium."""
    assert media_identity(url) == OBJECT


@settings(deadline=None)
@given(
    st.data(), PATHS, st.sampled_from(["versionId=7", "x-oss-process=video%2Fsnapshot", "page=a+b", "flag="])
)
def test_no_signature_survives(data: st.DataObject, path: str, own: str) -> None:
    """What is kept of a signed URL is the object with its own parameters, and no secret."""
    url = f"https://host.example/{path}?{own}"
    assert without_signature(data.draw(signed(url))) == url


@settings(deadline=None)
@given(SECRETS, SECRETS, PATHS)
def test_credentials_never_survive(user: str, password: str, path: str) -> None:
    """A user and a password before the host are gone, even when the password is not quoted as it should be."""
    for unquoted in ("", "+/="):
        credentials = f"{quote(user, '')}:{quote(password, unquoted)}"
        assert "SECRET" not in without_signature(f"https://{credentials}@host.example/{path}?Expires=1")


@settings(deadline=None)
@given(SECRETS, st.sampled_from(["token", "key", "sign", "sig", "TOKEN", "password", "api_key"]))
def test_other_secrets_are_not_shown(secret: str, name: str) -> None:
    """Parameters that usually hold a secret are taken away or digested."""
    assert "SECRET" not in without_signature(f"{OBJECT}?{urlencode({name: secret})}")


@settings(deadline=None)
@given(st.data())
def test_a_signature_inside_a_parameter_does_not_survive(data: st.DataObject) -> None:
    """A proxy's link holds a signed URL as a parameter: it is the same object when that one is signed anew."""
    inner = [data.draw(signed(OBJECT)) for _ in range(2)]
    links = [f"https://proxy.example/fetch?{urlencode({'url': url})}" for url in inner]
    kept = {without_signature(link) for link in links}
    assert kept == {f"https://proxy.example/fetch?{urlencode({'url': OBJECT})}"}


def test_urls_nested_without_end_are_digested() -> None:
    """A URL in a URL in a URL … ends in a digest, not in a stack of calls."""
    url = "https://a.example/x?u=" * 5_000 + "https://a.example/?Signature=SECRET"
    assert "SECRET" not in without_signature(url)


@settings(deadline=None)
@given(PATHS, PATHS, st.data())
def test_different_objects_differ(one: str, other: str, data: st.DataObject) -> None:
    """Signing tells nothing about sameness: other paths and other parameters are other media."""
    left, right = (f"https://host.example/{path}" for path in (one, other))
    same = media_identity(data.draw(signed(left))) == media_identity(data.draw(signed(right)))
    assert same == (one == other)
    by_parameter = {
        media_identity(f"{OBJECT}?{name}={path}") for name in ("id", "token") for path in (one, other)
    }
    assert len(by_parameter) == 2 * len({one, other})


@pytest.mark.parametrize(
    "pair", [("?a=%ff", "?a=%fe"), ("?x-oss-process=a", "?x-oss-process=b"), ("", "?v=2")]
)
def test_close_neighbours_differ(pair: tuple[str, str]) -> None:
    """Bytes that are no text, another processing and another version are all other objects."""
    assert media_identity(OBJECT + pair[0]) != media_identity(OBJECT + pair[1])


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_safe_form(text: str) -> None:
    """Nothing a cell may hold makes the function raise, and no fragment of a URL is kept."""
    assert isinstance(without_signature(text), str)
    assert "SECRET" not in without_signature(f"https://host.example/{text.replace('#', '')}#SECRET")


def test_a_local_path_is_no_url() -> None:
    """Signs that mean something in a URL are only characters in a path."""
    for path in ("clips/a@2x.mp4", "clips/what?.mp4", "take #3.mp4", "C:\\clips\\a.mp4"):
        assert not is_url(path)
        assert without_signature(path) == path


@settings(deadline=None)
@given(st.binary(), st.binary())
def test_images_as_data_are_digested(one: bytes, other: bytes) -> None:
    """A data URL is known by its digest: the image itself is not kept, and other images differ."""
    urls = [f"data:image/png;base64,{content.hex()}" for content in (one, other)]
    kept = [without_signature(url) for url in urls]
    assert (kept[0] == kept[1]) == (one == other)
    assert all(len(each) < 120 for each in kept)


def test_a_local_file_counts_by_its_bytes(tmp_path: os.PathLike[str]) -> None:
    """Copies are the same medium; a changed file is another one."""
    one, other = (os.path.join(tmp_path, name) for name in ("a.mp4", "b.mp4"))  # noqa: PTH118 - as the manifest has them
    for path in (one, other):
        with open(path, "wb") as file:  # noqa: PTH123 - the same
            file.write(b"frames")
    before = media_identity(one)
    assert before == media_identity(other)
    with open(other, "ab") as file:  # noqa: PTH123 - the same
        file.write(b" and more")
    assert media_identity(other) != before
    with pytest.raises(UsageError, match=r"none\.mp4: No such file"):
        media_identity("none.mp4")


def test_keys_stay_what_they_are() -> None:
    """Journals and ledgers are full of keys: another way to make them pays for everything again."""
    request = EditRequest(video="https://h.example/a.mp4?v=2&Signature=x", prompt="käse", seed=7)
    assert item_key(request, None) == "40dca03a3d5831d74992859436996d2f"
    assert item_key(request, "row-1") == "18093c73b1b2b371a392ad438b50dd1c"


def test_a_key_has_everything_that_is_asked_for() -> None:
    """Every field of the request and the row's id change the key; a new signature does not."""
    plain = EditRequest(video=OBJECT)
    others = [
        EditRequest(video=f"{OBJECT}4"),
        EditRequest(video=OBJECT, prompt="a"),
        EditRequest(video=OBJECT, negative_prompt="a"),
        EditRequest(video=OBJECT, reference_images=(OBJECT,)),
        EditRequest(video=OBJECT, reference_images=(OBJECT, f"{OBJECT}2")),
        EditRequest(video=OBJECT, reference_images=(f"{OBJECT}2", OBJECT)),
        EditRequest(video=OBJECT, resolution=Resolution.P720),
        EditRequest(video=OBJECT, ratio=Ratio.SQUARE),
        EditRequest(video=OBJECT, duration=2),
        EditRequest(video=OBJECT, audio_setting=AudioSetting.ORIGIN),
        EditRequest(video=OBJECT, prompt_extend=False),
        EditRequest(video=OBJECT, watermark=True),
        EditRequest(video=OBJECT, seed=0),
        EditRequest(video=OBJECT, seed=1),
    ]
    keys = [item_key(request, None) for request in (plain, *others)] + [
        item_key(plain, "a"),
        item_key(plain, "b"),
    ]
    assert len(set(keys)) == len(keys)
    for again in (f"{OBJECT}?Expires=1&Signature=x", OBJECT.replace("https", "HTTPS")):
        assert item_key(EditRequest(video=again), None) == keys[0]
