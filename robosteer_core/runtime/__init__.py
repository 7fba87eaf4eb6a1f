"""Observation -> action chunk -> timed set-points -> limits. No ROS, no hardware."""
