"""Sensory, working and long-term memory: tensors only, neither network nor device choice."""

from imos_core.memory.long_term import LongTermMemory
from imos_core.memory.sensory import SensoryMemory
from imos_core.memory.store import TokenStore
from imos_core.memory.three_tier import MemorySizes, ThreeTierMemory
from imos_core.memory.working import WorkingMemory

__all__ = [
    "LongTermMemory",
    "MemorySizes",
    "SensoryMemory",
    "ThreeTierMemory",
    "TokenStore",
    "WorkingMemory",
]
