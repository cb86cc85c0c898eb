"""Where videos go: fetched from the service's result host, checked, and visible only when whole."""

from wanbatch.storage.checks import video_seconds
from wanbatch.storage.places import Bucket, Folder, Place, place_of, prepare
from wanbatch.storage.store import Stored, VideoStore

__all__ = ["Bucket", "Folder", "Place", "Stored", "VideoStore", "place_of", "prepare", "video_seconds"]
