"""Clean chunks of objects, in memory and on disk. `README.md` tells how it works."""

from storefs.cache.cache import Cache, CacheStats, RangeSource
from storefs.cache.chunks import ObjectVersion

__all__ = ["Cache", "CacheStats", "ObjectVersion", "RangeSource"]
