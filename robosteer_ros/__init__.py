"""robosteer on the robot's side: hardware drivers, and the nodes around them."""
