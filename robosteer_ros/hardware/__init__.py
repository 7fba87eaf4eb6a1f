"""Drivers with no ROS in them: the Franka arm and gripper, RealSense cameras, teleoperation devices."""
