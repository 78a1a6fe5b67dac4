"""The embedded SAPIEN tabletop suite: robot, world, scenes, experts and judges."""
