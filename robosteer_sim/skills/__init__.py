"""What the scripted operator can do: one function per verb, from the present view of the lab to the next move."""
