"""What an item's inputs really are, each looked at once and remembered in the journal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from wanbatch.errors import ProbeError
from wanbatch.identity import TEMPORARY_STORE, media_identity, without_signature
from wanbatch.probe import Probed, Prober, problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from decimal import Decimal

    from wanbatch.journal import Journal
    from wanbatch.models import Item


class Inputs:
    """Looks at inputs; close it after use. `durably` does one thing at a time to the journal.

    What was seen before `since` is looked at anew: behind its URL may be another video by now, which costs more.
    """

    def __init__(
        self, journal: Journal, durably: Callable[..., Any], *, since: datetime | None = None
    ) -> None:
        self._prober = Prober()
        self._since = since
        self._journal = journal
        self._durably = durably

    async def aclose(self) -> None:
        """Close connections and threads."""
        await self._prober.aclose()

    async def seconds(self, item: Item) -> Decimal | None:
        """Look at an item's inputs, once each, and say how long its video is; raises `ProbeError`.

        None for a video in the service's temporary store, which nobody else can read.
        """
        video, *references = item.request.media
        probed = await self._probed(video, "video", "video")
        for number, image in enumerate(references, 1):
            await self._probed(image, "image", f"reference_image_{number}")
        return probed.duration if probed else None

    async def _probed(self, medium: str, kind: Literal["video", "image"], column: str) -> Probed | None:
        if medium.startswith(TEMPORARY_STORE):
            return None
        identity = await asyncio.to_thread(media_identity, medium)
        if kept := await self._durably(self._journal.probe_of, identity, since=self._since):
            return Probed.from_json(kept)
        probed = await self._prober.probe(medium, kind)
        if found := problems(probed, column):
            words = "; ".join(f"{problem.value}: {problem.rule}" for problem in found)
            raise ProbeError(f"{column} {without_signature(medium)}: {words}")
        await self._durably(self._journal.keep_probe, identity, probed.to_json())
        return probed
