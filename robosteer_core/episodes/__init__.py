"""Demonstrations as LeRobot v3 datasets: crash-safe writer, reader, check and repair, keyframes, statistics."""
