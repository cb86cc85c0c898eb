"""The demo's inputs are fit for the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from wanbatch.probe import Probed, Prober, problems
from wanbatch.samples import make_samples

if TYPE_CHECKING:
    from pathlib import Path

CLIPS = {"street": (1280, 720), "dancer": (720, 1280), "ball": (640, 360), "product": (960, 960)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of samples."""
    made: Path = tmp_path_factory.mktemp("samples")
    make_samples(made)
    return made


async def test_samples_are_what_the_service_accepts(folder: Path) -> None:
    """Every sample is within every limit, and the clips have sound."""
    prober = Prober()
    clips = {name: await prober.probe(str(folder / f"{name}.mp4"), "video") for name in CLIPS}
    jacket: Probed = await prober.probe(str(folder / "jacket.png"), "image")
    await prober.aclose()
    assert {name: (clip.width, clip.height) for name, clip in clips.items()} == CLIPS
    assert all(clip.has_audio and clip.codec == "h264" for clip in clips.values())
    assert [problem for probed in (*clips.values(), jacket) for problem in problems(probed, "media")] == []


@pytest.mark.parametrize("name", CLIPS)
def test_samples_move_and_sound(folder: Path, name: str) -> None:
    """The first and the middle picture differ, and the sound is no silence."""
    with av.open(str(folder / f"{name}.mp4")) as clip:
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in clip.decode(video=0)]
    with av.open(str(folder / f"{name}.mp4")) as clip:
        loudest = max(float(np.abs(frame.to_ndarray()).max()) for frame in clip.decode(audio=0))
    assert np.abs(frames[0] - frames[len(frames) // 2]).mean() > 0.5
    assert loudest > 0.05


def test_samples_are_made_once_and_the_same_again(folder: Path, tmp_path: Path) -> None:
    """What is there is left alone; a new folder gets the same bytes, under whole names only."""
    before = {path.name: path.stat().st_mtime_ns for path in make_samples(folder)}
    assert {path.name: path.stat().st_mtime_ns for path in make_samples(folder)} == before
    made = make_samples(tmp_path)
    assert [path.read_bytes() for path in made] == [(folder / path.name).read_bytes() for path in made]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made}
