"""Training of policies from LeRobot datasets; imports only the core and itself."""
