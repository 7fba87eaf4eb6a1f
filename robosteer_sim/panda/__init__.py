"""The Panda (FER) with the Franka Hand: its parameters, its MJCF, and the model library that its robot server hands out."""
