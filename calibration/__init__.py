"""Calibration of the cameras: boards, intrinsics, hand-eye, and whether the result can be trusted."""
