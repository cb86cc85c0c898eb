"""What a video or image really is, seen before it is paid for: by its bytes, not by its name."""

from wanbatch.probe.facts import Probed, problems
from wanbatch.probe.prober import Prober

__all__ = ["Probed", "Prober", "problems"]
