"""The arm: its driver, the process that holds it, and the client through which others command it."""
