"""A process of its own that holds slots: `python -m tests.slot_holder LIMIT HOW_MANY`; it lives until it is killed."""

from __future__ import annotations

import asyncio
import sys

from flows.slots import holding


async def main(name: str, slots: int) -> None:
    """Take the slots on the shortest lease there is, say so, and keep them."""
    async with holding(name, lease_s=60.0) as held:
        for _ in range(slots):
            await held.take()
        print("held", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
