"""What can stand on the lab's table: one file per kind of object, each adding itself to a MuJoCo model."""
