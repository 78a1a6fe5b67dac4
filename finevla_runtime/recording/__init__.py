"""Episodes on disk: LeRobot v2.1 datasets, videos and film strips."""
