"""Teleoperation devices: what an operator's hand says, whatever it holds."""
