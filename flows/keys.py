"""The account's key from a Prefect Secret block, kept in this process's memory alone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prefect.blocks.system import Secret

from wanbatch.errors import UsageError
from wanbatch.settings import given_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wanbatch.options import RunOptions


@asynccontextmanager
async def key_of(options: RunOptions) -> AsyncIterator[None]:
    """Let the run have the key of `options.key_block`, when that names one; raises `UsageError`."""
    if options.key_block is None:
        yield
        return
    try:
        block: Secret[str] = await Secret.aload(options.key_block)
    except ValueError:
        raise UsageError(
            f"there is no Secret block {options.key_block!r}; deployments/README.md says how to make one"
        ) from None
    token = given_key.set(block.get())
    try:
        yield
    finally:
        given_key.reset(token)
