"""The Franka Control Interface, robot server version 10, as a robot speaks it on the network."""
