"""How topics of the graph are sent and heard."""

from robosteer_ros.ros import DurabilityPolicy, QoSProfile, ReliabilityPolicy

STATES = QoSProfile(depth=100)
"""States and commands: every one of them counts."""
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""The newest alone, also for who comes late."""
EVERY_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""For who hears what is latched and wants all of it."""
DIAGNOSTICS = QoSProfile(depth=10)
CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
